"""Which of Lightning's strategies a policy can be trained under, told before any process is started."""

from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher  # pyright: ignore

from gpo_lightning.errors import ConfigError

_ARGUMENTS = "trainer.strategy.init_args"


def check_strategy(trainer: Trainer) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: the strategy, or one of its settings, cannot.
    """
    strategy = trainer.strategy
    if isinstance(strategy, FSDPStrategy):
        raise ConfigError(
            "trainer.strategy is FSDP in its first version, which does not see the passes the policy makes. Take "
            "FSDP2: configs/trainer/fsdp2.yaml."
        )
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise ConfigError(
            "trainer.strategy forks or spawns its processes, to which an engine cannot be handed. Take "
            "configs/trainer/ddp.yaml."
        )
    if isinstance(strategy, ModelParallelStrategy):
        _check_sizes(trainer, strategy)


def _check_sizes(trainer: Trainer, strategy: ModelParallelStrategy) -> None:
    settings = cast(Any, strategy)
    if settings._tensor_parallel_size != 1:
        raise ConfigError(
            f"{_ARGUMENTS}.tensor_parallel_size is {settings._tensor_parallel_size!r}; it must be 1: layers are "
            "sharded, not split. (vLLM can split its own: data.engine.init_args.options.)"
        )
    processes = trainer.num_devices * trainer.num_nodes
    if settings._data_parallel_size != processes:
        raise ConfigError(
            f"{_ARGUMENTS}.data_parallel_size is {settings._data_parallel_size!r}; it must be {processes}, the number "
            f"of processes: trainer.devices ({trainer.num_devices}) times trainer.num_nodes ({trainer.num_nodes})."
        )
    if settings._save_distributed_checkpoint:
        raise ConfigError(
            f"{_ARGUMENTS}.save_distributed_checkpoint must be false: a checkpoint is one file, written whole or not "
            "at all. It holds only what is trained."
        )
