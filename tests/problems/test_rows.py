"""Lists, data sets and paths in the place of a problem source."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpo_lightning.errors import DataError, GPOError
from gpo_lightning.policy import PolicyConfig
from gpo_lightning.problems import ModularChains, Rewarded, Rows
from gpo_lightning.problems.rewarded import judged
from gpo_lightning.problems.rows import problem_source
from gpo_lightning.problems.table import Columns
from gpo_lightning.rewards import Rewards

ROWS = [{"prompt": f"{n} + 1 = ?", "answer": n + 1, "day": date(2026, 1, 1)} for n in range(50)]


def test_a_list_a_data_set_and_a_file_give_the_same_problems(tmp_path: Path) -> None:
    import datasets

    rows = [{"prompt": row["prompt"], "answer": str(row["answer"])} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = [rows, datasets.Dataset.from_list(rows), tmp_path / "rows.jsonl", str(tmp_path / "rows.jsonl")]
    texts = [[(p.prompt, p.answer) for p in problem_source(each).train()] for each in made]
    assert texts[0] == texts[1] == texts[2] == texts[3]
    assert 30 < len(texts[0]) < 50


def test_training_and_heldout_rows_never_meet() -> None:
    source = Rows(ROWS)
    assert not {p.prompt for p in source.train()} & {p.prompt for p in source.heldout()}
    given = Rows(ROWS[:40], heldout=ROWS[40:])
    assert (len(given.train()), len(given.heldout())) == (40, 10)


def test_chat_messages_stay_as_they_are_and_questions_become_chat() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    chat = Rows([{"prompt": turns, "answer": "4"}], heldout=[{"question": "2 + 3?", "answer": "5"}])
    assert [(m.role, m.content) for m in chat.train()[0].messages] == [("system", "Be brief."), ("user", "2 + 2?")]
    assert "boxed" in chat.heldout()[0].messages[0].content


def test_every_column_reaches_a_reward_function_even_through_a_file() -> None:
    problem = Rows(ROWS).train()[0]
    assert problem.metadata["day"] == "2026-01-01"
    source = judged(Rows(ROWS), Rewards(lambda completion, day, answer: float(day in completion)))
    assert isinstance(source, Rewarded)
    assert source.grade(problem, "on 2026-01-01").reward == 1.0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (42, "type int"),
        (None, "type NoneType"),
        ([], "no rows"),
        ([3], r"problems\[0\] is 3"),
        ({"prompt": "x"}, "type dict"),
        (ModularChains, r"write ModularChains\(\.\.\.\)"),
        (PolicyConfig(), "type PolicyConfig"),
        ("nowhere.jsonl", "no such file"),
        ([{"text": "x", "answer": "1"}], "no column 'prompt'"),
        ([{"prompt": 3, "answer": "1"}], "prompt is 3"),
        ([{"prompt": [{"who": "user"}], "answer": "1"}], "not of chat turns"),
        ([{"prompt": "x"}], "nothing can judge responses"),
    ],
)
def test_what_is_no_problem_set_is_refused_with_advice(given: Any, named: str) -> None:
    with pytest.raises(GPOError, match=named):
        judged(problem_source(given), None).train()


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    values = [np.int64(3), np.float32(0.1), np.float64(2.5), torch.tensor(4)]
    rows = [{"prompt": "q", "answer": value, "also": np.arange(2), "n": value} for value in values]
    problems = Rows(rows, heldout=rows).train()
    assert [problem.answer for problem in problems] == ["3", "0.1", "2.5", "4"]
    assert [problem.metadata["n"] for problem in problems] == [3, 0.1, 2.5, 4]
    assert problems[0].metadata["also"] == [0, 1]


def test_two_rows_of_one_id_are_refused() -> None:
    rows = [{"id": "a", "prompt": "q", "answer": "1"}, {"id": "a", "prompt": "r", "answer": "2"}]
    with pytest.raises(DataError, match=r"problems\[1\]: id 'a' stands already in problems\[0\]"):
        Rows(rows, heldout=rows, columns=Columns(id="id")).train()


def test_empty_answers_are_no_answers() -> None:
    assert not Rows([{"prompt": "q", "answer": "1"}, {"prompt": "r", "answer": " "}]).has_answers
