"""Responses that somebody has already, as files have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpo_lightning.errors import DataError
from gpo_lightning.problems import TranscriptColumns, Transcripts

TURNS = [{"role": "user", "content": "3 + 4?"}, {"role": "assistant", "content": "3 + 4\n\nis \\boxed{7}"}]


def written(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "3 + 4?", "response": "3 + 4\n\nis \\boxed{7}", "answer": 7},
        {"prompt": "3 + 4?", "response": "3 + 4\n\nis \\boxed{7}", "answer": "7"},
        {"messages": TURNS, "answer": "7"},
        {"prompt": TURNS[:1], "response": TURNS[1]["content"], "answer": "7"},
        {"question": "3 + 4?", "response": "-", "steps": ["3 + 4\n\n", "is \\boxed{7}"], "answer": "7"},
    ],
    ids=lambda row: "+".join(row),
)
def test_a_response_is_read_whatever_its_row_looks_like(row: dict[str, Any], tmp_path: Path) -> None:
    (found,) = Transcripts(written(tmp_path, row)).trajectories()
    assert found.steps == ("3 + 4\n\n", "is \\boxed{7}")
    assert found.outcome == 1.0
    assert found.error is None
    assert "3 + 4?" in (found.problem.prompt or found.problem.messages[-1].content)


def test_several_responses_to_one_question_stay_apart(tmp_path: Path) -> None:
    rows = [{"question": "3 + 4?", "response": f"\\boxed{{{n}}}", "answer": "7"} for n in (6, 7)]
    wrong, right = Transcripts(written(tmp_path, *rows)).trajectories()
    assert (wrong.outcome, right.outcome) == (0.0, 1.0)
    assert wrong.problem is not right.problem


def test_columns_are_named_by_keys(tmp_path: Path) -> None:
    row = {"q": "3 + 4?", "api": {"text": "\\boxed{7}"}, "gold": "7"}
    columns = TranscriptColumns(question="q", response="api.text", answer="gold")
    (found,) = Transcripts(written(tmp_path, row), columns).trajectories()
    assert (found.steps, found.outcome) == (("\\boxed{7}",), 1.0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "3 + 4?", "response": "7"}, r"mine\.jsonl:1: no column 'answer'"),
        ({"question": "3 + 4?", "answer": "7"}, r"mine\.jsonl:1: no column 'response'"),
        ({"messages": TURNS[:1], "answer": "7"}, "must end with the assistant's turn"),
        ({"response": "7", "answer": "7"}, "no column 'prompt'"),
    ],
)
def test_what_is_missing_is_told_with_the_line(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        Transcripts(written(tmp_path, row)).trajectories()
