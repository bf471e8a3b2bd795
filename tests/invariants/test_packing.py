"""Invariant 1 for packed rows: what is shared goes through the policy once, and no loss or gradient changes by it."""

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from gpo_lightning import losses
from gpo_lightning.engines import Purpose
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.experience.schedule import by_context
from gpo_lightning.losses import DAPO, DPO, GRPO, KL, KTO, ORPO, Loss, TruncatedWeights, VinePPO
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.training import Scorer, TrainingStep, make_batches
from tests.conftest import disturb, lora
from tests.fitting import trees
from tests.of_the_package import offered

LOSSES: list[Loss] = [
    *(loss() for loss in offered(losses, Loss)),
    GRPO(kl=KL(0.1)),
    DAPO(importance_correction=TruncatedWeights(), kl=KL(0.1)),
    ORPO(likelihood="prompt_and_response"),
]


def reset_trees() -> list[RolloutTree]:
    """Groups from the prompt, and from a prefix of the first response of each problem."""
    made = trees()
    for tree in made:
        first = tree.samples[0].tokens
        for i in range(4):
            tokens = (*first[:4], 30 + i, 31, 2)
            tree.add(Sample(tokens, 4, (-1.0, -2.0, -0.5), float(i % 2), "x", False, Purpose.RESET, 0))
    return made


@cache
def policy_of(packing: str, values: bool) -> Policy:
    torch.manual_seed(0)
    config = PolicyConfig(base="tiny", lora=lora(), dtype="float64")
    policy = Policy(replace(config, packing=packing), values=values)  # type: ignore[arg-type]
    disturb(policy)
    return policy


def learnt(loss: Loss, packing: str, micro_batch: int) -> tuple[list[float], dict[str, Tensor], int]:
    """Losses of the micro-batches of one step, its gradient, and how many tokens went through the policy for it."""
    policy = policy_of(packing, loss.needs_values)
    policy.zero_grad()
    seen: list[int] = []
    hook = policy.causal_lm.base_model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    # Steps have no values here, and what is shared does not depend on advantages.
    builder = PolicyGradient() if isinstance(loss, VinePPO) else loss.default_experience()
    scorer = Scorer(policy, loss, 0.8)
    examples = builder.build(reset_trees(), Counter())
    assert examples
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    step = TrainingStep(scorer, loss, parameters)
    found: list[float] = []
    for batch in make_batches(examples, builder, scorer, micro_batch, -(-len(examples) // micro_batch)):
        step.backward(step.forward(batch))
        found.append(float(step.judge()["loss"]))
    hook.remove()
    gradient = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    return found, gradient, sum(seen)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_packing_changes_neither_loss_nor_gradient(loss: Loss) -> None:
    apart, expected, tokens = learnt(loss, "none", 1000)
    packed, found, fewer = learnt(loss, "tree", 1000)
    assert packed == pytest.approx(apart, rel=1e-9, abs=1e-12)
    assert found.keys() == expected.keys()
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=0, atol=1e-6 * scale), name
    assert fewer <= tokens / 2


@pytest.mark.parametrize("loss", [GRPO(), DPO(), KTO()], ids=lambda loss: type(loss).__name__)
def test_how_a_step_of_packed_rows_is_cut_changes_nothing(loss: Loss) -> None:
    _, expected, _ = learnt(loss, "tree", 1000)
    losses_, found, _ = learnt(loss, "tree", 7)
    assert len(losses_) > 1
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=0, atol=1e-6 * scale), name


def test_what_shares_a_beginning_shares_a_micro_batch() -> None:
    examples = GRPO().default_experience().build(reset_trees(), Counter())
    ordered = [example.rows[0].context for example in sorted(examples, key=by_context)]
    assert ordered == sorted(ordered)
