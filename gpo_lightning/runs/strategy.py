"""Which of Lightning's strategies a policy can be trained under, told before any process is started."""

from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher  # pyright: ignore

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.checkpoint import Checkpoint

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


def check_origin(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Refuse to shard the optimiser of a run that was not sharded; the other way round is no matter.

    Lightning numbers the moments of a sharded run by all weights, those of others by the trained ones alone.

    Raises:
        ConfigError: it would have to be.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy) and not checkpoint.sharded:
        raise ConfigError(
            f"--ckpt_path: {checkpoint.path} was written without sharding, and its optimiser state cannot be sharded. "
            "Go on without trainer.strategy ModelParallelStrategy, or export the adapter (gpo export) and begin a new "
            "run with model.policy.adapter."
        )
