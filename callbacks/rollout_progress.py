"""Says what the rollout phase is doing, how fast, and how much is left."""

from time import perf_counter
from typing import TYPE_CHECKING

from lightning import Callback, Trainer
from rich.console import Console

from gpo_lightning.rollouts import Progress

if TYPE_CHECKING:
    from gpo_lightning.datamodule import RolloutDataModule
    from gpo_lightning.module import GPOModule


class RolloutProgress(Callback):
    """Prints a line every few seconds of a rollout phase, and one for each finished iteration.

    Args:
        every_seconds: time between lines within a phase.
    """

    def __init__(self, every_seconds: float = 10.0) -> None:
        self.every_seconds = every_seconds
        self._console = Console(stderr=True)
        self._phase, self._begin, self._last = "", 0.0, 0.0

    def report(self, data: "RolloutDataModule") -> None:
        """Follow the rollouts of a data module, with or without a trainer around it."""
        data.listener = self._listen

    def setup(self, trainer: Trainer, pl_module: "GPOModule", stage: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.is_global_zero:
            self.report(pl_module.data)

    def _listen(self, progress: Progress) -> None:
        now = perf_counter()
        if progress.phase != self._phase or progress.done <= 1:
            self._phase, self._begin, self._last = progress.phase, now, now
        if now - self._last < self.every_seconds or now == self._begin:
            return
        self._last = now
        rate = progress.done / (now - self._begin)
        left = (progress.asked - progress.done) / rate
        speed = progress.tokens / (now - self._begin)
        self._console.print(
            f"  {progress.phase}: {progress.done:,} of {progress.asked:,}, {speed:,.0f} tokens/s, {left:,.0f} s left",
            highlight=False,
        )

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
