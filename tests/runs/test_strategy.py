"""A strategy that cannot work is refused before a process is started or a model loaded, with the key and the mend."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.engines import Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import GRPO
from gpo_lightning.problems import ModularChains
from gpo_lightning.runs.checkpoint import Checkpoint
from gpo_lightning.runs.strategy import check_origin


def sharded(**settings: Any) -> ModelParallelStrategy:
    return ModelParallelStrategy(
        **{"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False} | settings
    )


def trainer(strategy: Any, folder: Path) -> GPOTrainer:
    return GPOTrainer(
        accelerator="cpu", devices=2, strategy=strategy, logger=False, default_root_dir=folder, max_epochs=1
    )


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        (sharded(tensor_parallel_size="auto"), "tensor_parallel_size is 'auto'; it must be 1"),
        (sharded(tensor_parallel_size=2, data_parallel_size=1), "tensor_parallel_size is 2; it must be 1"),
        (sharded(data_parallel_size="auto"), "data_parallel_size is 'auto'; it must be 2"),
        (sharded(data_parallel_size=4), r"data_parallel_size is 4; it must be 2.*trainer.devices \(2\)"),
        (sharded(save_distributed_checkpoint=True), "save_distributed_checkpoint must be false"),
        (DDPStrategy(start_method="spawn"), "trainer.strategy forks or spawns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_named_with_what_to_set(
    strategy: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("a process was started for a strategy that cannot work")

    monkeypatch.setattr("subprocess.Popen.__init__", started)
    fit = trainer(strategy, tmp_path).fit
    with pytest.raises(ConfigError, match=named):
        fit(GPOModule(GRPO()), datamodule=RolloutDataModule(ModularChains(), Transformers()))


def test_the_optimiser_of_a_run_that_was_not_sharded_is_not_taken_for_a_sharded_one(tmp_path: Path) -> None:
    plain = Checkpoint(tmp_path / "one.ckpt", 1, 1, between=True, sharded=False)
    with pytest.raises(ConfigError, match=r"one.ckpt was written without sharding.*model.policy.adapter"):
        check_origin(trainer(sharded(), tmp_path), plain)
    check_origin(trainer(sharded(), tmp_path), replace(plain, sharded=True))
    check_origin(trainer("ddp", tmp_path), plain)
    check_origin(trainer("ddp", tmp_path), replace(plain, sharded=True))
