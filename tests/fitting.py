"""One way to have Lightning learn from batches of a test's own: the module, loop and hooks are the real ones."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from gpo_lightning import GPOModule, RolloutDataModule
from gpo_lightning.engines import Purpose, Transformers
from gpo_lightning.experience import ExperienceBuilder
from gpo_lightning.experience.schedule import MicroBatch
from gpo_lightning.problems import ModularChains, Problem
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.training import OpaqueBatch

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


def quiet(trainer: Callable[..., Trainer] = Trainer, **settings: Any) -> Trainer:
    """A trainer of one epoch on the CPU that logs, evaluates, prints and keeps nothing."""
    defaults = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "reload_dataloaders_every_n_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
    }
    return trainer(**defaults | settings)


def fit_batches(
    module: GPOModule,
    batches: Sequence[MicroBatch],
    builder: ExperienceBuilder,
    accumulate: int = 1,
    folder: Path | None = None,
    accelerator: str = "cpu",
) -> tuple[list[dict[str, torch.Tensor]], Trainer]:
    """Learn once from batches; the gradient of each optimiser step, and the trainer."""
    seen = GradientOfEachStep()
    trainer = quiet(
        accelerator=accelerator,
        devices=1,
        accumulate_grad_batches=accumulate,
        default_root_dir=folder,
        callbacks=[seen],
    )
    trainer.fit(module, Prepared(batches, builder))
    return seen.steps, trainer
