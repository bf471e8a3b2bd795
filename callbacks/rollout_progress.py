"""Says what a run is doing, how fast, and how much is left."""

from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer
from rich.console import Console

from gpo_lightning.callbacks.display import Display, LiveBar, PlainLines
from gpo_lightning.rollouts import Progress

if TYPE_CHECKING:
    from gpo_lightning.datamodule import RolloutDataModule
    from gpo_lightning.module import GPOModule


class RolloutProgress(Callback):
    """One bar of what is done now: engine starting, rollouts, learning, evaluating.

    Of rollouts it counts problems that are through; beside them stands how many continuations are in flight, and what
    for (sampling, valuing, resetting), since some problems are sampled while the steps of others are valued.

    It stands in the place of Lightning's own bar, and lives while nothing has finished yet. Where there is no
    terminal, or ``trainer.enable_progress_bar`` is false, plain lines say the same every few seconds. Each finished
    iteration leaves a line. ``GPOTrainer`` adds one where there is none.

    Args:
        every_seconds: time between plain lines.
    """

    def __init__(self, every_seconds: float = 10.0) -> None:
        self.every_seconds = every_seconds
        self._console = Console(stderr=True)
        self._display: Display = PlainLines(self._console, every_seconds)

    def report(self, data: "RolloutDataModule", live: bool = True) -> None:
        """Follow the rollouts of a data module, with or without a trainer around it, until :meth:`close`."""
        if live and self._console.is_terminal:
            self._display = LiveBar(self._console)
        data.listener = self._display.show

    def close(self) -> None:
        """Take the bar away."""
        self._display.close()

    def setup(self, trainer: Trainer, pl_module: "GPOModule", stage: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.is_global_zero:
            lightnings = trainer.progress_bar_callback
            self.report(pl_module.data, live=lightnings is not None)
            if lightnings is not None:
                lightnings.disable()

    def on_train_batch_start(self, trainer: Trainer, pl_module: "GPOModule", batch: Any, batch_idx: int) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.is_global_zero:
            self._display.show(Progress("learning", batch_idx, int(trainer.num_training_batches), 0))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        rollouts = pl_module.data.rollouts
        if rollouts is None or not trainer.is_global_zero:
            return
        outcomes = [tree.samples[i].success for tree in rollouts.trees for i in tree.trajectories]
        graded = [success for success in outcomes if success is not None]
        success = f"{100 * sum(graded) / len(graded):.1f} %" if graded else "none graded"
        curves = sum(len(tree.curves) for tree in rollouts.trees)
        seconds = sum(rollouts.seconds.seconds.values())
        self._console.print(
            f"Iteration {trainer.current_epoch}: success {success} of {len(graded):,} trajectories, "
            f"{curves:,} critical steps, {rollouts.counts['examples']:,} examples, {seconds:.1f} s of rollouts",
            highlight=False,
        )
        if not rollouts.counts["examples"]:
            outcomes = [{tree.samples[i].success for i in tree.trajectories} for tree in rollouts.trees]
            uniform = graded and all(len(group) == 1 for group in outcomes if group)
            why = ": in every group all responses are worth the same" if uniform else ""
            self._console.print(f"Nothing to learn from in this iteration{why}.", highlight=False)
            unread = rollouts.counts["graded_unparsed"]
            judged = sum(count for name, count in rollouts.counts.items() if name.startswith("graded_"))
            if 2 * unread > judged:
                said = f"{unread:,} of {judged:,} responses have no answer in the form that the grader looks for"
                self._console.print(f"{said}: look at some (RolloutLog keeps them), or change data.rewards.")

    def on_exception(self, trainer: Trainer, pl_module: "GPOModule", exception: BaseException) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.close()

    def teardown(self, trainer: Trainer, pl_module: "GPOModule", stage: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.close()
