"""Keeps what every iteration logged, in files that a stopped run and its continuation leave as one run would."""

import json
from typing import TYPE_CHECKING, Any, cast

from lightning import Callback, Trainer

from gpo_lightning.callbacks.compute_log import CLOCKED
from gpo_lightning.runs import run_directory
from gpo_lightning.whole_file import write_whole

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class MetricsLog(Callback):
    """Writes ``metrics/iteration-0000.json``: the scalars of the iteration, as the loggers get them.

    A file for each, which needs no logger to read. What a clock tells (``compute/seconds_PHASE``,
    ``compute/tokens_per_second``) is left out, for a run that was stopped must leave the same files.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        # What this iteration does not measure would otherwise be said again as it was in one before.
        cast(Any, trainer)._logger_connector._logged_metrics.clear()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        directory = run_directory(trainer) / "metrics"
        logged = sorted(trainer.logged_metrics.items())
        scalars = {name: float(value) for name, value in logged if not name.startswith(CLOCKED)}
        if not trainer.is_global_zero:
            return
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"iteration-{trainer.current_epoch:04d}.json"
        write_whole(path, json.dumps({"step": trainer.global_step, **scalars}, indent=2))
