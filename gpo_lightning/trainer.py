"""Lightning's Trainer with runs that can be stopped anywhere."""

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher  # pyright: ignore
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS

from gpo_lightning.callbacks.last_and_best import keep_last_and_best
from gpo_lightning.callbacks.logged import log_configuration
from gpo_lightning.callbacks.monitored import check_monitored, not_logged
from gpo_lightning.callbacks.rollout_progress import RolloutProgress
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError, Interrupted
from gpo_lightning.module import GPOModule
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.runs.checkpoint import mid_iteration, read_checkpoint
from gpo_lightning.runs.fit_loop import ResumableFitLoop
from gpo_lightning.runs.identity import check_same, scheduled_job
from gpo_lightning.runs.launcher import Launcher, hand_over, handed_over, started_by, take_back
from gpo_lightning.runs.loggers import (
    begin_logging,
    checkpoint_folders,
    folder_of_run,
    go_on_at,
    point_at,
    root_or_folder,
)
from gpo_lightning.runs.quiet import quiet
from gpo_lightning.runs.resume import Resumption, find_job, find_last, resumption
from gpo_lightning.runs.run import Run
from gpo_lightning.runs.signals import StopSignals, requeue, started_again, stopped
from gpo_lightning.runs.strategy import check_origin, check_strategy
from gpo_lightning.runs.watch import Watch
from gpo_lightning.subcommands import Subcommands

quiet()


