"""Leaves the trained policy in the run directory, as peft, transformers and vLLM read it."""

from typing import TYPE_CHECKING

from lightning import Callback, Trainer

from gpo_lightning.runs import run_directory

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class ModelExport(Callback):
    """Writes ``adapter/`` when training ends; ``model/``, a whole model, where there is no adapter.

    Args:
        merged: also write ``model/`` with the adapter folded in, as a base for further runs.
    """

    def __init__(self, merged: bool = False) -> None:
        self.merged = merged

    def on_train_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        directory = run_directory(trainer)
        pl_module.policy.gather()
        if not trainer.is_global_zero:
            return
        adapted = pl_module.policy.lora is not None
        if adapted:
            pl_module.policy.export_adapter(directory / "adapter")
        if self.merged or not adapted:
            pl_module.policy.export_merged(directory / "model")
