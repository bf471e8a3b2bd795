"""Success by calculation, the exact gradient of it, and the worth of a batch's gradient."""

from collections import Counter
from dataclasses import replace
from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Purpose, Sampling, Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.evaluation.exact import exact_success, exact_values, work
from gpo_lightning.evaluation.gradients import (
    BatchGradient,
    batch_gradient,
    efficiency,
    headroom,
    success_gradient,
    uniform_share,
)
from gpo_lightning.evaluation.oracle import ExactSteps, step_advantages
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.losses import DPO, DrGRPO
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.problems import Ledger, ModularChains
from gpo_lightning.rollouts import Sample
from tests.conftest import disturb, lora, tree_of

CHAINS = ModularChains(steps=4, train_size=8)


@pytest.fixture(scope="module")
def policy() -> Policy:
    policy = Policy(PolicyConfig(base="tiny", dtype="float64", lora=lora())).eval()
    disturb(policy, 0.02)
    return policy


def test_exact_success_is_what_sampling_finds(policy: Policy) -> None:
    problems = CHAINS.train()
    exact = exact_success(policy, CHAINS, problems)
    engine = Transformers(batch_size=256)
    engine.start(policy)
    trees, _ = respond(engine, policy.tokenizer, CHAINS, problems, Sampling(max_tokens=48), 64, seed=1)
    sampled = torch.tensor([sum(its.reward or 0 for its in tree.samples) / 64 for tree in trees])
    assert 0.1 < float(exact.mean()) < 0.95
    assert float(sampled.mean()) == pytest.approx(float(exact.mean()), abs=0.08)
    assert float((sampled - exact).abs().max()) < 0.25


def test_values_rise_step_by_step_from_success_to_one(policy: Policy) -> None:
    problems = CHAINS.train()[:3]
    for values, success in zip(
        exact_values(policy, [work(policy, CHAINS, its) for its in problems]),
        exact_success(policy, CHAINS, problems),
        strict=True,
    ):
        assert len(values) == CHAINS.steps + 2, "every line, the answer's too, and the end"
        assert values[0] == pytest.approx(float(success))
        assert values[-1] == 1.0
        assert list(values) == sorted(values)


def test_remarks_do_not_count(policy: Policy) -> None:
    source = Ledger(steps=4, entries=1, train_size=4)
    its = work(policy, source, source.train()[0])
    assert its.decides.count(False) == 3 * 4, "two signs and two numbers of each note"


def test_the_exact_gradient_is_that_of_exact_success(policy: Policy) -> None:
    problems, size = CHAINS.train()[:4], 1e-4
    gradient = success_gradient(policy, CHAINS, problems).double()
    before = float(exact_success(policy, CHAINS, problems).mean())
    begin = 0
    weights = list(policy.trainable_state().values())
    with torch.no_grad():
        for weight in weights:
            weight += size * gradient[begin : begin + weight.numel()].reshape(weight.shape) / gradient.norm()
            begin += weight.numel()
    after = float(exact_success(policy, CHAINS, problems).mean())
    begin = 0
    with torch.no_grad():
        for weight in weights:
            weight -= size * gradient[begin : begin + weight.numel()].reshape(weight.shape) / gradient.norm()
            begin += weight.numel()
    assert (after - before) / size == pytest.approx(float(gradient.norm()), rel=0.02)


def test_on_chains_exact_step_advantages_point_along_the_gradient_of_success_and_outcomes_do_too(
    policy: Policy,
) -> None:
    problems = CHAINS.train()
    engine = Transformers(batch_size=256)
    engine.start(policy)
    trees, _ = respond(engine, policy.tokenizer, CHAINS, problems, Sampling(max_tokens=48), 16, seed=2)
    for tree in trees:
        tree.samples = [_as_drawn(its) for its in tree.samples]
    target = success_gradient(policy, CHAINS, problems)
    whole = PolicyGradient()
    cosines: list[float] = []
    for builder in (whole, ExactSteps(policy, CHAINS)):
        made = batch_gradient(policy, DrGRPO(), whole, builder.build(trees, Counter()), 1)
        cosines.append(efficiency([made], target).cosine)
    assert min(cosines) > 0.8


def _as_drawn(sample: Sample) -> Sample:
    return replace(sample, purpose=Purpose.SAMPLE)


def test_step_advantages_stop_at_the_first_wrong_step(policy: Policy) -> None:
    its = work(policy, CHAINS, CHAINS.train()[0])
    values = (0.2, 0.4, 0.5, 0.6, 0.9, 1.0)
    line = its.boundaries[1]
    assert step_advantages(its, values, 1, len(its.tokens))[: 2 * line] == pytest.approx((0.2,) * line + (-0.4,) * line)
    assert set(step_advantages(its, values, 1, len(its.tokens))[2 * line :]) == {0.0}
    assert {round(a, 9) for a in step_advantages(its, values, None, len(its.tokens))} == {0.1, 0.2, 0.3}


@given(st.floats(0.1, 10), st.integers(2, 6))
def test_the_worth_of_a_batch_knows_direction_and_tokens_but_no_scale(scale: float, size: int) -> None:
    target = torch.arange(1.0, size + 1)
    one = efficiency([BatchGradient(target, 10**6)] * 2, target)
    assert one.cosine == pytest.approx(1.0)
    assert one.gain == pytest.approx(1.0)
    assert efficiency([BatchGradient(scale * target, 10**6)] * 2, target).gain == pytest.approx(1.0)
    assert efficiency([BatchGradient(target, 2 * 10**6)] * 2, target).gain == pytest.approx(0.5)
    assert efficiency([BatchGradient(-target, 10**6)] * 2, target).gain == 0.0
    empty = efficiency([BatchGradient(target, 10**6), BatchGradient(0 * target, 10**6)], target)
    assert (empty.cosine, empty.gain) == pytest.approx((0.5, 0.5)), "a batch that teaches nothing is paid for too"


def test_uniform_groups_are_counted_by_the_success_of_their_problem() -> None:
    mixed, failed = tree_of([((1,), 0, 1.0), ((2,), 0, 0.0)]), tree_of([((1,), 0, 0.0), ((2,), 0, 0.0)])
    (found,) = uniform_share([mixed, failed, failed], {"p": 0.05})
    assert (found.low, found.high, found.groups, found.uniform) == (0.02, 0.1, 3, 2)
    assert uniform_share([mixed], {}) == []
    assert uniform_share([mixed], {"p": 1.0})[0].high == 1.0


def test_headroom_leaves_out_tokens_that_nothing_hangs_on_and_those_that_were_certain() -> None:
    outcome, step = headroom([0.0, 1.0, 0.0], 1.0, [-inf, -inf, 0.0])
    assert (outcome, step) == (2.0, 1.0)


def test_a_loss_that_reads_a_reference_is_refused(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="DPO"):
        batch_gradient(policy, DPO(), DPO.default_experience(), [], 1)  # pyright: ignore[reportArgumentType]


def test_an_empty_batch_has_no_direction(policy: Policy) -> None:
    assert not batch_gradient(policy, DrGRPO(), PolicyGradient(), [], 5).direction.any()
