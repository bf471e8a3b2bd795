"""A strategy that cannot work is refused before a process is started or a model loaded, with the key and the mend."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.engines import Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import GRPO
from gpo_lightning.problems import ModularChains


def sharded(**settings: Any) -> ModelParallelStrategy:
    return ModelParallelStrategy(
        **{"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False} | settings
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
    trainer = GPOTrainer(
        accelerator="cpu", devices=2, strategy=strategy, logger=False, default_root_dir=tmp_path, max_epochs=1
    )
    with pytest.raises(ConfigError, match=named):
        trainer.fit(GPOModule(GRPO()), datamodule=RolloutDataModule(ModularChains(), Transformers()))
