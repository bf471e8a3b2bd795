"""Keeps every rollout: Parquet files, scalars, and the page of critical steps."""

from collections import Counter
from collections.abc import Sequence
from shutil import copyfile
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer

from gpo_lightning.callbacks.logged import Row, log_table
from gpo_lightning.engines import Purpose
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import explorer
from gpo_lightning.evaluation.explorer.texts import Texts
from gpo_lightning.experience.groups import groups
from gpo_lightning.rollouts import Occupancy, RolloutTree, gather, write_trees
from gpo_lightning.runs import run_directory

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


COMPLETIONS = (
    "problem",
    "prompt",
    "completion",
    "reward",
    "success",
    "answer",
    "gold",
    "critical step",
    "critical text",
    "step advantage",
)
IN_FLIGHT = ("share of the time", "in flight")


class RolloutLog(Callback):
    """Writes ``rollouts/iteration-0000-rank0.parquet`` and a page beside it, and logs what the rollouts were like.

    ``report.html`` is the latest page; ``gpo report RUN`` draws one of all iterations at any time.

    Scalars: ``rewards/NAME`` and ``rewards/NAME_spread`` (mean and standard deviation over the responses sampled from
    the prompt, for each reward function and for their sum, ``rewards/reward``), ``rollouts/success_PURPOSE`` and
    ``rollouts/tokens_PURPOSE`` (mean length), ``rollouts/truncated``, ``rollouts/entropy``,
    ``rollouts/uniform_groups``, and ``count/EVENT`` for everything that was skipped, left out or could not be graded.
    ``rollouts/in_flight_mean`` and ``rollouts/idle_share`` say how full the engine was kept, and a table,
    ``rollouts/in_flight``, what was in flight in each twentieth of the rollouts' time. Another,
    ``rollouts/completions``, shows some responses with their rewards and critical steps in every logger.

    Args:
        page_every: iterations from page to page; the last iteration has one as well. 0 writes none.
        completions: responses in an iteration's table, one a problem; 0 for no table.
    """

    def __init__(self, page_every: int = 1, completions: int = 4) -> None:
        if page_every < 0 or completions < 0:
            raise ConfigError(
                f"RolloutLog: page_every is {page_every} and completions {completions}; neither may be negative."
            )
        self.page_every, self.completions = page_every, completions

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
        log_table(trainer, "rollouts/completions", COMPLETIONS, completion_rows(trees[: self.completions], pl_module))
        if rollouts and rollouts.occupancy:
            log_table(trainer, "rollouts/in_flight", IN_FLIGHT, occupancy_rows(rollouts.occupancy))
        pl_module.log_dict(
            rollout_scalars(samples)
            | group_scalars(gather(group_figures(trees)), gather(surprises(trees)))
            | reward_scalars(rewards)
            | occupancy_scalars(gather([rollouts.occupancy] if rollouts and rollouts.occupancy else []))
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


def occupancy_scalars(occupancies: Sequence[Occupancy]) -> dict[str, float]:
    """How full the ranks' engines were kept, on average."""
    if not occupancies:
        return {}
    return {
        "rollouts/in_flight_mean": fmean(occupancy.mean for occupancy in occupancies),
        "rollouts/idle_share": fmean(occupancy.idle_share for occupancy in occupancies),
    }


def occupancy_rows(occupancy: Occupancy) -> list[Row]:
    """The in-flight curve: end of each part of the time, and the mean in flight in it."""
    curve = occupancy.curve()
    return [((part + 1) / len(curve), count) for part, count in enumerate(curve)]


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


def group_figures(trees: Sequence[RolloutTree]) -> list[bool]:
    """Of each group of at least two graded responses, whether all its rewards are equal."""
    outcomes = [
        [sample.reward for sample in group.samples if sample.reward is not None]
        for group in groups(trees, ("critical", "frontier", "prompt"))
    ]
    return [len(set(rewards)) == 1 for rewards in outcomes if len(rewards) > 1]


def surprises(trees: Sequence[RolloutTree]) -> list[tuple[float, int]]:
    """Negative rollout log-probs summed over each response sampled from the prompt, and its tokens."""
    drawn = [tree.samples[index] for tree in trees for index in tree.trajectories]
    return [(-sum(sample.logprobs), len(sample.logprobs)) for sample in drawn]


def group_scalars(uniform: Sequence[bool], surprise: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Share of groups that teach nothing, and entropy a token.

    The mean surprise of tokens drawn from a distribution is an unbiased estimate of its entropy.

    >>> group_scalars([True, False], [(3.0, 2), (1.0, 2)])
    {'rollouts/uniform_groups': 0.5, 'rollouts/entropy': 1.0}
    """
    scalars = {"rollouts/uniform_groups": fmean(uniform)} if uniform else {}
    tokens = sum(count for _, count in surprise)
    return scalars | ({"rollouts/entropy": sum(total for total, _ in surprise) / tokens} if tokens else {})


def completion_rows(trees: Sequence[RolloutTree], module: "GPOModule") -> list[Row]:
    """One response of each tree for the table: one that was searched, if there is one."""
    texts, rows = Texts(module.policy.tokenizer), list[Row]()
    for tree in trees:
        curve = tree.curves[0] if tree.curves else None
        drawn = [tree.samples[index] for index in tree.trajectories]
        sample = next((each for each in drawn if curve is None or each.tokens == curve.tokens), None)
        if sample is None:
            continue
        critical = (None, None, None)
        if curve is not None:
            critical = (curve.critical, texts.steps(curve)[curve.critical], curve.advantages[curve.critical])
        asked = tree.problem.prompt or "\n".join(message.content for message in tree.problem.messages)
        verdict = (sample.reward, sample.success, sample.answer, tree.problem.answer)
        rows.append((tree.problem.id, asked, texts.response(sample), *verdict, *critical))
    return rows


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
