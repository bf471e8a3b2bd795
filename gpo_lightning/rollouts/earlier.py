"""Own successes of earlier iterations, one a problem: where groups can start when nothing succeeds now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpo_lightning.engines import Purpose
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts.ranks import gather
from gpo_lightning.rollouts.tree import RolloutTree, Sample


@dataclass(frozen=True, slots=True)
class Earlier:
    """A success of an earlier iteration.

    Args:
        problem: that it solves.
        sample: the response.
        rate: mean success of the group it was drawn in.
        iteration: when.
    """

    problem: Problem
    sample: Sample
    rate: float
    iteration: int


class EarlierSuccesses:
    """The newest successes of a run, the same on all ranks.

    What an iteration finds here depends on the iterations before it alone, so that one that is made again, because
    the run was stopped within it, finds the same.

    Args:
        most: problems of which a success is kept; the oldest are given up first.
    """

    def __init__(self, most: int = 256) -> None:
        self.most = most
        self._kept: list[Earlier] = []

    def before(self, iteration: int) -> list[Earlier]:
        """The newest success of each problem, of iterations before one, oldest first."""
        newest: dict[str, Earlier] = {}
        for its in self._kept:
            if its.iteration < iteration:
                newest.pop(its.problem.id, None)
                newest[its.problem.id] = its
        return list(newest.values())[-self.most :]

    def add(self, trees: Iterable[RolloutTree], iteration: int) -> None:
        """Keep a success of each problem that an iteration solved from the prompt; all ranks call it together."""
        found = [its for tree in trees if (its := _success(tree, iteration)) is not None]
        self._kept = self.before(iteration) + gather(found)

    def state_dict(self) -> list[dict[str, Any]]:
        return [
            {
                "problem": its.problem.id,
                "tokens": list(its.sample.tokens),
                "logprobs": list(its.sample.logprobs),
                "success": its.sample.success,
                "version": its.sample.version,
                "rate": its.rate,
                "iteration": its.iteration,
            }
            for its in self._kept
        ]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], problems: Mapping[str, Problem]) -> None:
        """Take up what :meth:`state_dict` gave; successes of problems that are no more are given up.

        Args:
            state: of a checkpoint.
            problems: by their id.
        """
        self._kept = [
            Earlier(problems[row["problem"]], _sample(row), row["rate"], row["iteration"])
            for row in state
            if row["problem"] in problems
        ]


def _success(tree: RolloutTree, iteration: int) -> Earlier | None:
    drawn = [tree.samples[index] for index in tree.trajectories]
    graded = [sample.success for sample in drawn if sample.success is not None]
    right = next((sample for sample in drawn if sample.right), None)
    return None if right is None else Earlier(tree.problem, right, sum(graded) / len(graded), iteration)


def _sample(row: Mapping[str, Any]) -> Sample:
    tokens, logprobs = tuple(row["tokens"]), tuple(row["logprobs"])
    return Sample(tokens, 0, logprobs, row["success"], "earlier", False, Purpose.SAMPLE, row["version"])
