"""Evaluates the policy on held-out problems before, during and after training, through the rollout engine."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info

from gpo_lightning.metrics import Result, SuccessRate, problem_rewards, result
from gpo_lightning.problems import ProblemSource
from gpo_lightning.running import run_directory
from gpo_lightning.tree import write_trees

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule

HELDOUT = "heldout"


class BenchmarkEvaluation(Callback):
    """Measures success rates and keeps every response.

    Logs ``eval/NAME/accuracy`` with its interval, writes ``evaluation/NAME-ITERATIONS.parquet`` (the responses) and
    ``evaluation/results.json`` to the run directory. A benchmark's ``heldout()`` problems are used.

    Args:
        benchmarks: problem sources by name; ``null`` is the held-out part of ``data.problems``, named ``heldout``.
        every_n_epochs: also evaluate after every so many iterations.
        on_start: evaluate the untrained policy.
        on_end: evaluate the trained one.
    """

    def __init__(
        self,
        benchmarks: dict[str, ProblemSource] | None = None,
        every_n_epochs: int | None = None,
        on_start: bool = True,
        on_end: bool = True,
    ) -> None:
        self.benchmarks, self.every_n_epochs = benchmarks, every_n_epochs
        self.on_start, self.on_end = on_start, on_end
        self.results: dict[str, dict[int, Result]] = {}

    @property
    def state_key(self) -> str:
        """Several of these may stand side by side, each for benchmarks of its own."""
        return self._generate_state_key(benchmarks=sorted(self.benchmarks or {HELDOUT: None}))

    def on_fit_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.on_start:
            self._evaluate(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        done = trainer.current_epoch + 1
        if self.every_n_epochs and done % self.every_n_epochs == 0:
            self._evaluate(trainer, pl_module, done)

    def on_train_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.on_end:
            self._evaluate(trainer, pl_module, trainer.current_epoch)

    def _evaluate(self, trainer: Trainer, module: "GPOModule", iterations: int) -> None:
        """Measure after ``iterations`` iterations, unless a resumed run brought that result along."""
        directory = run_directory(trainer) / "evaluation"
        sources = self.benchmarks or {HELDOUT: module.data.problems}
        for name, source in sources.items():
            measured = self.results.setdefault(name, {})
            if iterations in measured:
                continue
            trees = module.data.respond(module.data.share(source.heldout()), source)
            rate = SuccessRate().to(module.device)
            rate.update(problem_rewards(trees))
            measured[iterations] = result(rate)
            rank_zero_info(f"{name} after {iterations} iterations: {measured[iterations]}")
            write_trees(directory / f"{name}-{iterations:04d}-rank{trainer.global_rank}.parquet", trees)
            for logger in trainer.loggers:
                logger.log_metrics(_scalars(name, measured[iterations]), step=trainer.global_step)
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "results.json").write_text(json.dumps(self.state_dict(), indent=2))

    def state_dict(self) -> dict[str, Any]:
        return {
            name: {str(iterations): asdict(measured) for iterations, measured in results.items()}
            for name, results in self.results.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.results = {
            name: {int(iterations): Result(**measured) for iterations, measured in results.items()}
            for name, results in state_dict.items()
        }


def _scalars(name: str, measured: Result) -> dict[str, float]:
    return {f"eval/{name}/{key}": value for key, value in asdict(measured).items()}
