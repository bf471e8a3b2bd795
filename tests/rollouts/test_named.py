"""Starts before the step that the policy names as its first mistake, and what happens where it names none."""

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.critical import MaxAdvantage, Newline, NoSearch, Segmenter
from gpo_lightning.engines import Purpose, Sampling, Scripted, Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.policy import Policy
from gpo_lightning.problems import Message, ModularChains, Parities, Problem
from gpo_lightning.rollouts import NamedMistake, RolloutLoop, RolloutPlan, Rollouts
from gpo_lightning.rollouts.named import asking, step_named
from gpo_lightning.rollouts.starts import PromptOnly, StartStates
from tests.rollouts.test_loop import EOS, Chained

SOURCE = Parities(steps=4, train_size=12)
ASKED = "first wrong step?"


def loop(
    answer: str,
    starts: StartStates | None = None,
    wrong: float = 0.5,
    segmenter: Segmenter = Newline(min_tokens=1),
    context: int = 1 << 20,
) -> RolloutLoop:
    """Parities by a policy that may be wrong in the second line, and that gives one answer to every question."""
    right = {problem.prompt: str(problem.solution) for problem in SOURCE.train()}

    def policy(tokens: tuple[int, ...]) -> Mapping[int, float]:
        text = "".join(map(chr, tokens))
        if ASKED in text:
            said = len(text.partition(ASKED)[2].partition("\n")[2])
            return {ord(answer[said]): 1.0} if said < len(answer) else {EOS: 1.0}
        prompt, _, written = text.partition("\n")
        solution = right[f"{prompt}\n"]
        if len(written) == len(solution):
            return {EOS: 1.0}
        token = ord(solution[len(written)])
        return {token: 1 - wrong, token ^ 1: wrong} if len(written) == 4 else {token: 1.0}

    return RolloutLoop(
        Scripted(policy, eos=EOS, context=context),
        Chained(),  # pyright: ignore[reportArgumentType]
        SOURCE,
        RolloutPlan(problems=12, group_size=8, resets=4),
        Sampling(max_tokens=40),
        segmenter,
        NoSearch(),
        MaxAdvantage(),
        starts=starts or NamedMistake(),
    )


def explored(its: RolloutLoop) -> Rollouts:
    return its.explore(SOURCE.train(), 0)


def of(rollouts: Rollouts, purpose: Purpose) -> list[list[Any]]:
    return [[sample for sample in tree.samples if sample.purpose is purpose] for tree in rollouts.trees]


def test_a_group_starts_before_the_step_that_the_policy_names() -> None:
    its = loop("Let me see.\nStep 2")
    rollouts = explored(its)
    resets = [sample for samples in of(rollouts, Purpose.RESET) for sample in samples]
    assert len(resets) == 4 * rollouts.counts["moved_group"] > 8
    assert all("".join(map(chr, sample.prefix)).count("\n") == 1 for sample in resets), "the first step is kept"
    assert any(group.prefix for group in PolicyGradient().groups(rollouts.trees)), "they are learnt from"


def test_what_is_asked_and_answered_is_paid_for_as_probes_and_learnt_by_nobody() -> None:
    its = loop("Step 2")
    rollouts = explored(its)
    account = its.engine.ledger.accounts[Purpose.PROBE]
    assert account.requests == rollouts.counts["moved_group"], "one question for each problem with a failure"
    assert account.generated == account.requests * len("Step 2\0")
    assert account.prefilled > account.requests * len(ASKED), "the failure is read again"
    assert not any(of(rollouts, Purpose.PROBE))


def test_the_group_at_the_prompt_is_that_of_the_base_method_failure_and_all() -> None:
    assert of(explored(loop("Step 2")), Purpose.SAMPLE) == of(explored(loop("", PromptOnly())), Purpose.SAMPLE)


