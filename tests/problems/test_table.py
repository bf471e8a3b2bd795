"""Problems of a user's own file."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems import Chat, Columns, Message, Plain, Table
from gpo_lightning.rewards import Marked


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def sums(size: int) -> list[dict[str, Any]]:
    return [{"q": f"{n} + 1", "a": n + 1, "how": f"{n} and one", "key": f"k{n}", "of": "sums"} for n in range(size)]


COLUMNS = Columns("q", "a", solution="how", id="key", category="of")


def test_columns_are_named_in_yaml(tmp_path: Path) -> None:
    source = Table(write(tmp_path / "x.jsonl", sums(40)), columns=COLUMNS, kind="number", prompting=Chat(shots=1))
    problem = source.train()[0]
    assert (problem.id, problem.answer, problem.metadata["category"]) == ("k0", "1", "sums")
    assert problem.solution == "0 and one\n\\boxed{1}"
    assert source.grade(problem, str(problem.solution)).reward == 1.0


def test_one_problem_in_ten_is_held_out_where_there_is_no_file_for_it(tmp_path: Path) -> None:
    source = Table(write(tmp_path / "x.jsonl", sums(200)), columns=COLUMNS, kind="number")
    train, heldout = ({problem.id for problem in side} for side in (source.train(), source.heldout()))
    assert len(train | heldout) == 200
    assert not train & heldout
    assert 5 < len(heldout) < 40


def test_a_table_without_training_problems_is_a_benchmark(tmp_path: Path) -> None:
    source = Table(heldout=write(tmp_path / "x.jsonl", sums(3)), columns=COLUMNS, kind="number")
    assert len(source.heldout()) == 3
    with pytest.raises(ConfigError, match=r"data\.problems\.train is null"):
        source.train()


def test_options_have_letters(tmp_path: Path) -> None:
    rows = [{"question": "Capital of Italy?", "answer": "B", "options": ["Paris", "Rome"]}]
    source = Table(heldout=write(tmp_path / "x.jsonl", rows), columns=Columns(options="options"), kind="choice")
    (problem,) = source.heldout()
    assert "A. Paris\nB. Rome" in problem.messages[0].content
    assert source.grade(problem, "The answer is (B).").reward == 1.0
    assert source.grade(problem, "The answer is Paris.").reward == 0.0


def test_gold_answers_that_cannot_be_read_are_left_out_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"question": "1 + 1", "answer": "2"}, {"question": "And?", "answer": "a great many"}]
    source = Table(heldout=write(tmp_path / "x.jsonl", rows), kind="number")
    with caplog.at_level(logging.WARNING):
        assert len(source.heldout()) == 1
    assert "x.jsonl:2: left out: the grader cannot read the gold answer 'a great many'" in caplog.text
    assert source.counts["unreadable_gold"] == 1


def verl(size: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": f"{n} + 1? Answer after ####."}],
            "reward_model": {"style": "rule", "ground_truth": str(n + 1)},
            "completion": [{"role": "assistant", "content": f"#### {n + 1}"}],
        }
        for n in range(size)
    ]


class TestPromptsInChatTurns:
    """As verl's and TRL's files have them."""

    columns = Columns("prompt", "reward_model.ground_truth", solution="completion")

    def test_they_are_asked_as_they_are(self, tmp_path: Path) -> None:
        file = tmp_path / "x.parquet"
        pq.write_table(pa.Table.from_pylist(verl(3)), file)
        source = Table(heldout=str(file), columns=self.columns, kind="number", prompting=Chat(answer=Marked("####")))
        problem = source.heldout()[1]
        assert problem.messages == (Message("user", "1 + 1? Answer after ####."),)
        assert (problem.answer, problem.solution, problem.place) == ("2", "#### 2", f"{file}:2")
        assert source.grade(problem, "One more.\n#### 2").reward == 1.0

    def test_a_configured_system_turn_opens_them(self, tmp_path: Path) -> None:
        prompting = Chat(answer=Marked("####"), system="Be brief.")
        path = write(tmp_path / "x.jsonl", verl(1))
        source = Table(heldout=path, columns=self.columns, kind="number", prompting=prompting)
        assert [turn.role for turn in source.heldout()[0].messages] == ["system", "user"]

    def test_plain_text_cannot_be_made_of_them(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.jsonl", verl(1))
        with pytest.raises(ConfigError, match=r"prompting is Plain, but .*x\.jsonl:1 has a prompt in chat turns"):
            Table(heldout=path, columns=self.columns, kind="number", prompting=Plain()).heldout()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*sums(2), sums(1)[0]], r"x\.jsonl:3: id 'k0' stands already in .*x\.jsonl:1"),
        ([{"question": "1", "a": "2", "key": "k"}], r"x\.jsonl:1: no column 'q'; there are: question, a, key"),
        ([{"q": "1", "a": None, "key": "k", "of": "s"}], r"x\.jsonl:1: column 'a' is empty"),
        ([{"q": "1", "a": "many", "key": "k", "of": "s"}], r"x\.jsonl:1: the grader for kind=number can read no gold"),
        ([], r"x\.jsonl: no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Table(heldout=write(tmp_path / "x.jsonl", rows), columns=COLUMNS, kind="number").heldout()


def test_options_that_cannot_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="set train, heldout or both"):
        Table()
    with pytest.raises(ConfigError, match="options is given for kind=choice"):
        Table("x.jsonl", kind="choice")
