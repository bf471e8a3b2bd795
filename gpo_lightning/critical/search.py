"""Where to spend probes: a strategy looks at what is known of trajectories and asks for more."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gpo_lightning.critical.selectors import Selector
from gpo_lightning.errors import ConfigError
from gpo_lightning.tree import Node


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a trajectory of n steps.

    Args:
        boundaries: ``[n + 1]`` token offsets.
        nodes: ``[n]`` what the tree knows before each step.
        pending: ``[n]`` probes in flight there.
        probed: ``[n]`` probes that were drawn there and have finished; the nodes know other continuations too.
        reward: the trajectory's own outcome, V(s_n).
        spent: tokens of the finished probes.
    """

    boundaries: tuple[int, ...]
    nodes: tuple[Node, ...]
    pending: tuple[int, ...]
    probed: tuple[int, ...]
    reward: float
    spent: int = 0

    @property
    def steps(self) -> int:
        return len(self.nodes)

    @property
    def tokens(self) -> int:
        """Length of the trajectory."""
        return self.boundaries[-1]

    def sweep(self, count: float) -> float:
        """Tokens of the probes that bring ``count`` continuations before every step but the first together.

        Those that were there for nothing, because siblings or other probes passed through, need no probe.
        """
        given = [node.drawn - probed for node, probed in zip(self.nodes, self.probed, strict=True)]
        return sum(max(0.0, count - given[step]) * self.remaining(step) for step in range(1, self.steps))

    def remaining(self, step: int) -> int:
        """Tokens that the trajectory itself took from before ``step`` to its end."""
        return self.boundaries[-1] - self.boundaries[step]


Wanted = dict[int, int]
"""Step index -> number of probes, beyond those known and pending."""


class SearchStrategy(ABC):
    """Asks for probes until the step values are known well enough.

    A strategy keeps no state: it is asked again whenever probes finish, and everything it needs is in ``Known``. So
    many trajectories are searched at once, and an interrupted search goes on.
    """

    @abstractmethod
    def probes(self, studies: Sequence[Known], selector: Selector) -> list[Wanted]:
        """Probes wanted for each trajectory; an empty one: nothing more, or nothing before those in flight are back.

        Args:
            studies: trajectories of which something new is known, or nothing yet.
            selector: what the values are for.
        """

    @abstractmethod
    def values(self, known: Known) -> tuple[float, ...]:
        """``[n + 1]`` estimates of V before each step, the last one the reward."""

    def moot(self, studies: Sequence[Known], selector: Selector) -> list[set[int]]:
        """Steps of each trajectory whose probes in flight cannot change the choice any more, whatever they bring.

        Only such may be cancelled: whoever stops when the *first* answers suffice prefers short ones, and short
        answers are not right as often as others.
        """
        return [set() for _ in studies]

    def critical(self, known: Known, selector: Selector, draw: Random) -> int:
        """The critical step, by what was found out."""
        return selector.select(self.values(known), draw)

    def longest(self, known: Known, step: int) -> int | None:
        """Most tokens of a probe before ``step``; ``None`` for as many as a rollout may have."""
        return None


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

    def probes(self, studies: Sequence[Known], selector: Selector) -> list[Wanted]:
        return [self._missing(known) for known in studies]

    def _missing(self, known: Known) -> Wanted:
        missing = {
            t: self.samples - node.drawn - pending
            for t, (node, pending) in enumerate(zip(known.nodes, known.pending, strict=True))
        }
        return {t: count for t, count in missing.items() if count > 0}

    def values(self, known: Known) -> tuple[float, ...]:
        return carried(known)


@dataclass(frozen=True)
class NoSearch(SearchStrategy):
    """Asks for nothing, and reads what siblings happen to tell: for a random reset, which needs no values."""

    def probes(self, studies: Sequence[Known], selector: Selector) -> list[Wanted]:
        return [{} for _ in studies]

    def values(self, known: Known) -> tuple[float, ...]:
        return carried(known)


def carried(known: Known) -> tuple[float, ...]:
    """``[n + 1]`` mean rewards; a prefix of which nothing is known takes the value before it."""
    values: list[float] = []
    for node in known.nodes:
        value = node.value
        values.append(value if value is not None else (values[-1] if values else 0.5))
    return (*values, known.reward)