@pytest.mark.parametrize("answer", ["I do not know", "Step 99", "Step 0", "2", "", "Step 2, or step 3", "Step 2\nno"])
def test_where_no_step_is_named_that_exists_the_group_stays_at_the_prompt(answer: str) -> None:
    rollouts = explored(loop(answer))
    assert rollouts.counts["no_step_named"] > 2
    assert rollouts.counts["group_stays_at_prompt"] == 12
    assert not any(of(rollouts, Purpose.RESET))


def test_the_first_step_is_the_prompt() -> None:
    rollouts = explored(loop("Step 1"))
    assert rollouts.counts["first_step_named"] > 2
    assert not any(of(rollouts, Purpose.RESET))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"wrong": 0.0}, None),
        ({"wrong": 1.0, "segmenter": Newline(min_tokens=1000)}, "no_start_inside"),
        ({"wrong": 1.0, "context": 90}, "no_room"),
    ],
    ids=["nothing fails", "steps cannot be cut", "the question is too long"],
)
def test_where_nothing_can_be_asked_nothing_is(options: dict[str, Any], reason: str | None) -> None:
    its = loop("Step 2", **options)
    rollouts = explored(its)
    assert its.engine.ledger.accounts[Purpose.PROBE].generated == 0
    assert not any(of(rollouts, Purpose.RESET))
    assert reason is None or rollouts.counts[reason] == 12


def test_the_same_seed_gives_the_same_trees() -> None:
    one, other = ([tree.samples for tree in explored(loop("Step 3")).trees] for _ in range(2))
    assert one == other


@given(st.text(max_size=40), st.integers(1, 9))
def test_whatever_the_policy_says_the_step_exists_or_there_is_none(answer: str, steps: int) -> None:
    named = step_named(answer, steps)
    assert named is None or 0 <= named < steps


@given(st.integers(1, 30), st.integers(1, 30), st.text(max_size=20), st.sampled_from(["", ".", " ", "\n"]))
def test_only_the_last_line_names_a_step(number: int, steps: int, thought: str, end: str) -> None:
    expected = number - 1 if number <= steps else None
    assert step_named(f"{thought}\nStep {number}{end}", steps) == expected
    assert step_named(f"{thought}\nstep {number}{end}\nPerhaps", steps) is None


def test_chat_problems_are_asked_in_a_further_turn() -> None:
    problem = Problem("p", "t", "4", messages=(Message("system", "Think."), Message("user", "2 + 2?")), solution="4")
    asked = asking(problem, ("Well.\n", "5"))
    assert [turn.role for turn in asked.messages] == ["system", "user", "assistant", "user"]
    assert asked.messages[2].content == "Well.\n5"
    assert "Step 2: 5" in asked.messages[3].content
    assert (asked.id, asked.solution) == ("p/first wrong step", None)


def test_a_policy_without_words_for_the_question_is_counted_and_the_run_goes_on(tiny_policy: Policy) -> None:
    source, engine = ModularChains(steps=4, train_size=4, heldout_size=1), Transformers()
    engine.start(tiny_policy)
    plan, sampling = RolloutPlan(problems=4, group_size=4, resets=4), Sampling(max_tokens=40)
    its = RolloutLoop(
        engine, tiny_policy.tokenizer, source, plan, sampling, Newline(min_tokens=1), NoSearch(), starts=NamedMistake(8)
    )
    rollouts = its.run(tiny_policy, source.train())
    failed = [tree for tree in rollouts.trees if not all(tree.samples[i].right for i in tree.trajectories)]
    assert rollouts.counts["question_not_encodable"] == len(failed) > 0
    assert rollouts.counts["group_stays_at_prompt"] == 4
    assert engine.ledger.accounts[Purpose.PROBE].generated == 0


def test_an_answer_needs_a_token() -> None:
    with pytest.raises(ConfigError, match=r"data\.starts"):
        NamedMistake(0)
    assert StartStates.question(PromptOnly(), None, Random(0)) is None  # pyright: ignore[reportArgumentType]
