"""Rows of local files: what is wrong is named with file and line."""

import bz2
import csv
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems import Message
from gpo_lightning.problems.files import read_file, read_rows
from gpo_lightning.problems.row import Row

ROWS = [{"question": "1 + 1?", "answer": "2"}, {"question": 'a, "b"\nc?', "answer": "3"}]


def jsonl(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_all_kinds_of_file_give_the_same_rows(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.json").write_text(json.dumps({"canary": "...", "examples": ROWS}))
    (tmp_path / "c.csv").write_text('question,answer\n1 + 1?,2\n"a, ""b""\nc?",3\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    (tmp_path / "e.tsv").write_text('question\tanswer\n1 + 1?\t2\n"a, ""b""\nc?"\t3\n')
    jsonl(tmp_path / "f.json", ROWS)
    (tmp_path / "g.csv").write_text(
        'question; answer\n1 + 1?;2\n"a, ""b""\nc?";3\n'
    )  # a spreadsheet's, in half of Europe
    (tmp_path / "H.JSONL").write_bytes((tmp_path / "a.jsonl").read_text().encode("utf-16"))
    for name, opened in {"a.jsonl": gzip.open, "b.json": bz2.open, "c.csv": lzma.open}.items():
        suffix = {gzip.open: ".gz", bz2.open: ".bz2", lzma.open: ".xz"}[opened]
        with opened(tmp_path / (name + suffix), "wb") as packed:
            packed.write((tmp_path / name).read_bytes())
    with pa.CompressedOutputStream(str(tmp_path / "c.csv.zst"), "zstd") as packed:
        packed.write((tmp_path / "c.csv").read_bytes())
    names = [each.name for each in sorted(tmp_path.iterdir())]
    assert len(names) == 12
    for name in names:
        assert [dict(row.columns) for row in read_file(tmp_path / name)] == ROWS, name


def test_a_saved_data_set_is_read_as_it_was(tmp_path: Path) -> None:
    saved = Dataset.from_list(
        [{"question": "q", "answer": 0.1}], features=Features(question=Value("string"), answer=Value("float32"))
    )
    saved.save_to_disk(tmp_path / "one")
    DatasetDict({"train": saved}).save_to_disk(tmp_path / "splits")
    for folder in ("one", "splits"):
        (row,) = read_rows(str(tmp_path / folder), "train")
        assert dict(row.columns) == {"question": "q", "answer": 0.1}
    with pytest.raises(DataError, match="no test split; there are: train"):
        read_rows(str(tmp_path / "splits"), "test")


def test_a_narrow_float_is_the_number_that_was_written(tmp_path: Path) -> None:
    columns = {
        "answer": pa.array([0.1, None], pa.float32()),
        "half": pa.array([0.1, 2.0], pa.float32()).cast(pa.float16()),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    first, second = read_file(tmp_path / "x.parquet")
    assert first.text("answer") == "0.1"
    assert second.columns["answer"] is None
    assert second.text("half") == "2.0"


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
        ("x.csv", "a,b, a\n1,2,3\n", r"x\.csv:1: two columns are named 'a'"),
        ("x.parquet", "no parquet", r"x\.parquet: not Parquet"),
        ("x.txt", "a", r"x\.txt: unknown kind of file"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_file(tmp_path / name)


def test_bytes_that_are_no_text_are_named_with_their_line_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes('{"a": 1}\n{"a": "groß"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.jsonl:2: not UTF-8.*iconv"):
        read_file(tmp_path / "x.jsonl")


def test_a_broken_archive_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"a": 1}\n' * 99)
    (tmp_path / "x.jsonl.gz").write_bytes(packed[:-12])
    with pytest.raises(DataError, match=r"x\.jsonl\.gz: cannot be read"):
        read_file(tmp_path / "x.jsonl.gz")


def test_long_fields_are_read_and_the_usual_limit_stands_again(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    (tmp_path / "x.csv").write_text("a,b\n" + "x" * 150_000 + ",2\n")
    assert len(read_file(tmp_path / "x.csv")[0].text("a")) == 150_000
    assert csv.field_size_limit() == usual


@pytest.mark.parametrize("name", ["train.jsonl", "data/train.jsonl", "train/one.jsonl", "train.jsonl.gz"])
def test_a_folder_is_searched_for_the_split(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    jsonl(tmp_path / "rows", ROWS)
    (tmp_path / "rows").rename(tmp_path / name)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / name).read_bytes()))
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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a", "b"], "holds a list, which is neither text nor"),
        ({"text": "a"}, "holds columns of its own"),
        (True, "holds true or false"),
        (float("nan"), "holds nan"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "holds a list"),
    ],
)
def test_what_is_no_text_is_never_spelled_out(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"x:7: column 'q' {message}"):
        Row("x:7", {"q": value}).text("q")


def test_columns_inside_others_are_named_with_a_dot() -> None:
    row = Row("x:1", {"reward_model": {"ground_truth": 42, "style": None}, "a.b": "as it is"})
    assert row.text("reward_model.ground_truth") == "42"
    assert row.text("a.b") == "as it is"
    with pytest.raises(DataError, match=r"x:1: column 'reward_model\.style' is empty"):
        row.text("reward_model.style")
    with pytest.raises(DataError, match=r"x:1: no column 'extra\.answer'; there are: reward_model"):
        row.text("extra.answer")


class TestTurns:
    def row(self, *turns: Any) -> Row:
        return Row("x:1", {"prompt": list(turns)})

    def test_they_are_messages(self) -> None:
        parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]
        turns = self.row({"role": "system", "content": "Think."}, {"role": "user", "content": parts}).turns("prompt")
        assert turns == (Message("system", "Think."), Message("user", "What is 2 + 2?"))
        assert Row("x:1", {"prompt": "What?"}).turns("prompt") == ()

    @pytest.mark.parametrize(
        ("turns", "message"),
        [
            (["What?"], "holds a list, but not of chat turns"),
            ([{"role": "human", "content": "a"}], "has a turn of 'human'"),
            (
                [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "ends with the assistant's turn",
            ),
            ([{"role": "user", "content": [{"type": "image"}]}], "the content of turn 1 is a list"),
        ],
    )
    def test_what_is_wrong_with_them_is_named(self, turns: list[Any], message: str) -> None:
        with pytest.raises(DataError, match=rf"x:1: column 'prompt'.*{message}"):
            self.row(*turns).turns("prompt")

    def test_a_reply_in_one_turn_is_what_is_said_in_it(self) -> None:
        assert self.row({"role": "assistant", "content": "four"}).text("prompt") == "four"


@pytest.mark.parametrize("spelled", [json.dumps, repr])
def test_chat_turns_that_a_file_could_only_spell_are_turns(spelled: Any) -> None:
    turns = [{"role": "user", "content": "it's 1 + 1?"}]
    assert Row("x.csv:2", {"prompt": spelled(turns)}).turns("prompt") == (Message("user", "it's 1 + 1?"),)
    with pytest.raises(DataError, match=r"x\.csv:2: column 'prompt' holds the spelling of a list"):
        Row("x.csv:2", {"prompt": "[{'role': 'user', 'content': 'a'}\n {'role': 'user', 'content': 'b'}]"}).turns(
            "prompt"
        )


def test_text_that_only_looks_like_a_list_stays_text() -> None:
    for text in ("[{1, 2}, {3}]", '[{"a": 1}]', "[{x}]", "[{"):
        assert Row("x", {"question": text}).turns("question") == ()
        assert Row("x", {"question": text}).text("question") == text


def test_tool_calls_are_never_left_out_in_silence() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}]
    with pytest.raises(DataError, match="turn 2 has tool_calls, which are not read"):
        Row("x:1", {"prompt": [*turns, {"role": "tool", "content": "3"}]}).turns("prompt")
