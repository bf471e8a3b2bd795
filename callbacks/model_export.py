"""Leaves the trained policy in the run directory, as peft, transformers and vLLM read it."""

from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer

from gpo_lightning.hyperparameters import class_path
from gpo_lightning.runs import run_directory
from gpo_lightning.runs.model_folder import Training, write_model

if TYPE_CHECKING:
    from gpo_lightning.datamodule import RolloutDataModule
    from gpo_lightning.module import GPOModule


class ModelExport(Callback):
    """Writes ``adapter/`` when training ends; ``model/``, a whole model, where there is no adapter.

    The tokenizer, its chat template and a model card lie beside the weights.

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
        policy, told = pl_module.policy, training(pl_module, pl_module.data)
        if policy.lora is not None:
            write_model(directory / "adapter", policy, told, directory)
        if self.merged or policy.lora is None:
            write_model(directory / "model", policy, told, directory, merged=True)


def training(module: "GPOModule", data: "RolloutDataModule") -> Training:
    """How a policy was trained, for its model card."""
    starts = f"resets to critical steps ({type(data.search).__name__})"
    source: Any = getattr(data.problems, "source", data.problems)
    return Training(
        method=f"Guided Pivotal Optimization, {starts if data.starts.searches else type(data.starts).__name__}",
        loss=class_path(type(module.loss)),
        data=class_path(type(source)),
        tokens={str(why): spent.generated for why, spent in data.engine.ledger.accounts.items() if spent.generated},
    )
