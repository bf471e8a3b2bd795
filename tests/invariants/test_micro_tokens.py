"""Invariant 1 for a budget of tokens: into how many passes a step is cut by it changes no gradient."""

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor

from gpo_lightning import RolloutDataModule
from gpo_lightning.engines import Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.losses import DAPO, GRPO, KL, Loss, VinePPO
from gpo_lightning.problems import ModularChains
from gpo_lightning.training import Scorer, TrainingStep, make_batches
from tests.invariants.sharded import FROM_PROMPT, Case, learn
from tests.invariants.test_packing import LOSSES, policy_of, reset_trees


def steps(loss: Loss, packing: str, micro_tokens: int | None) -> tuple[list[dict[str, Tensor]], list[tuple[int, int]]]:
    """The gradient of each step, and of each pass with gradients how many rows and tokens it computed."""
    policy = policy_of(packing, loss.needs_values)
    builder = PolicyGradient() if isinstance(loss, VinePPO) else loss.default_experience()
    scorer = Scorer(policy, loss, 0.8)
    examples = builder.build(reset_trees()[:2], Counter())
    step = TrainingStep(scorer, loss, [parameter for parameter in policy.parameters() if parameter.requires_grad])
    batches = make_batches(examples, builder, scorer, 6, 2, micro_tokens=micro_tokens)
    passes: list[tuple[int, int]] = []
    gradients: list[dict[str, Tensor]] = []
    rest = iter(batches)
    while part := list(islice(rest, batches.accumulate)):
        policy.zero_grad()
        for batch in part:
            with policy.causal_lm.base_model.register_forward_hook(
                lambda module, args, kwargs, output, batch=batch: passes.append(
                    (batch.size, kwargs["input_ids"].numel() if torch.is_grad_enabled() else 0)
                ),
                with_kwargs=True,
            ):
                step.backward(step.forward(batch))
        gradients.append({n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None})
    return gradients, passes


@cache
def by_number(loss: Loss, packing: str) -> list[dict[str, Tensor]]:
    return steps(loss, packing, None)[0]


def assert_same(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(found) == len(expected) >= 1
    scale = max(float(gradient.abs().max()) for step in expected for gradient in step.values())
    assert scale > 0
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, gradient in other.items():
            assert torch.allclose(one[name], gradient, rtol=0, atol=1e-6 * scale), name


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@settings(max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(packing=st.sampled_from(["none", "tree"]), micro_tokens=st.integers(1, 200))
def test_the_gradient_of_every_step_is_the_same_whatever_the_budget(
    loss: Loss, packing: str, micro_tokens: int
) -> None:
    found, passes = steps(loss, packing, micro_tokens)
    assert_same(found, by_number(loss, packing))
    assert all(size == 1 or computed <= micro_tokens for size, computed in passes)


@pytest.mark.parametrize("packing", ["none", "tree"])
def test_a_budget_is_used_up(packing: str) -> None:
    """What packed rows share counts once, so that more of them make a pass."""
    loss = GRPO()
    _, small = steps(loss, packing, 24)
    _, large = steps(loss, packing, 1000)
    assert len(large) == len(by_number(loss, packing)), "a step is one pass"
    assert len(small) > 2 * len(large)
    assert len(steps(loss, "tree", 60)[1]) < len(steps(loss, "none", 60)[1])


def test_lightning_takes_a_step_of_as_many_batches_as_the_budget_makes(tmp_path: Path) -> None:
    case = Case(DAPO(kl=KL(0.1)), FROM_PROMPT, micro_batch=5, accumulate=2)
    module, expected = learn(case, "", tmp_path / "number")
    assert len(expected.gradients) > 2
    again, found = learn(replace(case, micro_tokens=30), "", tmp_path / "tokens")
    assert_same(found.gradients, expected.gradients)
    for name, weight in expected.weights.items():
        assert torch.allclose(found.weights[name], weight, rtol=0, atol=1e-9), name
    assert again.trainer.global_step == module.trainer.global_step
    assert again.trainer.accumulate_grad_batches == 2, "the trainer is as it was"


def test_two_who_decide_how_many_batches_make_a_step_are_one_too_many(tmp_path: Path) -> None:
    case = Case(GRPO(), FROM_PROMPT, micro_tokens=30)
    with pytest.raises(ConfigError, match=r"data\.micro_tokens .* GradientAccumulationScheduler"):
        learn(case, "", tmp_path, callbacks=[GradientAccumulationScheduler({0: 2})])


@pytest.mark.parametrize("micro_tokens", [0, -5])
def test_a_budget_of_nothing_is_refused(micro_tokens: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.micro_tokens is {micro_tokens}; it must be at least 1"):
        RolloutDataModule(ModularChains(), Transformers(), micro_tokens=micro_tokens)
