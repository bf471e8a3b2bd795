"""Lightning's Trainer with what people do besides fitting, and with runs that can be stopped anywhere."""

import os
import sys
from pathlib import Path
from typing import Any, cast

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher  # pyright: ignore
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import EVAL_DATALOADERS, TRAIN_DATALOADERS

from gpo_lightning.callbacks.rollout_progress import RolloutProgress
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError, Interrupted
from gpo_lightning.evaluation import Diagnosis, diagnose, errors_found, explorer
from gpo_lightning.module import GPOModule
from gpo_lightning.problems import LabelledSource
from gpo_lightning.rollouts import Frontier, Rollouts, write_trees
from gpo_lightning.runs import (
    JOURNAL,
    AtomicCheckpointIO,
    Launcher,
    ResumableFitLoop,
    StopSignals,
    Watch,
    check_origin,
    check_strategy,
    find_last_run,
    read_checkpoint,
    started_by,
)
from gpo_lightning.runs.checkpoint import mid_iteration
from gpo_lightning.runs.last_run import go_on_in
from gpo_lightning.runs.signals import EXIT_CODE, requeue, requeued, stopped


class GPOTrainer(Trainer):
    """Adds the subcommands ``explore``, ``diagnose`` and ``export``, and loses nothing when a fit is stopped.

    ``began`` is the time (seconds since the epoch) at which the command was given, where there was one.
    """

    began: float | None = None

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: TRAIN_DATALOADERS | LightningDataModule | None = None,
        val_dataloaders: EVAL_DATALOADERS | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: _PATH | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Run the full optimization routine.

        Args:
            model: the policy and its loss.
            train_dataloaders: the data module may stand here; loaders are not used, the data module makes them.
            val_dataloaders: not used; the data module makes them.
            datamodule: problems, engine and search.
            ckpt_path: checkpoint to go on from; ``last`` goes on with the latest run where it was stopped.
            weights_only: as in ``torch.load``.
        """
        train_dataloaders, datamodule = _data(train_dataloaders, datamodule)
        if ckpt_path == "last" or (ckpt_path is None and requeued()):
            ckpt_path = self._take_up_last_run()
        check_strategy(self)
        if ckpt_path is not None and Path(ckpt_path).is_file():
            checkpoint = read_checkpoint(Path(ckpt_path))
            if not checkpoint.between:
                raise ConfigError(mid_iteration(Path(ckpt_path)))
            check_origin(self, checkpoint)
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
            self.strategy.checkpoint_io = AtomicCheckpointIO()
        self.fit_loop = ResumableFitLoop.instead_of(self.fit_loop)
        with StopSignals(self._signal_other_ranks) as signals, self._watch(datamodule, signals) as watch:

            def check() -> None:
                signals.check()
                watch.check()

            if isinstance(datamodule, RolloutDataModule):
                datamodule.check_signals = check
            # Lightning's handlers talk to other ranks, and write checkpoints, wherever the signal finds the run.
            cast(Any, self)._signal_connector.register_signal_handlers = lambda: None
            try:
                super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)
                # Nobody is watched any more from here on, so nobody may still be at work.
                self.strategy.barrier("GPOTrainer.fit")
            except (Interrupted, SIGTERMException) as stop:
                raise self._interrupted(datamodule) from stop
            except Exception as error:
                if (lost := watch.explain(error)) is None:
                    raise
                # Ranks that stop as asked do so one after the other, and the last ones find the others gone.
                raise (self._interrupted(datamodule) if signals.received else lost) from error

    def _interrupted(self, datamodule: LightningDataModule | None) -> Interrupted:
        directory = cast(Any, datamodule).directory
        return Interrupted(stopped(directory, requeue(self.global_rank)))

    def _watch(self, datamodule: LightningDataModule | None, signals: StopSignals) -> Watch:
        """Over the other processes of this machine, which this one starts or which started it."""

        def last_resort() -> None:
            if isinstance(datamodule, RolloutDataModule):
                datamodule.engine.kill()
            if signals.received:
                print(f"gpo: {self._interrupted(datamodule)}", file=sys.stderr, flush=True)
                os._exit(EXIT_CODE)

        if not isinstance(self.strategy.launcher, _SubprocessScriptLauncher):
            return Watch(starter=started_by(), last_resort=last_resort)
        launcher = Launcher.instead_of(self.strategy.launcher)
        cast(Any, self.strategy)._launcher = launcher
        return Watch(lambda: launcher.procs, launcher.first_rank, started_by(), last_resort)

    def _take_up_last_run(self) -> Path | None:
        """The checkpoint to go on from, if there is one; loggers and journal go on in its run's folder."""
        last = find_last_run(self)
        if last is None:
            rank_zero_info("--ckpt_path last: no earlier run is here, so this one begins.")
            return None
        for complaint in last.complaints:
            rank_zero_info(f"Passed over: {complaint}")
        if last.version is not None:
            go_on_in(self, last.version)
        if last.checkpoint is None:
            rank_zero_info(
                f"--ckpt_path last: {last.directory} has no checkpoint yet, so it begins anew with what it journaled."
            )
            return None
        rank_zero_info(
            f"--ckpt_path last: {last.checkpoint.path}, after {last.checkpoint.iterations} iterations and "
            f"{last.checkpoint.steps} optimiser steps."
        )
        return last.checkpoint.path

    def save_checkpoint(
        self, filepath: _PATH, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        # What the loggers still hold back would be lost by a kill after the checkpoint, for it is not logged again.
        for logger in self.loggers:
            logger.save()
        super().save_checkpoint(filepath, weights_only, storage_options)
        data = cast(Any, self).datamodule
        if isinstance(data, RolloutDataModule) and not weights_only:
            data.forget_rollouts(before=self.current_epoch)

    def _signal_other_ranks(self, signum: int) -> None:
        launcher: Any = self.strategy.launcher
        if launcher is not None:
            launcher.kill(signum)

    def explore(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        output: Path = Path("runs/explore"),
        ckpt_path: str | None = None,
        labelled: LabelledSource | None = None,
    ) -> Rollouts:
        """Search the critical steps of a policy on problems, without training.

        Killed, and started again with the same command, it goes on with what it had finished (``OUTPUT/journal``).

        Args:
            model: the policy.
            datamodule: problems, engine and search.
            output: folder for ``rollouts.parquet`` and ``report.html``.
            ckpt_path: checkpoint whose trained weights are explored.
            labelled: responses with a known first mistake, to look for it in them instead of in the policy's own.
        """
        self._load(model, ckpt_path)
        RolloutProgress().report(datamodule)
        datamodule.journal_in(output / JOURNAL)
        try:
            if labelled is None:
                rollouts = datamodule.explore(model.policy, iteration=0)
            else:
                trajectories, rollouts = datamodule.examine(model.policy, labelled)
                print(f"Critical step is the first wrong one: {errors_found(trajectories, rollouts.trees)}")
            write_trees(output / "rollouts.parquet", rollouts.trees)
            explorer.write_page(output / "report.html", rollouts.trees, tokenizer=model.policy.tokenizer)
            # Nobody will ask the journal again.
            datamodule.teardown("explore")
        finally:
            datamodule.close()
        curves = sum(len(tree.curves) for tree in rollouts.trees)
        print(f"{len(rollouts.trees)} problems, {curves} trajectories explored.")
        print(f"Rollouts: {output / 'rollouts.parquet'}\nReport:   {output / 'report.html'} (open it in a browser)")
        return rollouts

    def diagnose(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        iterations: int = 8,
        ckpt_path: str | None = None,
    ) -> Diagnosis:
        """Say whether critical steps would help a policy on problems, before training it.

        Batches of rollouts are drawn at the present weights; how well the gradient of each method's batch points where
        success rises, for the tokens it cost, is printed as a table and in words.

        Args:
            model: the policy.
            datamodule: problems and engine; ``data.plan`` says how large a batch is.
            iterations: batches; the more, the finer the differences that can be told.
            ckpt_path: checkpoint whose trained weights are examined.
        """
        self._load(model, ckpt_path)
        RolloutProgress().report(datamodule)
        try:
            searched = datamodule.starts.searches and datamodule.plan.reset_probability > 0
            made = [datamodule.explore(model.policy, i).trees for i in range(iterations)] if searched else []
            datamodule.starts = Frontier()
            frontier = [datamodule.explore(model.policy, i).trees for i in range(iterations)]
            found = diagnose(model.policy, frontier, made)
        finally:
            datamodule.close()
        print("\n".join([found.table(), "", *found.advice()]))
        return found

    def export(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        output: Path = Path("export"),
        ckpt_path: str | None = None,
        merged: bool = False,
    ) -> None:
        """Write the adapter, or the merged model, for peft, transformers and vLLM.

        Args:
            model: the policy.
            datamodule: not used; LightningCLI gives it to every subcommand.
            output: folder to write.
            ckpt_path: checkpoint whose trained weights are exported.
            merged: fold the adapter into the base weights and write a whole model.
        """
        self._load(model, ckpt_path)
        output.mkdir(parents=True, exist_ok=True)
        if merged or model.policy.lora is None:
            model.policy.export_merged(output)
        else:
            model.policy.export_adapter(output)
        print(f"Wrote {output}")

    def _load(self, model: GPOModule, ckpt_path: str | None) -> None:
        model.configure_model()
        if ckpt_path is not None:
            model.load_trained(ckpt_path)
        model.to(self.strategy.root_device)


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
