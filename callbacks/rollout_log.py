"""Keeps every rollout: Parquet files, scalars, and the page of critical steps."""

from collections import Counter
from collections.abc import Sequence
from shutil import copyfile
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer

from gpo_lightning.engines import Purpose
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import explorer
from gpo_lightning.rollouts import RolloutTree, gather, write_trees
from gpo_lightning.runs import run_directory

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class RolloutLog(Callback):
    """Writes ``rollouts/iteration-0000-rank0.parquet`` and a page beside it, and logs what the rollouts were like.

    ``report.html`` is the latest page; ``gpo report RUN`` draws one of all iterations at any time.

    Scalars: ``rewards/NAME`` and ``rewards/NAME_spread`` (mean and standard deviation over the responses sampled from
    the prompt, for each reward function and for their sum, ``rewards/reward``), ``rollouts/success_PURPOSE`` and
    ``rollouts/tokens_PURPOSE`` (mean length), ``rollouts/truncated``, and ``count/EVENT`` for everything that was
    skipped, left out or could not be graded.

    Args:
        page_every: iterations from page to page; the last iteration has one as well. 0 writes none.
    """

    def __init__(self, page_every: int = 1) -> None:
        if page_every < 0:
            raise ConfigError(f"RolloutLog: page_every is {page_every}; it must not be negative.")
        self.page_every = page_every

    def on_train_epoch_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        rollouts = pl_module.data.rollouts
        directory = run_directory(trainer)
        trees = rollouts.trees if rollouts else []
        name = f"iteration-{trainer.current_epoch:04d}-rank{trainer.global_rank}.parquet"
        write_trees(directory / "rollouts" / name, trees)
        if trainer.is_global_zero and self._is_page_due(trainer):
            title = f"Iteration {trainer.current_epoch}"
            tokenizer = pl_module.policy.tokenizer
            page = directory / "rollouts" / name.replace(".parquet", ".html")
            explorer.write_page(page, trees, title, tokenizer)
            copyfile(page, directory / "report.html")
        counts = sum(gather([rollouts.counts] if rollouts else []), Counter[str]())
        samples, rewards = gather(sample_figures(trees)), gather(reward_figures(trees))
        pl_module.log_dict(
            rollout_scalars(samples)
            | reward_scalars(rewards)
            | {f"count/{event}": float(count) for event, count in counts.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,
        )

    def _is_page_due(self, trainer: Trainer) -> bool:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        return self.page_every > 0 and (trainer.current_epoch % self.page_every == 0 or last)

    def on_predict_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        trainer: Trainer,
        pl_module: "GPOModule",
        outputs: list[RolloutTree],
        batch: Any,
        batch_idx: int,
        *rest: Any,
    ) -> None:
        """Keep what ``gpo predict`` answered: ``predictions-rank0.parquet``."""
        write_trees(run_directory(trainer) / f"predictions-rank{trainer.global_rank}.parquet", outputs)


Figures = tuple[str, float | None, int, bool]


def sample_figures(trees: Sequence[RolloutTree]) -> list[Figures]:
    """Purpose, success, generated tokens and truncation of each sample."""
    return [
        (str(sample.purpose), sample.success, len(sample.tokens) - sample.start, sample.truncated)
        for tree in trees
        for sample in tree.samples
    ]


def reward_figures(trees: Sequence[RolloutTree]) -> list[tuple[str, float]]:
    """Name and value of each part of the reward, and of their sum, for each response sampled from the prompt."""
    drawn = [tree.samples[index] for tree in trees for index in tree.trajectories]
    named = [(name, value) for sample in drawn for name, value in {**sample.parts, "reward": sample.reward}.items()]
    return [(name, value) for name, value in named if value is not None]


def reward_scalars(figures: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Mean and spread of each name's values.

    >>> reward_scalars([("format", 0.0), ("format", 1.0)])
    {'rewards/format': 0.5, 'rewards/format_spread': 0.5}
    """
    values: dict[str, list[float]] = {}
    for name, value in figures:
        values.setdefault(name, []).append(value)
    means = {f"rewards/{name}": fmean(own) for name, own in values.items()}
    return means | {f"rewards/{name}_spread": pstdev(own) for name, own in values.items()}


def rollout_scalars(samples: Sequence[Figures]) -> dict[str, float]:
    """Means by purpose; a purpose without samples is left out."""
    scalars: dict[str, float] = {}
    for purpose in Purpose:
        own = [sample for sample in samples if sample[0] == purpose]
        graded = [success for _, success, _, _ in own if success is not None]
        if graded:
            scalars[f"rollouts/success_{purpose}"] = sum(graded) / len(graded)
        if own:
            scalars[f"rollouts/tokens_{purpose}"] = sum(tokens for _, _, tokens, _ in own) / len(own)
    if samples:
        scalars["rollouts/truncated"] = sum(truncated for *_, truncated in samples) / len(samples)
    return scalars
