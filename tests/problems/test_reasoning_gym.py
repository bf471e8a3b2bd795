"""reasoning-gym's tasks: split by text, solved where the steps are known, and graded without partial credit."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import ChainSum, ReasoningGym
from gpo_lightning.problems.chain_sum import worked_sum
from gpo_lightning.problems.reasoning_gym import StrictScore

seeds = st.integers(0, 10**6)


@settings(max_examples=8)
@given(seeds, seeds, st.integers(1, 20), st.integers(1, 6))
def test_training_and_heldout_sums_are_disjoint_whatever_their_seeds_and_sizes(
    seed: int, heldout_seed: int, train_size: int, heldout_size: int
) -> None:
    one = ChainSum(3, train_size=train_size, heldout_size=heldout_size, seed=seed, heldout_seed=heldout_seed)
    other = ChainSum(3, train_size=3 * train_size, heldout_size=heldout_size, seed=heldout_seed, heldout_seed=seed)
    train = [problem.messages for problem in one.train()]
    heldout = [problem.messages for problem in one.heldout()]
    assert len(set(train)) == train_size
    assert len(set(heldout)) == heldout_size
    assert {*train, *(p.messages for p in other.train())}.isdisjoint({*heldout, *(p.messages for p in other.heldout())})


def test_sums_are_asked_bare_solved_rightly_and_graded_so() -> None:
    source = ChainSum(terms=5, digits=2, train_size=30)
    for problem in source.train():
        (turn,) = problem.messages
        assert str(eval(turn.content, {"__builtins__": {}})) == problem.answer
        assert str(problem.solution).endswith(f"\nAnswer: {problem.answer}")
        assert len(str(problem.solution).split("\n")) == 5
        assert source.grade(problem, str(problem.solution)).reward == 1.0
        assert source.grade(problem, f"Answer: {int(problem.answer) + 1}").reward == 0.0


def test_every_line_of_a_worked_sum_is_true() -> None:
    *lines, answer = worked_sum("4 + 7 - 13 + 2").split("\n")
    assert lines == ["4 + 7 = 11", "11 - 13 = -2", "-2 + 2 = 0"]
    assert answer == "Answer: 0"


@pytest.mark.parametrize("form", ["{}0", "1{}", "{} ", "the sum is {}", "{} or 5", "{0} {0}"])
@pytest.mark.parametrize("task", ["basic_arithmetic", "chain_sum", "letter_counting"])
def test_partial_credit_is_refused(task: str, form: str) -> None:
    """The library's scorers give 0.75 to 2920 where 292 is right."""
    source = ReasoningGym(task, train_size=3)
    for problem in source.train():
        given_answer = form.format(problem.answer)
        exact = given_answer.strip() == problem.answer
        assert source.grade(problem, f"Answer: {given_answer}").reward == float(exact)
        assert source.grade(problem, given_answer).reason == "unparsed"


def test_the_librarys_own_scorer_would_have_given_partial_credit() -> None:
    """Else the test above could not fail."""
    source = ReasoningGym("chain_sum", train_size=1)
    (problem,) = source.train()
    grader = source.grader
    assert isinstance(grader, StrictScore)
    entry = {"answer": problem.answer, "metadata": problem.metadata["entry"]}
    assert 0 < grader.dataset.score_answer(f"{problem.answer}0", entry) < 1


def test_a_scorer_that_fails_grades_nothing() -> None:
    class Broken:
        def score_answer(self, answer: str, entry: object) -> float:
            raise ZeroDivisionError

    assert StrictScore(Broken(), "Answer:").grade("Answer: 1", "1", {"entry": {}}).reward is None
    assert StrictScore(Broken(), "Answer:").grade("Answer: 1", "1", {}).reason == "scorer_failed"


@pytest.mark.parametrize("task", ["chain_sum", "word_sorting", "letter_counting"])
def test_ids_are_unique_and_what_is_stored_is_json(task: str) -> None:
    """Many tasks begin every question with the same long sentence."""
    problems = ReasoningGym(task, train_size=10).train()
    assert len({problem.id for problem in problems}) == 10
    assert all(problem.id.startswith(f"{task}/") and len(problem.id) < 120 for problem in problems)
    assert all(json.loads(json.dumps(problem.metadata)) for problem in problems)


def test_the_scorer_is_made_once() -> None:
    source = ReasoningGym("letter_counting", train_size=1)
    assert source.grader is source.grader


def test_the_user_turn_follows_template_pattern_and_system() -> None:
    source = ReasoningGym(
        "chain_sum", train_size=1, template="Sum: {question}!", pattern=r": (.*) =", system="Be brief.", marker="So"
    )
    (problem,) = source.train()
    system, user = problem.messages
    assert (system.role, system.content) == ("system", "Be brief.")
    assert user.role == "user"
    assert eval(user.content.removeprefix("Sum: ").removesuffix("!"), {"__builtins__": {}}) == int(problem.answer)
    assert source.grade(problem, f"So {problem.answer}").reward == 1.0


def test_problems_without_known_steps_have_no_solution() -> None:
    assert ReasoningGym("letter_counting", train_size=1).train()[0].solution is None


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*no_such_task"):
        ReasoningGym("no_such_task").train()


def test_options_the_task_does_not_know_or_allow_are_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*no_such_option"):
        ReasoningGym("chain_sum", {"no_such_option": 1}).train()
    with pytest.raises(ConfigError, match=r"data\.problems.*min_terms"):
        ReasoningGym("chain_sum", {"min_terms": 5, "max_terms": 2}).train()


def test_a_pattern_that_does_not_match_is_named_with_the_question() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems\.pattern 'x\{9\}' does not match the question"):
        ReasoningGym("chain_sum", train_size=1, pattern="x{9}").train()


def test_a_template_without_the_question_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems\.template"):
        ReasoningGym("chain_sum", template="Think.")


def test_more_problems_than_there_are_is_an_error_not_a_hang() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*only \d+ different"):
        ChainSum(terms=2, digits=1, heldout_size=60).heldout()


@pytest.mark.parametrize(
    "task", ["spiral_matrix", "string_insertion", "binary_matrix", "n_queens", "countdown", "puzzle24"]
)
def test_no_answer_is_run_as_python(task: str, tmp_path: Path) -> None:
    """These scorers call eval, or sympy's parser, on what the model wrote."""
    source, traces = ReasoningGym(task, train_size=1), tmp_path / "was here"
    (problem,) = source.train()
    for attack in (f"__import__('pathlib').Path({str(traces)!r}).touch()", "9**9**9**9", "[9**9**9]", "9* *9* *9"):
        assert source.grade(problem, f"Answer: {attack}").reward in (0.0, None)
    assert not traces.exists()
