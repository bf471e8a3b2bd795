"""Rows of local files: what is wrong is named with file and line."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.files import read_file, read_rows

ROWS = [{"question": "1 + 1?", "answer": "2"}, {"question": 'a, "b"\nc?', "answer": "3"}]


def jsonl(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_all_kinds_of_file_give_the_same_rows(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.json").write_text(json.dumps({"canary": "...", "examples": ROWS}))
    (tmp_path / "c.csv").write_text('question,answer\n1 + 1?,2\n"a, ""b""\nc?",3\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.json", "c.csv", "d.parquet"):
        assert [dict(row.columns) for row in read_file(tmp_path / name)] == ROWS, name


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1, max_size=5))
def test_any_text_survives_a_jsonl_file(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.mktemp("rows") / "x.jsonl"
    file.write_text("".join(json.dumps({"t": t}, ensure_ascii=False) + "\n" for t in texts), encoding="utf-8")
    assert [row.columns["t"] for row in read_file(file)] == texts


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"a": 1}\n\n{"a": \n', r"x\.jsonl:3: not JSON"),
        ("x.jsonl", '{"a": 1}\n[1]\n', r"x\.jsonl:2: not a row of columns but list"),
        ("x.jsonl", "", r"x\.jsonl: no rows"),
        ("x.json", '[{"a": 1},\n oops]', r"x\.json:2: not JSON"),
        ("x.json", '{"a": 1}', r"x\.json: neither a JSON array"),
        ("x.csv", "a,b\n1,2\n3\n", r"x\.csv:3: not as many columns"),
        ("x.csv", "a,b\n1,2\n3,4,5\n", r"x\.csv:3: not as many columns"),
        ("x.csv", "a,b\n", r"x\.csv: no rows"),
        ("x.parquet", "no parquet", r"x\.parquet: not Parquet"),
        ("x.txt", "a", r"x\.txt: unknown kind of file"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_file(tmp_path / name)


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path / "x.jsonl")


@pytest.mark.parametrize("name", ["train.jsonl", "data/train.jsonl", "train/one.jsonl"])
def test_a_folder_is_searched_for_the_split(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    jsonl(tmp_path / name, ROWS)
    assert len(read_rows(str(tmp_path), "train")) == 2
    with pytest.raises(DataError, match="no test split"):
        read_rows(str(tmp_path), "test")


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    for shard in (1, 0):
        jsonl(tmp_path / f"train-0000{shard}-of-2.jsonl", [{"n": str(shard)}])
    assert [row.text("n") for row in read_rows(str(tmp_path), "train")] == ["0", "1"]


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere", "nowhere.jsonl"])
def test_a_local_path_that_does_not_exist_never_asks_the_hub(path: str) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_rows(path, "train")


def test_a_hub_that_does_not_answer_is_an_error_that_asks_for_a_local_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(path: str, name: str, split: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(ConfigError, match=r"openai/gsm8k.*no network.*local copy"):
        read_rows("openai/gsm8k", "train", "main")


def test_a_missing_or_empty_column_is_named_with_its_place(tmp_path: Path) -> None:
    rows = read_file(jsonl(tmp_path / "x.jsonl", [{"q": "1", "a": " "}]))
    with pytest.raises(DataError, match=r"x\.jsonl:1: no column 'question'; there are: q, a"):
        rows[0].text("question")
    with pytest.raises(DataError, match=r"x\.jsonl:1: column 'a' is empty"):
        rows[0].text("a")
