"""What callbacks watch, looked at before rollouts are made: by themselves they complain after the first iteration."""

from difflib import get_close_matches
from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor

from gpo_lightning.callbacks.scalars import SCALARS, meaning
from gpo_lightning.errors import ConfigError

_KNOWN = ("gpo_lightning.", "lightning.")
_EARLY = "Early stopping conditioned on metric"
_OFTEN = ("val/accuracy", "eval/heldout/accuracy", "rewards/reward", "train/loss")


def check_monitored(trainer: Trainer, module: LightningModule) -> None:
    """Refuse what could only fail: a figure that nothing logs, or one to be logged where there is no logger.

    Raises:
        ConfigError: as said.
    """
    callbacks = cast(list[Callback], cast(Any, trainer).callbacks)
    for callback in callbacks:
        if isinstance(callback, LearningRateMonitor) and not trainer.loggers:
            raise ConfigError(
                "trainer.callbacks holds a LearningRateMonitor, but trainer.logger is false, so there is nothing to "
                "log to. Leave one of them out."
            )
    # Whoever writes a module or callback of their own may log under any name.
    if any(not type(each).__module__.startswith(_KNOWN) for each in (module, *callbacks)):
        return
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and meaning(monitor) is None:
            raise ConfigError(_unknown(callback, monitor))


def _unknown(callback: Callback, monitor: str) -> str:
    names = [name for group in SCALARS.values() for name in group if "*" not in name]
    near = get_close_matches(monitor, _OFTEN, 1) or get_close_matches(monitor, names, 1, cutoff=0.8)
    meant = f" Did you mean {near[0]}?" if near else ""
    return (
        f"trainer.callbacks: {type(callback).__name__} monitors {monitor!r}, which is never logged.{meant} "
        f"Often taken: {', '.join(_OFTEN)}."
    )


def not_logged(error: Exception) -> str | None:
    """What EarlyStopping says of a figure that was not logged after all; ``None`` of any other error."""
    said = str(error)
    return f"trainer.callbacks: {said}" if isinstance(error, RuntimeError) and said.startswith(_EARLY) else None
