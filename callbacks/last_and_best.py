"""What a run keeps of its checkpoints: the newest, and the best by its evaluation."""

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from typing_extensions import override

from gpo_lightning.callbacks.benchmark_evaluation import evaluations_of
from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.whole_file import write_whole

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule

_VALIDATED = "val/accuracy"


@dataclass(frozen=True)
class _Measured:
    """How good the policy was after so many iterations, by a figure of this name."""

    figure: str
    iteration: int
    value: float


class LastAndBest(ModelCheckpoint):
    """Keeps ``checkpoints/last.ckpt``, the newest, and ``checkpoints/best.ckpt``, the best of the evaluated ones.

    ``GPOTrainer`` has one by itself unless checkpoints are switched off or a ``ModelCheckpoint`` of yours keeps the
    newest. Each is replaced in one go, so the disk holds two at most; while the newest is the best, both names are one
    file. ``best.json`` says by which figure it is the best, after which iteration, and how good it was.

    The figure is the accuracy of the first ``BenchmarkEvaluation`` with ``every_n_epochs`` (the mean over its
    benchmarks); without one ``val/accuracy``, where the trainer validates; else what ``BenchmarkEvaluation`` measures
    at the end. Where nothing is evaluated there is no ``best.ckpt``. The untrained policy is no checkpoint.

    Args:
        every_n_epochs: iterations between two checkpoints; one that is the best so far is kept in any case.
    """

    CHECKPOINT_NAME_BEST = "best"

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"LastAndBest.every_n_epochs is {every_n_epochs}; it must be at least 1.")
        super().__init__(every_n_epochs=every_n_epochs)
        self._validated: float | None = None

    @override
    def on_train_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A kill may have come between a checkpoint and its becoming the best."""
        begin = trainer.ckpt_path
        if begin is not None and Path(begin).resolve().parent == self._path("last").resolve().parent:
            done = cast(Any, trainer.fit_loop.epoch_progress.current).processed
            self.last_model_path, self._last_global_step_saved = str(begin), trainer.global_step
            self._consider(trainer, self._measured(trainer, done), Path(begin))

    @override
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is kept in the middle of an iteration: no run could go on from it."""

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = None if trainer.sanity_checking else trainer.callback_metrics.get(_VALIDATED)
        self._validated = None if found is None else float(found)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        iterations = trainer.current_epoch + 1
        measured, self._validated = self._measured(trainer, iterations), None
        if iterations % (self.every_n_epochs or 1) == 0 or self._is_best(trainer, measured):
            self.last_model_path = str(self._path("last"))
            self.best_model_path = self.best_model_path or self.last_model_path
            self._save_checkpoint(trainer, self.last_model_path)
            self._consider(trainer, measured, Path(self.last_model_path))

    @override
    def on_train_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What was measured at the end is of the checkpoint of the last iteration."""
        if self.last_model_path and self._last_global_step_saved == trainer.global_step:
            self._consider(trainer, self._measured(trainer, trainer.current_epoch), Path(self.last_model_path))

    @override
    def state_dict(self) -> dict[str, Any]:
        """Nothing: ``best.json`` lies beside what it tells of, and only there it is true."""
        return {}

    def _path(self, name: str) -> Path:
        return Path(str(self.dirpath)) / f"{name}{self.FILE_EXTENSION}"

    def _measured(self, trainer: Trainer, iteration: int) -> _Measured | None:
        """What was measured after this iteration; ``None`` where nothing was."""
        evaluations = evaluations_of(trainer)
        regular = [each for each in evaluations if each.every_n_epochs]
        if not regular and cast(Any, trainer).enable_validation:
            value = self._validated
            return None if value is None or math.isnan(value) else _Measured(_VALIDATED, iteration, value)
        for evaluation in (regular or evaluations)[:1]:
            accuracy = evaluation.accuracy(iteration)
            if accuracy is not None and not math.isnan(accuracy):
                return _Measured(evaluation.figure, iteration, accuracy)
        return None

    def _is_best(self, trainer: Trainer, measured: _Measured | None) -> bool:
        """Whether nothing better lies there. The same on every rank."""
        if measured is None:
            return False
        best = self._read() if trainer.is_global_zero else None
        found = best is None or best.figure != measured.figure or measured.value > best.value or measured == best
        return bool(trainer.strategy.broadcast(found))

    def _consider(self, trainer: Trainer, measured: _Measured | None, checkpoint: Path) -> None:
        """Have a checkpoint be the best, if it is."""
        if measured is None or not self._is_best(trainer, measured):
            return
        best = self._path("best")
        self.best_model_path, self.monitor = str(best), measured.figure
        self.best_model_score = self.current_score = torch.tensor(measured.value)
        if not isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO):  # which may not have written it yet
            trainer.save_checkpoint(best)
        elif trainer.is_global_zero:
            _link(checkpoint, best)
        if trainer.is_global_zero:
            self._note(measured)

    def _read(self) -> _Measured | None:
        """What ``best.json`` says, where there is a ``best.ckpt``."""
        path = self._path("best")
        try:
            path.stat()
            content = json.loads(path.with_suffix(".json").read_text())
            return _Measured(str(content["figure"]), int(content["iteration"]), float(content["value"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note(self, measured: _Measured) -> None:
        write_whole(self._path("best").with_suffix(".json"), json.dumps(vars(measured)) + "\n")


def keep_last_and_best(trainer: Trainer) -> None:
    """Have a trainer keep these two, unless it keeps nothing or the user keeps the newest in a way of their own."""
    callbacks = _callbacks(trainer)
    kept = [each for each in callbacks if isinstance(each, Checkpoint)]
    own = [each for each in kept if not _is_lightnings_own(each)]
    if not kept or any(_keeps_newest(each) for each in own):
        return
    callbacks[:] = [each for each in callbacks if each not in kept or each in own] + [LastAndBest()]


def _is_lightnings_own(callback: Checkpoint) -> bool:
    """Whether it is the one that a trainer has to which nothing was said."""
    return type(callback) is ModelCheckpoint and vars(callback) == vars(ModelCheckpoint())


def _keeps_newest(callback: Checkpoint) -> bool:
    if isinstance(callback, LastAndBest):
        return True
    if not isinstance(callback, ModelCheckpoint):
        return False
    of_iterations = bool(callback.every_n_epochs) and not callback.save_weights_only
    return bool(callback.save_last) or (of_iterations and callback.monitor is None and callback.save_top_k != 0)


def _callbacks(trainer: Trainer) -> list[Any]:
    return cast(Any, trainer).callbacks


def _link(path: Path, name: Path) -> None:
    """Have a second name for a file, in one go; a copy where the disk knows no second names."""
    if name.exists() and path.samefile(name):
        return
    partial = name.with_name(f".{name.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:
        shutil.copy2(path, partial)
    partial.replace(name)
