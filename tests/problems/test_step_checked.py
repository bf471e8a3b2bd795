"""Sums and legs are solved in one way: the first wrong line is told, and responses in the same state share a key."""

import pytest

from gpo_lightning.problems import ChainSum, LegCounting
from gpo_lightning.problems.chain_sum import worked_sum
from gpo_lightning.problems.step_checked import StepChecked

SOURCES: list[StepChecked] = [
    ChainSum(terms=5, digits=2, train_size=40),
    ChainSum(terms=5, operators=["+"], train_size=40, forgotten_carries=0.8),
    LegCounting(train_size=40),
]
every_source = pytest.mark.parametrize("source", SOURCES, ids=["sums", "careless sums", "legs"])


@every_source
def test_the_right_solution_is_right_in_every_step_and_graded_so(source: StepChecked) -> None:
    for problem in source.train():
        right = "\n".join(step.line for step in source.steps_of(problem))
        assert source.first_wrong(problem, right) is None
        assert source.grade(problem, right).reward == 1.0


@every_source
def test_a_step_that_is_changed_left_out_or_added_is_the_first_wrong_one(source: StepChecked) -> None:
    for problem in source.train():
        lines = [step.line for step in source.steps_of(problem)]
        for index, line in enumerate(lines):
            assert source.first_wrong(problem, "\n".join([*lines[:index], line + "0", *lines[index + 1 :]])) == index
            assert source.first_wrong(problem, "\n".join(lines[:index])) == index
        assert source.first_wrong(problem, "\n".join([*lines, "5 + 5 = 10"])) == len(lines)


def test_a_carry_that_the_teacher_forgot_is_where_the_solution_goes_wrong() -> None:
    source = ChainSum(terms=5, operators=["+"], train_size=60, forgotten_carries=0.8)
    wrong = 0
    for problem in source.train():
        taught = str(problem.solution).split("\n")
        right = worked_sum(str(problem.metadata["question"])).split("\n")
        slips = [index for index, (a, b) in enumerate(zip(taught, right, strict=True)) if a != b]
        assert source.first_wrong(problem, str(problem.solution)) == (slips[0] if slips else None)
        wrong += bool(slips)
    assert wrong > 20


def test_responses_share_a_state_by_what_they_carry_on_and_not_by_whether_it_is_right() -> None:
    sums, legs = ChainSum(train_size=1), LegCounting(train_size=1)
    problem = sums.train()[0]
    assert sums.state_key(problem, "4 + 7 = 11\n11 -") == sums.state_key(problem, "4 + 3 = 11\n11 -")
    assert sums.state_key(problem, "4 - 7 = -3\n") != sums.state_key(problem, "4 - 7 = 3\n")
    assert sums.state_key(problem, "4 + 7 = 11\n11 -") != sums.state_key(problem, "4 + 7 = 11\n11 - 3 = 8\n11 -")
    problem = legs.train()[0]
    assert legs.state_key(problem, "3 ducks: 6, so 6\n") == legs.state_key(problem, "3 ducks: 5, so 6\n")
    assert legs.state_key(problem, "3 ducks: 6, so 6\n") != legs.state_key(problem, "3 ducks: 6, so 7\n")
