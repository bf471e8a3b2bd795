"""Planted errors: one step is wrong by itself, those after it follow from it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.problems import ModularChains, PlantedErrors, encode_steps
from gpo_lightning.problems.modular_chains import check_steps


@given(steps=st.integers(1, 12), seed=st.integers(0, 5))
def test_the_first_wrong_line_is_the_planted_one(steps: int, seed: int) -> None:
    for its in PlantedErrors(steps, count=5, seed=seed).trajectories():
        assert its.error == check_steps(its.problem.prompt or "", "".join(its.steps))
        assert len(its.steps) == steps + 1


def test_later_lines_follow_from_the_mistake() -> None:
    for its in PlantedErrors(count=20).trajectories():
        results = [line.strip().split("=")[1] for line in its.steps[:-1]]
        for before, line in zip(results, its.steps[1:-1], strict=False):
            assert line[1:].startswith(before)
        assert its.steps[-1] == f"#{results[-1]}"


def test_the_outcome_is_the_graders() -> None:
    planted = PlantedErrors(count=50, seed=3)
    for its in planted.trajectories():
        assert its.outcome == planted.problems.grade(its.problem, "".join(its.steps)).reward


def test_the_same_options_give_the_same_errors_and_others_do_not() -> None:
    first, again, other = (PlantedErrors(count=30, seed=seed).trajectories() for seed in (0, 0, 1))
    assert first == again
    assert {its.problem.id for its in first} != {its.problem.id for its in other}
    assert len({its.error for its in first}) > 3


def test_steps_are_encoded_one_by_one(tokenizer) -> None:  # type: ignore[no-untyped-def]
    problem = ModularChains(steps=3, train_size=1).train()[0]
    lines = (problem.solution or "").splitlines(keepends=True)
    tokens, boundaries = encode_steps(["", *lines], tokenizer)
    assert boundaries[0] == 0
    assert boundaries[-1] == len(tokens)
    pieces = [tokens[a:b] for a, b in pairwise(boundaries)]
    assert [tokenizer.decode(list(piece)) for piece in pieces] == lines
