"""The built-in task: every step can be checked, and held-out problems are held out by construction."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import ModularChains
from gpo_lightning.problems.modular_chains import Operation, chain_prompt, check_steps, parse_prompt, solution_lines
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

seeds = st.integers(0, 10**6)


@settings(max_examples=15)
@given(seeds, seeds, st.integers(1, 60), st.integers(1, 20), st.sampled_from([2, 4, 8]))
def test_training_and_heldout_problems_are_disjoint_whatever_their_seeds_and_sizes(
    seed: int, heldout_seed: int, train_size: int, heldout_size: int, steps: int
) -> None:
    one = ModularChains(steps, train_size, heldout_size, seed, heldout_seed)
    other = ModularChains(steps, 3 * train_size, heldout_size, heldout_seed, seed)
    train = {problem.prompt for problem in [*one.train(), *other.train()]}
    heldout = {problem.prompt for problem in [*one.heldout(), *other.heldout()]}
    assert train.isdisjoint(heldout)


@settings(max_examples=10)
@given(seeds, st.integers(0, 80))
def test_there_are_as_many_problems_as_asked_and_all_are_different(seed: int, size: int) -> None:
    problems = ModularChains(2, size, size, seed, seed)
    for drawn in (problems.train(), problems.heldout()):
        assert (
            len({problem.prompt for problem in drawn}) == len({problem.id for problem in drawn}) == len(drawn) == size
        )


def test_the_same_options_give_the_same_problems_and_a_larger_set_begins_with_the_smaller() -> None:
    assert ModularChains(train_size=20).train() == ModularChains(train_size=20).train()
    assert ModularChains(train_size=40).train()[:20] == ModularChains(train_size=20).train()
    assert ModularChains(train_size=20, seed=1).train() != ModularChains(train_size=20).train()
    assert ModularChains(heldout_size=20, seed=1).heldout() == ModularChains(heldout_size=20).heldout()


@pytest.mark.parametrize("steps", [1, 3, 8, 26])
def test_solutions_are_right_in_ordinary_arithmetic_and_graded_so(steps: int) -> None:
    source = ModularChains(steps=steps, train_size=50)
    for problem in source.train():
        start, operations = parse_prompt(str(problem.prompt))
        value = start
        for operation in operations:
            value = {"+": value + operation.operand, "-": value - operation.operand, "*": value * operation.operand}[
                operation.symbol
            ]
        assert problem.answer == str(value % 97), "reducing at the end is reducing at every step"
        assert source.grade(problem, str(problem.solution)).reward == 1.0
        assert len(operations) == steps


def test_another_answer_is_graded_wrong() -> None:
    source = ModularChains(train_size=20)
    for problem in source.train():
        wrong = str(problem.solution).replace(f"#{problem.answer}", f"#{(int(problem.answer) + 1) % 97}")
        assert source.grade(problem, wrong).reward == 0.0


def test_a_planted_error_is_found_at_every_step() -> None:
    for problem in ModularChains(steps=6, train_size=20).train():
        prompt, solution = str(problem.prompt), str(problem.solution)
        lines = solution.split("\n")
        assert check_steps(prompt, solution) is None
        for index, line in enumerate(lines):
            head, _, value = line.rpartition("=" if "=" in line else "#")
            wrong = f"{head}{line[len(head)]}{(int(value) + 1) % 97}"
            assert check_steps(prompt, "\n".join([*lines[:index], wrong, *lines[index + 1 :]])) == index
            assert check_steps(prompt, "\n".join(lines[:index])) == index, (
                "a missing line is an error where it is missing"
            )
        assert check_steps(prompt, solution + "\nmore") == len(lines)


def test_answers_are_spread_so_that_no_guess_is_right_in_two_per_cent() -> None:
    answers = Counter(problem.answer for problem in ModularChains(train_size=4096).train())
    assert max(answers.values()) / 4096 < 0.02
    assert len(answers) == 97


@given(
    st.integers(0, 96),
    st.lists(st.builds(Operation, st.sampled_from("+-*"), st.integers(1, 96)), min_size=1, max_size=26),
)
def test_prompts_are_read_back_as_they_were_written(start: int, operations: list[Operation]) -> None:
    prompt = chain_prompt(start, operations)
    assert parse_prompt(prompt) == (start, operations)
    assert len(solution_lines(prompt)) == len(operations) + 1


@pytest.mark.parametrize("prompt", ["", "37a+5", "37+5?\n", "37a/5?\n", "37a+5?\nx"])
def test_what_is_no_chain_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="not a modular chain"):
        parse_prompt(prompt)


def test_the_embedded_tokenizer_keeps_every_character(tokenizer: Any) -> None:
    for problem in ModularChains(steps=26, train_size=30).train():
        assert tokenizer.decode(encode_prompt(problem, tokenizer)) == problem.prompt
        solution = encode_solution(problem, tokenizer, (tokenizer.eos_token_id,))
        assert solution is not None
        assert tokenizer.decode(solution[:-1]) == problem.solution


@pytest.mark.parametrize("steps", [0, 27])
def test_a_chain_without_letters_for_its_steps_is_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match=f"steps={steps}"):
        ModularChains(steps=steps)


def test_more_problems_than_there_are_is_an_error_not_a_hang() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*steps=1"):
        ModularChains(steps=1, largest_addend=1, largest_factor=2, heldout_size=400).heldout()
