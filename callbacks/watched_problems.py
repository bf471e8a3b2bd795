"""Asks the same problems again in the course of training, so that one sees a turn being learnt."""

from typing import TYPE_CHECKING

from lightning import Callback, Trainer

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import explorer
from gpo_lightning.evaluation.benchmark import subset
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import read_trees, write_trees
from gpo_lightning.runs import run_directory

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class WatchedProblems(Callback):
    """Values the steps of solutions to a few held-out problems, before training and again as it goes on.

    Writes ``watched/after-0000-rank0.parquet`` and ``watched.html`` in the run's folder: the page on which each problem
    stands once for every time it was asked. Training learns the same with and without it; its tokens count as
    evaluation.

    Args:
        problems: how many; always the same ones.
        every_n_epochs: iterations from one look to the next.
        seed: draws the problems; apart from ``seed_everything``, so that runs compare on the same ones.
    """

    def __init__(self, problems: int = 8, every_n_epochs: int = 1, seed: int = 0) -> None:
        self.problems, self.every_n_epochs, self.seed = problems, every_n_epochs, seed
        for name in ("problems", "every_n_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"WatchedProblems.{name} is {getattr(self, name)}; it must be at least 1.")

    def on_fit_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.ckpt_path is None:  # a run that goes on was looked at when it began
            self._watch(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        iterations = trainer.current_epoch + 1
        if iterations % self.every_n_epochs == 0:
            self._watch(trainer, pl_module, iterations)

    def _watch(self, trainer: Trainer, module: "GPOModule", iterations: int) -> None:
        trees = module.data.watch(self._chosen(module), iterations)
        folder = run_directory(trainer) / "watched"
        write_trees(folder / f"after-{iterations:04d}-rank{trainer.global_rank}.parquet", trees)
        trainer.strategy.barrier("watched")
        if trainer.is_global_zero:
            # Also what was seen before the run was taken up again.
            kept = [tree for path in sorted(folder.glob("after-*.parquet")) for tree in read_trees(path)]
            explorer.write_page(folder.with_suffix(".html"), kept, "Watched problems", module.policy.tokenizer)

    def _chosen(self, module: "GPOModule") -> tuple[Problem, ...]:
        return subset(module.data.heldout.problems, self.problems, self.seed)
