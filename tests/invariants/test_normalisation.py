"""Invariant 1: how a step is cut into micro-batches, and how many are accumulated, does not change loss or gradient."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from gpo_lightning import GPOModule, RolloutDataModule
from gpo_lightning.engines import Purpose, Transformers
from gpo_lightning.experience import (
    Demonstrations,
    ExperienceBuilder,
    MicroBatch,
    MismatchedResponses,
    PolicyGradient,
    PreferencePairs,
    schedule,
)
from gpo_lightning.losses import DAPO, DPO, GRPO, GSPO, KL, KTO, ORPO, SFT, Loss, SequenceClip, TokenClip
from gpo_lightning.policy import PolicyConfig
from gpo_lightning.problems import ModularChains, Problem
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.training import OpaqueBatch
from tests.conftest import disturb, lora

LENGTHS = (9, 3, 7, 5, 8, 4, 6, 2)


def trees() -> list[RolloutTree]:
    """Four problems with eight responses of very different lengths, half of them right."""
    draw = torch.Generator().manual_seed(3)
    made: list[RolloutTree] = []
    for number in range(4):
        tree = RolloutTree(Problem(f"p{number}", "t", "0", prompt="?"), (40, 107, 101, 8, 105, 100)[: 3 + number])
        for i, length in enumerate(LENGTHS):
            tokens = tuple(torch.randint(3, 100, (length,), generator=draw).tolist())
            logprobs = tuple((-5 * torch.rand(length, generator=draw) - 2.5).tolist())
            tree.add(Sample(tokens, 0, logprobs, float(i % 2), "x", False, Purpose.SAMPLE, 0))
        tree.add(Sample((5, 6, 2), 0, (), 1.0, "solution", False, Purpose.SOLUTION, -1))
        made.append(tree)
    return made


class GradientOfEachStep(Callback):
    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.steps.append({n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None})


class Prepared(RolloutDataModule):
    """Gives the batches of a schedule; everything else is the real thing."""

    def __init__(self, batches: Sequence[MicroBatch], builder: ExperienceBuilder) -> None:
        super().__init__(ModularChains(), engine=Transformers())
        self.batches, self.kind = batches, builder

    def train_dataloader(self) -> Any:
        return DataLoader(self.batches, batch_size=None, collate_fn=lambda b: OpaqueBatch(b.collate(self.kind, 0)))  # type: ignore[arg-type]


def gradients(
    loss: Loss, builder: ExperienceBuilder, micro_batch: int, accumulate: int
) -> list[dict[str, torch.Tensor]]:
    examples = builder.build(trees(), Counter())
    batches = schedule(examples, loss.weights, micro_batch, accumulate, len(loss.weights(builder.blank())))
    module = GPOModule(loss, PolicyConfig(base="tiny", lora=lora(), dtype="float64"), optimizer=torch.optim.SGD)
    torch.manual_seed(0)
    module.configure_model()
    disturb(module.policy)
    seen = GradientOfEachStep()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        reload_dataloaders_every_n_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[seen],
    )
    trainer.fit(module, Prepared(batches, builder))
    return seen.steps


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
