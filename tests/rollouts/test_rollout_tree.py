import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Purpose
from gpo_lightning.errors import DataError
from gpo_lightning.problems import Message, Problem
from gpo_lightning.rollouts import Rollouts, RolloutTree, Sample, TreeWriter, parquet, read_trees, write_trees
from gpo_lightning.rollouts.tree import ValueCurve
from gpo_lightning.runs.kept_rollouts import KeptRollouts
from tests import fitting
from tests.conftest import tree_of

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple)
Drawn = list[tuple[tuple[int, ...], int, float | None]]
samples = st.lists(
    tokens.flatmap(lambda t: st.tuples(st.just(t), st.integers(0, len(t) - 1), st.sampled_from([None, 0.0, 0.5, 1.0]))),
    max_size=12,
)


@given(samples, st.lists(st.integers(0, 3), max_size=4).map(tuple))
def test_through_finds_exactly_the_samples_that_begin_with_the_prefix(drawn: Drawn, prefix: tuple[int, ...]) -> None:
    tree = tree_of(drawn)
    expected = [i for i, sample in enumerate(tree.samples) if sample.tokens[: len(prefix)] == prefix]
    assert sorted(tree.through(prefix)) == expected


@given(samples, st.lists(st.integers(0, 3), max_size=4).map(tuple))
def test_node_counts_fair_draws_only(drawn: Drawn, prefix: tuple[int, ...]) -> None:
    """A sample that started beyond the prefix was forced through it, so it says nothing of the policy's chances."""
    tree = tree_of(drawn)
    fair = [r for t, start, r in drawn if t[: len(prefix)] == prefix and start <= len(prefix)]
    node = tree.node(prefix)
    assert sorted(node.successes) == sorted(r for r in fair if r is not None)
    assert node.drawn == len(fair)


def test_value_is_the_mean_reward_and_leaves_the_trajectory_itself_out() -> None:
    tree = tree_of([((1, 2), 0, 1.0), ((1, 3), 0, 0.0), ((1, 3, 2), 1, 0.0)])
    assert tree.node((1,)).value == pytest.approx(1 / 3)
    assert tree.node((1,), without=0).value == 0.0
    assert tree.node((9,)).value is None
    assert tree.node((1,)).posterior == (1.5, 2.5)


def test_group_is_what_started_exactly_there_in_the_order_drawn() -> None:
    tree = tree_of([((1, 9), 1, 1.0), ((1, 2), 0, 0.0), ((1, 1), 1, 0.0)])
    assert tree.group((1,)) == [0, 2]
    assert tree.group(()) == [1]


def test_curve_gives_advantages_and_the_prefix_before_the_critical_step() -> None:
    curve = ValueCurve(tokens=(4, 5, 6, 7), boundaries=(0, 1, 4), values=(0.5, 0.75, 0.0), critical=1)
    assert curve.advantages == (0.25, -0.75)
    assert curve.critical_prefix == (4,)


@given(samples)
def test_parquet_loses_nothing(tmp_path_factory: pytest.TempPathFactory, drawn: Drawn) -> None:
    path = tmp_path_factory.mktemp("trees") / "rollouts.parquet"
    problem = Problem("id", "t", "3", messages=(Message("user", "é\n"),), solution="s", metadata={"level": 1})
    tree = RolloutTree(problem, (7, 8))
    for t, start, reward in drawn:
        states = ((1, "(1, 'é')"), (2, "s")) if start else ()
        tree.add(Sample(t, start, (0.1 + 0.2,) * (len(t) - start), reward, "r", False, Purpose.RESET, 3, states=states))
    tree.curves.append(ValueCurve((1, 2), (0, 1, 2), (0.1, 1 / 3, 1.0), 1))
    write_trees(path, [tree])
    (back,) = read_trees(path)
    assert (back.problem, back.prompt, back.samples, back.curves) == (problem, (7, 8), tree.samples, tree.curves)
    assert list(back.through(())) == list(tree.through(()))


