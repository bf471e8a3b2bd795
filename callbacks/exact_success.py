"""Success without sampling noise, as training goes on."""

import json
from typing import TYPE_CHECKING

from lightning import Callback, Trainer

from gpo_lightning.callbacks.token_budget import tokens_spent
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.exact import Worked, success_of_solutions, work
from gpo_lightning.problems.step_checked import StepChecked
from gpo_lightning.runs import run_directory

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class ExactSuccess(Callback):
    """Writes ``exact/after-0000.json`` before training and after iterations: the probability of the right solution.

    It is the mean over held-out problems, calculated and not sampled, beside the tokens that rollouts have cost so far;
    logged as ``val/exact_success``. Only for problems whose every step can be checked.

    Args:
        every_n_epochs: iterations between measurements.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs
        self._solutions: list[Worked] = []
        if every_n_epochs < 1:
            raise ConfigError(f"ExactSuccess.every_n_epochs is {every_n_epochs}; it must be at least 1.")

    def on_fit_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.ckpt_path is None:  # a run that goes on was measured when it began
            self._measure(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        iterations = trainer.current_epoch + 1
        if iterations % self.every_n_epochs == 0:
            pl_module.log("val/exact_success", self._measure(trainer, pl_module, iterations))

    def _measure(self, trainer: Trainer, module: "GPOModule", iterations: int) -> float:
        source = module.data.problems
        if not isinstance(source, StepChecked):
            raise ConfigError(
                f"ExactSuccess: the steps of data.problems={type(source).__name__} cannot be checked, so that success "
                "must be sampled. Take BenchmarkEvaluation instead."
            )
        if not self._solutions:
            self._solutions = [work(module.policy, source, problem) for problem in source.heldout()]
        success = float(success_of_solutions(module.policy, self._solutions).mean())
        generated, prefilled = tokens_spent(module)
        if trainer.is_global_zero:
            path = run_directory(trainer) / "exact" / f"after-{iterations:04d}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {"success": success, "generated": generated, "prefilled": prefilled, "steps": trainer.global_step}
            path.write_text(json.dumps(found) + "\n")
        return success
