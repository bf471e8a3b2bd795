"""Planted errors: one step is wrong by itself, those after it follow from it."""

import json
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
from gpo_lightning.problems.decontaminated import normalised
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


def test_process_bench_takes_the_answers_of_its_own_right_solutions(tmp_path: Path) -> None:
    def solved(id: int, problem: str, answer: str, right: bool, label: int) -> dict[str, Any]:
        steps = ["First.", f"So it is $\\boxed{{{answer}}}$."]
        return {
            "id": f"omnimath-{id}",
            "problem": problem,
            "steps": steps,
            "final_answer_correct": right,
            "label": label,
        }

    rows = [solved(0, "One?", "1", True, -1), solved(1, "one?", "3", False, 0), solved(2, "Two?", "4", False, 1)]
    rows += [solved(3, "Three?", "3", True, 1), solved(4, "Three?", "4", True, -1)]
    for name in ("olympiadbench", "omnimath"):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(rows))
        bench = ProcessBench(path=str(file), split=name, only_wrong=False)
        found = bench.trajectories()
        assert [(each.problem.id, each.problem.answer, each.error) for each in found] == [
            ("omnimath-0", "1", None),
            ("omnimath-1", "1", 0),
        ], "what nobody solved, or two solved differently, has no gold answer"
        assert bench.problems.grade(found[1].problem, "\\boxed{1}").reward == 1.0


def test_process_bench_knows_most_answers_of_math_by_itself(benchmark_data: Path) -> None:
    bench = ProcessBench(path=str(benchmark_data / "processbench" / "math.json"), split="math")
    golds = {normalised(each.metadata["question"]): each for each in MATH(str(benchmark_data / "math")).heldout()}
    known = [
        (golds[key], each)
        for each in bench.problems.heldout()
        if (key := normalised(each.metadata["question"])) in golds
    ]
    grades = bench.problems.grade_all([(gold, f"\\boxed{{{own.answer}}}") for gold, own in known])
    assert len(known) > 400
    assert sum(grade.reward == 1.0 for grade in grades) >= 0.98 * len(known)


@pytest.mark.parametrize(
    ("task", "asked", "said"),
    [
        ("dyck_languages", "( [ {", "closed properly"),
        ("word_sorting", "pear apple", "alphabetically"),
        ("word_sorting", "Sort the following words alphabetically: List: pear apple", ""),
        ("multistep_arithmetic", "1 + 2 =", ""),
    ],
)
def test_prompts_of_big_bench_mistake_state_the_task(tmp_path: Path, task: str, asked: str, said: str) -> None:
    file = tmp_path / f"{task}.jsonl"
    row = {"input": asked, "steps": ["a"], "target": "apple pear", "answer": "pear apple", "mistake_index": 0}
    file.write_text(json.dumps(row) + "\n")
    (trajectory,) = BigBenchMistake(str(file)).trajectories()
    asked_of = trajectory.problem.messages[-1].content
    assert (said in asked_of) if said else asked_of.startswith(asked)