def test_parquet_keeps_the_texts(tmp_path: Path) -> None:
    tree = tree_of([])
    tree.add(Sample((1, 2), 0, (-0.5,) * 2, 1.0, "right", False, Purpose.SAMPLE, 0, "4", "naïve 🙂\n#4"))
    tree.curves.append(ValueCurve((1, 2), (0, 1, 2), (0.5, 0.5, 1.0), 0, (3, 4), ("naïve 🙂\n", "#4")))
    write_trees(tmp_path / "r.parquet", [tree])
    (back,) = read_trees(tmp_path / "r.parquet")
    assert (back.samples, back.curves) == (tree.samples, tree.curves)


def test_a_file_is_written_as_trees_come_and_read_in_their_order(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(parquet, "GROUP", 4)
    path = tmp_path / "r.parquet"
    trees = [tree_of([((i, 2), 0, 1.0), ((i, 3), 1, 0.0)]) for i in range(7)]
    with TreeWriter(path) as writer:
        for tree in trees:
            writer.add(tree)
        assert not path.exists(), "not before it is whole"
    assert pq.ParquetFile(path).num_row_groups == 4
    assert [tree.samples for tree in read_trees(path)] == [tree.samples for tree in trees]


def test_an_exception_leaves_the_file_of_before_and_no_part_of_a_new_one(tmp_path: Path) -> None:
    def interrupted() -> Iterator[RolloutTree]:
        yield tree_of([((3, 4), 0, 1.0)])
        raise KeyboardInterrupt

    path = tmp_path / "r.parquet"
    write_trees(path, [tree_of([((1, 2), 0, 1.0)])])
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_trees(path, interrupted())
    assert [file.name for file in tmp_path.iterdir()] == ["r.parquet"]
    assert path.read_bytes() == before


def _rewritten(
    path: Path, columns: Callable[[dict[str, Any]], dict[str, Any]], metadata: dict[str, str] | None
) -> None:
    """The file as another version would have written it."""
    rows = [columns(row) for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), path)


def test_files_of_the_first_format_are_read_without_texts(tmp_path: Path) -> None:
    def old(row: dict[str, Any]) -> dict[str, Any]:
        for sample in row["samples"]:
            del sample["text"]
        for curve in row["curves"]:
            del curve["steps"]
        return row

    tree = tree_of([((1, 2), 0, 1.0)])
    tree.curves.append(ValueCurve((1, 2), (0, 1, 2), (0.5, 0.5, 1.0), 0, (3, 4)))
    write_trees(tmp_path / "r.parquet", [tree])
    _rewritten(tmp_path / "r.parquet", old, None)
    (back,) = read_trees(tmp_path / "r.parquet")
    assert (back.samples, back.curves) == (tree.samples, tree.curves)


def test_files_of_a_later_format_say_so(tmp_path: Path) -> None:
    write_trees(tmp_path / "r.parquet", [tree_of([((1, 2), 0, 1.0)])])
    _rewritten(tmp_path / "r.parquet", lambda row: row | {"novelty": 1}, {"gpo_lightning.rollouts": "99"})
    with pytest.raises(DataError, match=r"format 99.*Upgrade"):
        read_trees(tmp_path / "r.parquet")


def test_a_file_that_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DataError, match=r"x\.parquet"):
        read_trees(tmp_path / "x.parquet")


def test_a_file_that_rotted_is_refused_or_reads_as_it_was(tmp_path: Path) -> None:
    """As what several iterations learn from it is kept for hours, and an iteration is not made twice."""
    path = tmp_path / "rollouts-000000-rank0.parquet"
    made = Rollouts(fitting.trees(), Counter(examples=3))
    KeptRollouts(tmp_path, 0).write(0, made)
    whole, draw = path.read_bytes(), random.Random(0)
    read: list[Rollouts | None] = []
    for bit in [draw.randrange(8 * len(whole)) for _ in range(60)]:
        rotten = bytearray(whole)
        rotten[bit // 8] ^= 1 << bit % 8
        path.write_bytes(rotten)
        read.append(KeptRollouts(tmp_path, 0).read(0))
    assert None in read
    sound = [[(tree.prompt, tree.samples) for tree in found.trees] for found in read if found is not None]
    assert all(each == [(tree.prompt, tree.samples) for tree in made.trees] for each in sound)
