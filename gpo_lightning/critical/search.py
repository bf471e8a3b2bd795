"""Where to spend probes: a strategy looks at what is known of trajectories and says how much should be known."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gpo_lightning.critical.selectors import Selector
from gpo_lightning.critical.state import TrajectoryState
from gpo_lightning.errors import ConfigError

Targets = dict[int, int]
"""Step index -> continuations that the prefix before the step should have in all, those in flight included."""


class SearchStrategy(ABC):
    """Says how many continuations each step should have, until the step values are known well enough.

    A strategy keeps no state: it is asked again whenever probes finish, and everything it needs is in the
    :class:`TrajectoryState`. So many trajectories are searched at once, and an interrupted search resumes. The
    rollout loop subtracts what is known or in flight already, and requests the rest.
    """

    @abstractmethod
    def targets(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[Targets]:
        """Targets of each trajectory; empty: nothing more, or nothing before the probes in flight are back.

        Args:
            trajectories: those of which something new is known, or nothing yet.
            selector: what the values are for.
        """

    @abstractmethod
    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        """For each trajectory, ``[n + 1]`` estimates of V before each step; the last one is its success."""

    def cancellable(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[set[int]]:
        """Steps of each trajectory whose probes in flight cannot change the choice any more, whatever they bring.

        Only these may be cancelled: stopping when the *first* answers suffice would prefer short answers, which are
        not right as often as others.
        """
        return [set() for _ in trajectories]

    def critical(
        self, trajectories: Sequence[TrajectoryState], selector: Selector, draws: Sequence[Random]
    ) -> list[int]:
        """Index of the critical step of each trajectory, by what was found out.

        Args:
            trajectories: whose probes are back.
            selector: which step is wanted.
            draws: a random state for each trajectory, for selectors that need one.
        """
        found = zip(self.values(trajectories), draws, strict=True)
        return [selector.select(values, draw) for values, draw in found]

    def longest(self, trajectory: TrajectoryState, step: int) -> int | None:
        """Most tokens of a probe before ``step``; ``None`` for as many as a rollout may have."""
        return None


@dataclass(frozen=True)
class Exhaustive(SearchStrategy):
    """The same number of continuations before every step (the paper's way).

    V of a prefix is the mean success of the continuations drawn from it (METHOD, "Setting"). Continuations that are
    already in the tree count: siblings at the prompt, and those that passed through the prefix on their own. A
    prefix none of whose continuations could be graded takes the value before it, so its step has advantage 0.

    Args:
        samples: continuations of each prefix, N in the paper.
    """

    samples: int = 4

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"data.search: samples is {self.samples}; at least one probe a step is needed.")

    def targets(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[Targets]:
        return [dict.fromkeys(range(trajectory.steps), self.samples) for trajectory in trajectories]

    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        return [carried_values(trajectory) for trajectory in trajectories]


@dataclass(frozen=True)
class NoSearch(SearchStrategy):
    """Requests no probes and reads what siblings happen to tell: for a random reset, which needs no values."""

    def targets(self, trajectories: Sequence[TrajectoryState], selector: Selector) -> list[Targets]:
        return [{} for _ in trajectories]

    def values(self, trajectories: Sequence[TrajectoryState]) -> list[tuple[float, ...]]:
        return [carried_values(trajectory) for trajectory in trajectories]


def carried_values(trajectory: TrajectoryState) -> tuple[float, ...]:
    """``[n + 1]`` mean success; a prefix of which nothing is known carries the value of the one before it."""
    values: list[float] = []
    for node in trajectory.nodes:
        value = node.value
        values.append(value if value is not None else (values[-1] if values else 0.5))
    return (*values, trajectory.success)
