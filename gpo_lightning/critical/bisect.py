"""Best-first bisection: look where the value changes most, halve that stretch, and look again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpo_lightning.critical.search import SearchStrategy, Targets, carried_values
from gpo_lightning.critical.selectors import Selector
from gpo_lightning.critical.state import TrajectoryState
from gpo_lightning.errors import ConfigError


@dataclass(frozen=True)
class Bisect(SearchStrategy):
    """Values the middle of the stretch that the selector likes best, until that stretch is a single step.

    About log2 n prefixes are valued instead of n. The siblings value the prompt, the outcome the end. What changes
    up and down again within a stretch is missed.

    Args:
        samples: continuations of each prefix.
    """

    samples: int = 16

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"data.search (Bisect): samples is {self.samples}; at least one probe is needed.")

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
        middle = (begin + end) // 2
        return {middle: self.samples} if middle > begin else {}

    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        return [carried_values(trajectory) for trajectory in trajectories]
