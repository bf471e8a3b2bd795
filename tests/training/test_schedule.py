"""Learning rates that follow from the share of the run, whatever the number of steps of an iteration."""

from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gpo_lightning import GPOModule
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import GRPO
from gpo_lightning.module import share_done
from gpo_lightning.training.schedule import Schedule


def test_shapes_are_those_of_transformers() -> None:
    assert Schedule("cosine").factor()(0.5) == pytest.approx(0.5)
    assert Schedule("constant_with_warmup", warmup=0.5).factor()(0.25) == pytest.approx(0.5)
    stable = Schedule("warmup_stable_decay", warmup=0.1, options={"num_decay_steps": 0.4, "decay_type": "linear"})
    assert [round(stable.factor()(share), 2) for share in (0.1, 0.6, 0.8, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    assert Schedule("cosine").factor()(7.0) == 0.0, "it never comes back up"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "upwards"}, r"model\.schedule: .*upwards"),
        ({"name": "reduce_lr_on_plateau"}, r"model\.schedule"),
        ({"warmup": 3}, r"model\.schedule\.warmup is 3"),
        ({"options": {"colour": 1}}, r"model\.schedule: .*colour"),
        ({"name": "warmup_stable_decay", "options": {"num_decay_steps": 20}}, r"num_decay_steps is 20; it is a share"),
        ({"name": "inverse_sqrt", "options": {"timescale": 100}}, r"timescale is 100; it is a share"),
    ],
)
def test_what_is_no_schedule_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(**settings)


@pytest.mark.parametrize(
    ("name", "options"), [("cosine_with_min_lr", {"min_lr": 1e-4}), ("polynomial", {"lr_end": 1e-4})]
)
def test_a_learning_rate_to_end_with_is_what_it_is(name: str, options: dict[str, Any]) -> None:
    """transformers takes them for shares of the optimiser's own rate."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    done = [0.0]
    scheduler = Schedule(name, options=options).scheduler(optimizer, lambda: done[0])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    done[0] = 1.0
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_only_one_sets_the_learning_rate() -> None:
    with pytest.raises(ConfigError, match=r"model\.schedule and model\.lr_scheduler"):
        GPOModule(GRPO(), schedule=Schedule(), lr_scheduler=torch.optim.lr_scheduler.ConstantLR)


class Unsteady(LightningModule):
    """Two batches in the first epoch, one in the second, three in the third."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.rates: list[tuple[int, float]] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = Schedule("linear").scheduler(optimizer, lambda: share_done(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.rates.append((self.current_epoch, self.optimizers().param_groups[0]["lr"]))  # type: ignore[union-attr]
        return self.layer(batch).sum()

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.zeros((2, 1, 3)[self.current_epoch], 1))  # type: ignore[arg-type]


def test_the_rate_falls_with_the_run_and_ends_where_it_ends() -> None:
    module = Unsteady()
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(
        max_epochs=3, reload_dataloaders_every_n_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet
    )
    trainer.fit(module)
    thirds = [(0, 1.0), (0, 5 / 6), (1, 2 / 3), (2, 1 / 3), (2, 2 / 9), (2, 1 / 9)]
    assert module.rates == [(epoch, pytest.approx(rate, abs=1e-3)) for epoch, rate in thirds]
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert scheduler.get_last_lr() == [pytest.approx(0.0, abs=1e-3)]
    assert not {"factor", "share"} & set(scheduler.state_dict())