class GPOTrainer(Subcommands):
    """Adds the subcommands ``explore``, ``diagnose`` and ``export``, and loses nothing when a fit is stopped.

    ``began`` is the time (seconds since the epoch) at which the command was given, where there was one; ``meant`` are
    the keys in which a run that goes on is meant to differ from what it was.
    """

    began: float | None = None
    run: Run | None = None
    meant: tuple[str, ...] = ()
    _folder: Path | None = None
    _goes_on_by_itself = False

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: TRAIN_DATALOADERS | LightningDataModule | None = None,
        val_dataloaders: EVAL_DATALOADERS | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: _PATH | None = None,
        weights_only: bool | None = None,
        run: Path | None = None,
        resume_with: list[str] | None = None,
    ) -> None:
        """Run the full optimization routine.

        Args:
            model: the policy and its loss.
            train_dataloaders: the data module may stand here; loaders are not used, the data module makes them.
            val_dataloaders: not used; the data module makes them.
            datamodule: problems, engine and search.
            ckpt_path: checkpoint to go on from; ``last`` goes on with the latest unfinished run of this configuration.
            weights_only: not used; checkpoints hold tensors and primitives, and nothing else is ever unpickled.
            run: folder of a run to go on with.
            resume_with: keys of the configuration that are meant to differ from the run that goes on, though the
                result changes with them.
        """
        train_dataloaders, datamodule = _data(train_dataloaders, datamodule)
        check_strategy(self)
        if self.progress_bar_callback is not None and not any(isinstance(c, RolloutProgress) for c in _callbacks(self)):
            _callbacks(self).append(RolloutProgress())
        keep_last_and_best(self)
        check_monitored(self, model)
        with self._in_run(ckpt_path, run, resume_with or []) as begin:
            if _first():
                begin_logging(self)
                if self.settings:
                    log_configuration(self.loggers, self.settings)
            self._fit(model, train_dataloaders, val_dataloaders, datamodule, begin)
            if self.run is not None:
                self.run.finish(cast(Any, self.fit_loop.epoch_progress.current).processed)

    def _fit(
        self,
        model: LightningModule,
        train_dataloaders: TRAIN_DATALOADERS | LightningDataModule | None,
        val_dataloaders: EVAL_DATALOADERS | None,
        datamodule: LightningDataModule | None,
        ckpt_path: Path | None,
    ) -> None:
        self.fit_loop = ResumableFitLoop.instead_of(self.fit_loop)
        signals = StopSignals(self._signal_other_ranks, lambda: self._last_resort(datamodule, signals))
        with signals, self._watch(datamodule, signals) as watch:

            def check() -> None:
                signals.check()
                watch.check()

            if isinstance(datamodule, RolloutDataModule):
                datamodule.check_signals = check
            try:
                super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only=True)
                # Nobody is watched any more from here on, so nobody may still be at work.
                self.strategy.barrier("GPOTrainer.fit")
            except (Interrupted, SIGTERMException) as stop:
                raise self._interrupted(datamodule, signals) from stop
            except Exception as error:
                if (told := not_logged(error)) is not None:
                    raise ConfigError(told) from error
                if (lost := watch.explain(error)) is None:
                    raise
                # Ranks that stop as asked do so one after the other, and the last ones find the others gone.
                raise (self._interrupted(datamodule, signals) if signals.received else lost) from error

    def _run(self, model: LightningModule, ckpt_path: _PATH | None = None, weights_only: bool | None = None) -> Any:
        # Lightning's handlers talk to other ranks, and write checkpoints, wherever the signal finds the run.
        cast(Any, self)._signal_connector.register_signal_handlers = lambda: None
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
            self.strategy.checkpoint_io = AtomicCheckpointIO()
        if self._folder is None and _first():
            self._folder = folder_of_run(self)
            point_at(self, self._folder)
        if self.strategy.restore_checkpoint_after_setup:
            self._restore_before_hooks(ckpt_path)
        # Lightning would unpickle, that is run, whatever a checkpoint from another machine holds.
        return super()._run(model, ckpt_path, weights_only=True)

    def _restore_before_hooks(self, ckpt_path: _PATH | None) -> None:
        """Have ``on_fit_start`` find what the checkpoint holds under FSDP2 too, where Lightning restores after it."""
        strategy, connector = cast(Any, self.strategy), cast(Any, self)._checkpoint_connector

        def setup(trainer: Trainer) -> None:
            type(strategy).setup(strategy, trainer)
            type(connector)._restore_modules_and_callbacks(connector, ckpt_path, True)

        strategy.setup, connector._restore_modules_and_callbacks = setup, lambda *_, **__: None

    def _interrupted(self, datamodule: LightningDataModule | None, signals: StopSignals) -> Interrupted:
        directory = self._folder or cast(Any, datamodule).directory
        return Interrupted(stopped(directory, requeue(self.global_rank)), signals.status)

    def _last_resort(self, datamodule: LightningDataModule | None, signals: StopSignals) -> None:
        """End what waits where no exception reaches it; from another thread."""
        if isinstance(datamodule, RolloutDataModule):
            with suppress(Exception):  # whatever it is in the middle of
                datamodule.engine.kill()
        if signals.received:
            self._signal_other_ranks(signal.SIGKILL)
            print(f"gpo: {self._interrupted(datamodule, signals)}", file=sys.stderr, flush=True)
            os._exit(signals.status)

    def _watch(self, datamodule: LightningDataModule | None, signals: StopSignals) -> Watch:
        """Over the other processes of this machine, which this one starts or which started it."""

        def last_resort() -> None:
            self._last_resort(datamodule, signals)

        if not isinstance(self.strategy.launcher, _SubprocessScriptLauncher):
            return Watch(starter=started_by(), last_resort=last_resort)
        launcher = Launcher.instead_of(self.strategy.launcher)
        cast(Any, self.strategy)._launcher = launcher
        return Watch(lambda: launcher.procs, launcher.first_rank, started_by(), last_resort)

    @contextmanager
    def _in_run(self, ckpt_path: _PATH | None, folder: Path | None, meant: list[str]) -> Generator[Path | None]:
        """Within: this process works on a run of its own, new or taken up; gives the checkpoint to go on from."""
        self.meant = tuple(meant)
        handed = handed_over()
        if handed is not None:  # by the first rank of this machine, which has the lock
            self._folder, begin = handed
        else:
            found = self._taken_up(ckpt_path, folder, meant)
            begin = self._checked(ckpt_path, found, meant)
            if _first():
                self.run = Run.begin(folder_of_run(self), self.settings) if found is None else found.run
                if found is not None:
                    self.run.work()
                self._folder = self.run.folder
                hand_over(self._folder, begin)
                point_at(self, self._folder, self.run.identity.id)
                self._goes_on_by_itself = found is not None
                if found is not None and found.checkpoint is None:
                    go_on_at(self, 0, {"files": {}, "scalars": {}})
                elif found is not None and found.checkpoint is not None and found.checkpoint.logged:
                    go_on_at(self, found.checkpoint.steps, found.checkpoint.logged)
        try:
            yield begin
        finally:
            take_back()
            if self.run is not None:
                self.run.rest()

    def _taken_up(self, ckpt_path: _PATH | None, folder: Path | None, meant: list[str]) -> Resumption | None:
        """The run that is asked for, by the user or by a scheduler that starts a job again."""
        name = "Started again" if ckpt_path is None else "--ckpt_path last"
        if folder is not None:
            name, run = f"--run {folder}", Run.read(folder)
            check_same(folder, run.identity.config, self.settings, meant)
        elif ckpt_path == "last":
            run = find_last(root_or_folder(self), self.settings, meant, self._more_than)
        elif ckpt_path is None and started_again() and (job := scheduled_job()):
            run = find_job(root_or_folder(self), job, self.settings, meant)
        else:
            return None
        if run is None:
            return None
        found = resumption(run, checkpoint_folders(self))
        for complaint in found.complaints:
            rank_zero_info(f"Passed over: {complaint}")
        if others := run.identity.made_by_others():
            rank_zero_info(f"{run.folder} was begun with other versions, so it does not go on to the bit: {others}.")
        if found.checkpoint is None:
            rank_zero_info(f"{name}: {run.folder} has no checkpoint yet, so it begins anew with what it journaled.")
        else:
            rank_zero_info(
                f"{name}: {found.checkpoint.path}, after {found.checkpoint.iterations} iterations and "
                f"{found.checkpoint.steps} optimiser steps."
            )
        return found

    def _checked(self, ckpt_path: _PATH | None, found: Resumption | None, meant: list[str]) -> Path | None:
        """The checkpoint, if this configuration can go on from it."""
        if found is not None:
            checkpoint = found.checkpoint
        elif ckpt_path is None or not Path(ckpt_path).is_file():
            return None if ckpt_path is None else Path(ckpt_path)
        else:
            checkpoint = read_checkpoint(Path(ckpt_path))
            if checkpoint.run is not None:
                check_same(checkpoint.path, checkpoint.run.config, self.settings, meant)
        if checkpoint is None:
            return None
        if not checkpoint.between:
            raise ConfigError(mid_iteration(checkpoint.path))
        check_origin(self, checkpoint)
        return checkpoint.path

    def _more_than(self, iterations: int) -> bool:
        """Whether a run that ended after so many iterations is not at its end by this configuration."""
        return self.max_epochs is None or self.max_epochs == -1 or self.max_epochs > iterations

    @property
    def log_dir(self) -> str | None:
        """The run's folder, whatever the logger. Every rank must call it."""
        if self.state.fn is None:
            return super().log_dir
        return self.strategy.broadcast(None if self._folder is None else str(self._folder))

    def save_checkpoint(
        self, filepath: _PATH, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        # What the loggers still hold back would be lost by a kill after the checkpoint, for it is not logged again.
        cast(GPOModule, self.lightning_module).check_weights()
        for logger in self.loggers:
            logger.save()
        super().save_checkpoint(filepath, weights_only, storage_options)
        if self._goes_on_by_itself:
            # Lightning never removes the checkpoint that a run went on from, which so would keep one for each stop.
            self.ckpt_path = None
        data = cast(Any, self).datamodule
        if isinstance(data, RolloutDataModule) and not weights_only:
            data.forget_rollouts(before=self.current_epoch)

    def _signal_other_ranks(self, signum: int) -> None:
        launcher: Any = self.strategy.launcher
        if launcher is not None:
            launcher.kill(signum)


def _data(loaders: Any, datamodule: LightningDataModule | None) -> tuple[Any, LightningDataModule]:
    """Loaders and data module, whichever place the data module was given in.

    Raises:
        ConfigError: there is none.
    """
    given = loaders if datamodule is None else datamodule
    if isinstance(given, LightningDataModule):
        return None if given is loaders else loaders, given
    raise ConfigError(
        f"GPOTrainer.fit needs a RolloutDataModule, and was given {type(given).__name__}: the policy makes the data it "
        "learns from. Write GPOTrainer().fit(module, RolloutDataModule(problems=...))."
    )


def _callbacks(trainer: Trainer) -> list[Callback]:
    return cast(Any, trainer).callbacks


def _first() -> bool:
    """Whether this is the first of all ranks, which is known before they have met."""
    return getattr(rank_zero_only, "rank", 0) == 0
