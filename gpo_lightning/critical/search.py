"""Where to spend probes: a strategy looks at what is known of a trajectory and asks for more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from gpo_lightning.errors import ConfigError
from gpo_lightning.tree import Node


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a trajectory of n steps.

    Args:
        boundaries: ``[n + 1]`` token offsets.
        nodes: ``[n]`` what the tree knows before each step.
        pending: ``[n]`` probes in flight there.
        reward: the trajectory's own outcome, V(s_n).
    """

    boundaries: tuple[int, ...]
    nodes: tuple[Node, ...]
    pending: tuple[int, ...]
    reward: float


class SearchStrategy(ABC):
    """Asks for probes until the step values are known well enough.

    A strategy keeps no state: it is asked again whenever a probe of the trajectory finishes, and everything it
    needs is in ``known``. So many trajectories are searched at once, and an interrupted search goes on.
    """

    @abstractmethod
    def probes(self, known: Known) -> Mapping[int, int]:
        """Probes wanted beyond those known and pending: step index -> number. Empty: nothing more is wanted."""

    @abstractmethod
    def values(self, known: Known) -> tuple[float, ...]:
        """``[n + 1]`` estimates of V before each step, the last one the reward."""


@dataclass(frozen=True)
class Exhaustive(SearchStrategy):
    """The same number of continuations before every step (the paper's way).

    V of a prefix is the mean reward of the continuations drawn from it (METHOD, "Setting"). Continuations that are
    already in the tree count: siblings at the prompt, and those that passed through the prefix on their own. A
    prefix none of whose continuations could be graded takes the value before it, so its step has advantage 0.

    Args:
        samples: continuations a prefix, N in the paper.
    """

    samples: int = 4

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"data.search: samples is {self.samples}; at least one probe a step is needed.")

    def probes(self, known: Known) -> Mapping[int, int]:
        missing = {
            t: self.samples - node.drawn - pending
            for t, (node, pending) in enumerate(zip(known.nodes, known.pending, strict=True))
        }
        return {t: count for t, count in missing.items() if count > 0}

    def values(self, known: Known) -> tuple[float, ...]:
        values: list[float] = []
        for node in known.nodes:
            value = node.value
            values.append(value if value is not None else (values[-1] if values else 0.5))
        return (*values, known.reward)


@dataclass(frozen=True)
class NoSearch(SearchStrategy):
    """Asks for nothing, and reads what siblings happen to tell: for a random reset, which needs no values."""

    def probes(self, known: Known) -> Mapping[int, int]:
        return {}

    def values(self, known: Known) -> tuple[float, ...]:
        return Exhaustive(1).values(known)
