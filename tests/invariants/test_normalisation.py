"""Invariant 1: how a step is cut into micro-batches, and how many are accumulated, does not change loss or gradient."""

from collections import Counter

import pytest
import torch

from gpo_lightning import GPOModule
from gpo_lightning.experience import (
    Demonstrations,
    ExperienceBuilder,
    MismatchedResponses,
    PolicyGradient,
    PreferencePairs,
)
from gpo_lightning.experience.schedule import schedule
from gpo_lightning.losses import DAPO, DPO, GRPO, GSPO, KL, KTO, ORPO, SFT, Loss, SequenceClip, TokenClip
from gpo_lightning.policy import PolicyConfig
from tests.conftest import disturb, lora
from tests.fitting import fit_batches, trees


def gradients(
    loss: Loss, builder: ExperienceBuilder, micro_batch: int, accumulate: int
) -> list[dict[str, torch.Tensor]]:
    examples = builder.build(trees(), Counter())
    batches = schedule(examples, loss.weights, micro_batch, accumulate, len(loss.weights(builder.blank())))
    module = GPOModule(loss, PolicyConfig(base="tiny", lora=lora(), dtype="float64"), optimizer=torch.optim.SGD)
    torch.manual_seed(0)
    module.configure_model()
    disturb(module.policy)
    steps, _ = fit_batches(module, batches, builder, accumulate)
    return steps


CASES = [
    (GRPO(TokenClip(0.2, 0.3)), PolicyGradient(starts=("prompt",))),
    (DAPO(kl=KL(0.1)), PolicyGradient(starts=("prompt",), keep_uniform=True)),
    (GSPO(SequenceClip(0.2, 0.2)), PolicyGradient(starts=("prompt",))),
    (DPO(), PreferencePairs(starts=("prompt",), pairs=8)),
    (ORPO(likelihood="prompt_and_response"), PreferencePairs(starts=("prompt",), pairs=8)),
    (KTO(), MismatchedResponses(starts=("prompt",))),
    (SFT(), Demonstrations()),
]


@pytest.mark.parametrize(("loss", "builder"), CASES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(("micro_batch", "accumulate"), [(16, 2), (8, 4), (11, 3)])
def test_cutting_a_step_differently_gives_the_same_gradient(
    loss: Loss, builder: ExperienceBuilder, micro_batch: int, accumulate: int
) -> None:
    (whole,) = gradients(loss, builder, micro_batch=32, accumulate=1)
    (cut,) = gradients(loss, builder, micro_batch, accumulate)
    scale = max(float(g.abs().max()) for g in whole.values())
    assert scale > 0
    assert whole.keys() == cut.keys()
    for name, gradient in whole.items():
        assert torch.allclose(gradient, cut[name], rtol=0, atol=1e-6 * scale), name
