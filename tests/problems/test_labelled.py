"""Planted errors: one step is wrong by itself, those after it follow from it."""

from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import DataError
from gpo_lightning.problems import GSM8K, MATH, ModularChains, PlantedErrors, ProcessBench
from gpo_lightning.problems.big_bench_mistake import BigBenchMistake
from gpo_lightning.problems.modular_chains import check_steps
from gpo_lightning.problems.prompting import encode_steps


@given(steps=st.integers(1, 12), seed=st.integers(0, 5))
def test_the_first_wrong_line_is_the_planted_one(steps: int, seed: int) -> None:
    for trajectory in PlantedErrors(steps, count=5, seed=seed).trajectories():
        assert trajectory.error == check_steps(trajectory.problem.prompt or "", "".join(trajectory.steps))
        assert len(trajectory.steps) == steps + 1


def test_later_lines_follow_from_the_mistake() -> None:
    for trajectory in PlantedErrors(count=20).trajectories():
        results = [line.strip().split("=")[1] for line in trajectory.steps[:-1]]
        for before, line in zip(results, trajectory.steps[1:-1], strict=False):
            assert line[1:].startswith(before)
        assert trajectory.steps[-1] == f"#{results[-1]}"


def test_the_outcome_is_the_graders() -> None:
    planted = PlantedErrors(count=50, seed=3)
    for trajectory in planted.trajectories():
        assert trajectory.outcome == planted.problems.grade(trajectory.problem, "".join(trajectory.steps)).reward


def test_the_same_options_give_the_same_errors_and_others_do_not() -> None:
    first, again, other = (PlantedErrors(count=30, seed=seed).trajectories() for seed in (0, 0, 1))
    assert first == again
    assert {trajectory.problem.id for trajectory in first} != {trajectory.problem.id for trajectory in other}
    assert len({trajectory.error for trajectory in first}) > 3


def test_steps_are_encoded_one_by_one(tokenizer) -> None:  # type: ignore[no-untyped-def]
    problem = ModularChains(steps=3, train_size=1).train()[0]
    lines = (problem.solution or "").splitlines(keepends=True)
    tokens, boundaries = encode_steps(["", *lines], tokenizer)
    assert boundaries[0] == 0
    assert boundaries[-1] == len(tokens)
    pieces = [tokens[a:b] for a, b in pairwise(boundaries)]
    assert [tokenizer.decode(list(piece)) for piece in pieces] == lines


class TestRealFiles:
    """ProcessBench and BIG-Bench-Mistake as they were published."""

    @pytest.mark.parametrize(("name", "source"), [("gsm8k", GSM8K), ("math", MATH)])
    def test_process_bench(self, name: str, source: Any, benchmark_data: Path) -> None:
        problems = source(path=str(benchmark_data / name))
        bench = ProcessBench(problems, path=str(benchmark_data / f"processbench/{name}.json"), only_wrong=False)
        found = bench.trajectories()
        assert len(found) >= {"gsm8k": 400, "math": 990}[name]
        assert len({trajectory.problem.id for trajectory in found}) == len(found)
        assert all(trajectory.error is None or trajectory.error < len(trajectory.steps) for trajectory in found)
        assert all(trajectory.outcome == 1.0 for trajectory in found if trajectory.error is None)
        some = ProcessBench(problems, path=bench.path, count=30, seed=1).trajectories()
        assert len(some) == 30
        assert all(trajectory.error is not None for trajectory in some)

    @pytest.mark.parametrize("task", ["multistep_arithmetic", "tracking_shuffled_objects"])
    def test_big_bench_mistake(self, task: str, benchmark_data: Path) -> None:
        (file,) = (benchmark_data / "big_bench_mistake").glob(f"*{task}*.jsonl")
        found = BigBenchMistake(str(file), only_wrong=False).trajectories()
        assert len(found) == 300
        # The label is by majority, so that now and then a chain without a mistake ends wrongly, or the reverse.
        faultless, faulty = (
            [trajectory.outcome for trajectory in found if (trajectory.error is None) is right]
            for right in (True, False)
        )
        assert mean(faultless) > 0.7
        assert mean(faulty) < 0.1
        assert 0.5 < sum(trajectory.error is not None for trajectory in found) / 300 < 1.0
        assert len(BigBenchMistake(str(file), count=20).trajectories()) == 20

    def test_a_file_that_is_something_else_is_refused_by_line(self, tmp_path: Path) -> None:
        file = tmp_path / "odd.jsonl"
        file.write_text('{"input": "1+1", "target": "2", "answer": "3", "steps": ["1+1=3"], "mistake_index": 4}\n')
        with pytest.raises(DataError, match="mistake_index"):
            BigBenchMistake(str(file)).trajectories()
