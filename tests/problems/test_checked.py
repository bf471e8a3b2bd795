"""The built-in tasks whose every step can be checked: solvers, slips, step checks, states and prompts agree."""

import re
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import CarryAddition, Decontaminated, Ledger, Mixture, ModularChains, Parities, PathStar
from gpo_lightning.problems.checked import Checked
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

SOURCES: list[Checked] = [
    ModularChains(train_size=30, heldout_size=30),
    Ledger(train_size=30, heldout_size=30),
    Ledger(steps=10, entries=2, late=True, train_size=30, heldout_size=30),
    Parities(train_size=30, heldout_size=30),
    PathStar(train_size=30, heldout_size=30),
    CarryAddition(train_size=30, heldout_size=30),
]
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: f"{source.task}-{source.steps}")


@every_source
def test_the_reference_solution_is_right_and_training_and_heldout_problems_are_apart(source: Checked) -> None:
    for problem in source.train():
        assert source.grade(problem, str(problem.solution)).reward == 1.0
        assert source.first_wrong(problem, str(problem.solution)) is None
    assert {p.prompt for p in source.train()}.isdisjoint({p.prompt for p in source.heldout()})


@every_source
def test_the_embedded_tokenizer_keeps_every_character_within_160_tokens(source: Checked, tokenizer: Any) -> None:
    for problem in source.train():
        prompt, solution = encode_prompt(problem, tokenizer), encode_solution(problem, tokenizer, 0)
        assert solution is not None
        assert tokenizer.decode(prompt) == problem.prompt
        assert tokenizer.decode(solution[:-1]) == problem.solution
        assert len(prompt) + len(solution) <= 160


@every_source
@settings(max_examples=20)
@given(data=st.data())
def test_the_first_slip_of_a_careless_author_is_the_first_wrong_step(source: Checked, data: st.DataObject) -> None:
    problem = data.draw(st.sampled_from(list(source.train())))
    chances = source.chances(str(problem.prompt))
    slipping = data.draw(st.integers(0, max(0, chances - 1)))
    asked = iter(range(10**6))
    wrong = source.solve(str(problem.prompt), lambda: next(asked) == slipping, Random(0))
    written = "\n".join(step.line for step in wrong)
    differing = [i for i, (a, b) in enumerate(zip(wrong, source.steps_of(problem), strict=True)) if a.text != b.text]
    assert (differing[0] if differing else None) == source.first_wrong(problem, written)
    assert bool(differing) == (chances > 0)
    if source.task in ("parities", "path_star", "carry_addition") and differing:
        assert source.grade(problem, written).reward == 0.0


@every_source
def test_a_missing_and_a_superfluous_line_are_wrong_where_they_are(source: Checked) -> None:
    problem = source.train()[0]
    lines = str(problem.solution).split("\n")
    for index in range(len(lines)):
        assert source.first_wrong(problem, "\n".join(lines[:index])) == index
    assert source.first_wrong(problem, "\n".join([*lines, "a1"])) == len(lines)


def test_remarks_of_a_ledger_do_not_matter_but_the_balance_before_them_does() -> None:
    source = Ledger()
    problem = source.problem("37a*5bc-12d?\n")
    assert source.first_wrong(problem, "a37*5=88\nb88-1-2\nc88-12=76\nd76-3-4\n#76") is None
    assert source.first_wrong(problem, "a37*5=88\nb8-1-2\nc88-12=76\nd76-3-4\n#76") == 1
    assert source.first_wrong(problem, "a37*5=88\nb88\nc88-12=76\nd76-3-4\n#76") == 1
    assert source.first_wrong(problem, "a37*5=88\nb88-1-2\nc88+12=3\nd3-3-4\n#3") == 2


def test_a_late_ledger_has_its_entries_at_the_end() -> None:
    for problem in Ledger(steps=8, entries=2, late=True, train_size=20).train():
        assert [bool(step.remark) for step in Ledger().steps_of(problem)] == [True] * 6 + [False] * 3


def test_parities_are_those_of_ordinary_sums() -> None:
    assert Parities().problem("a37b5c12?\n").solution == "a1\nb0\nc0"


def test_carries_are_carried_and_sums_are_right() -> None:
    for problem in CarryAddition(steps=6, train_size=30).train():
        digits = [part.split("+") for part in re.findall(r"\d\+\d", str(problem.prompt))]
        one, other = (int("".join(pair[side] for pair in digits)) for side in (0, 1))
        totals = [line.rpartition("=")[2] for line in str(problem.solution).split("\n")]
        read = totals[-1] + "".join(total[-1] for total in reversed(totals[:-1]))
        assert int(read) == one + other


def test_a_star_has_one_way_to_the_end_of_the_arm_asked_for() -> None:
    for problem in PathStar(train_size=30).train():
        edges, asked = str(problem.prompt).strip("?\n").split("=")
        way = str(problem.solution).split("\n")
        assert set(way) <= set(edges.split("+"))
        assert (way[0].split("-")[0], way[-1].split("-")[1]) == tuple(asked.split("-"))
        assert all(a.split("-")[1] == b.split("-")[0] for a, b in pairwise(way))


def test_responses_share_a_state_by_what_they_carry_on_and_not_by_whether_it_is_right() -> None:
    for source, problem in (
        (Ledger(), Ledger().problem("37a*5bc-12d?\n")),
        (ModularChains(), ModularChains().problem("37a+5b*3?\n")),
    ):
        key = source.state_key(problem, "a37*5=88\nb")
        assert key == source.state_key(problem, "a38+50=88\nb")
        assert key != source.state_key(problem, "a37*5=89\nb")
        assert key != source.state_key(problem, "a37*5=88\nb88-1-2\nb")
    ledger = Ledger()
    note = [ledger.state_key(ledger.train()[0], f"a88-{remark}\n") for remark in ("1-2", "50-9")]
    assert note[0] == note[1]
    assert Parities().state_key(Parities().train()[0], "a1\n") is None, "a wrong line dooms what follows unseen"


def test_sources_of_sources_ask_the_source_for_the_state() -> None:
    mixture = Mixture({"chains": SOURCES[0], "parities": SOURCES[3]})
    chain, parity = mixture.train()[0], mixture.train()[-1]
    assert mixture.state_key(chain, "a37+5=42\n") == SOURCES[0].state_key(chain, "a1+41=42\n")
    assert mixture.state_key(parity, "a1\n") is None
    assert Decontaminated(SOURCES[0], []).state_key(chain, "a1+1=2\n") is not None


@pytest.mark.parametrize("source", [Ledger(), Parities(), PathStar(), CarryAddition()], ids=lambda its: its.task)
@pytest.mark.parametrize("prompt", ["", "37", "a+5?\n", "37a/5?\n"])
def test_what_is_no_problem_of_the_task_is_refused(source: Checked, prompt: str) -> None:
    with pytest.raises(ValueError, match="expected the form"):
        source.solve(prompt)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: Ledger(steps=27), "steps=27"),
        (lambda: Ledger(steps=4, entries=5), "entries=5"),
        (lambda: Parities(steps=0), "steps=0"),
        (lambda: PathStar(arms=1), "arms=1"),
        (lambda: PathStar(steps=40), "steps=40"),
        (lambda: CarryAddition(steps=30), "steps=30"),
    ],
)
def test_options_out_of_range_are_named(make: Any, option: str) -> None:
    with pytest.raises(ConfigError, match=f"data.problems: {option}"):
        make()


def test_resized_problems_are_those_of_a_source_of_that_length() -> None:
    assert Ledger().resized(6).train()[:5] == Ledger(steps=6).train()[:5]
