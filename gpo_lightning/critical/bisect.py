"""Best-first bisection: look where the value changes most, halve that stretch, and look again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

import torch

from gpo_lightning.critical.search import SearchStrategy, Targets, carried_values
from gpo_lightning.critical.selectors import Selector
from gpo_lightning.critical.state import TrajectoryState
from gpo_lightning.errors import ConfigError

Halves = Literal["steps", "surprisal"]


@dataclass(frozen=True)
class Bisect(SearchStrategy):
    """Values the middle of the stretch that the selector likes best, until that stretch is a single step.

    About log2 n prefixes are valued instead of n. The siblings value the prompt, the outcome the end. What changes
    up and down again within a stretch is missed.

    Args:
        samples: continuations of each prefix.
        halves: what is halved: the number of ``steps``, or their ``surprisal``, the rollout's own minus log-probs. What
            decides an outcome is often a step that the policy was unsure of, and what it writes for certain changes no
            value. Where log-probs are not known, steps are halved.
    """

    samples: int = 16
    halves: Halves = "steps"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"data.search (Bisect): samples is {self.samples}; at least one probe is needed.")
        if self.halves not in get_args(Halves):
            raise ConfigError(f"data.search (Bisect): halves is {self.halves!r}; it must be steps or surprisal.")

    def targets(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[Targets]:
        return [{} if any(trajectory.pending) else self._next(trajectory, selector) for trajectory in trajectories]

    def _next(self, trajectory: TrajectoryState, selector: Selector) -> Targets:
        if trajectory.nodes[0].drawn == 0:
            return {0: self.samples}
        points = [t for t, node in enumerate(trajectory.nodes) if t == 0 or node.drawn >= self.samples]
        values = carried_values(trajectory)
        seen = torch.tensor([*(values[t] for t in points), trajectory.success], dtype=torch.float64)
        scores = selector.scores(seen).tolist()
        best = max(range(len(points)), key=lambda i: (scores[i], -i))
        begin, end = points[best], [*points, trajectory.steps][best + 1]
        middle = self._middle(trajectory, begin, end)
        return {middle: self.samples} if middle > begin else {}

    def _middle(self, trajectory: TrajectoryState, begin: int, end: int) -> int:
        """The boundary that leaves most nearly as much before it as after it; ``begin`` where there is none between."""
        if self.halves == "steps" or not trajectory.surprisals or end - begin < 2:
            return (begin + end) // 2
        sums = list(accumulate(trajectory.surprisals[begin:end]))
        return begin + min(range(1, end - begin), key=lambda t: abs(2 * sums[t - 1] - sums[-1]))

    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        return [carried_values(trajectory) for trajectory in trajectories]
