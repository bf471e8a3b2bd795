"""Lightning's fit loop, which also does what was left to do after the last iteration."""

from typing import cast

from lightning.pytorch.loops.fit_loop import _FitLoop  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.loops.progress import _ProcessedTracker  # pyright: ignore[reportPrivateUsage]


class ResumableFitLoop(_FitLoop):
    """A run that was killed after its last checkpoint has its final evaluation and export still before it.

    Lightning sees that every epoch is done and skips all of ``on_train_end``.
    """

    @classmethod
    def instead_of(cls, loop: _FitLoop) -> "ResumableFitLoop":
        new = cls(loop.trainer, loop.min_epochs, loop.max_epochs)
        new.epoch_loop = loop.epoch_loop
        return new

    @property
    def finished_iterations(self) -> int:
        """Iterations that have been learnt from. Lightning's ``current_epoch`` lags where a run is taken up again."""
        return cast(_ProcessedTracker, self.epoch_progress.current).processed

    @property
    def over(self) -> bool:
        """Whether nothing is left to learn."""
        steps, epochs = self.max_steps, self.max_epochs
        enough_steps = steps not in (None, -1) and self.epoch_loop.global_step >= steps
        return (
            enough_steps
            or (epochs not in (None, -1) and self.finished_iterations >= epochs)
            or self.trainer.should_stop
        )

    @property
    def skip(self) -> bool:
        return super().skip and not (self.is_resuming and self.over)

    def _warn_if_modules_in_eval_mode(self) -> None:
        """Lightning's warning is left out: the base model is in eval mode by ``model.policy.dropout``."""
