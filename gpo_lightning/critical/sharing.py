"""Who searches what: every process has sampled as much as the others, but searches cost what chance has made them.

A process may have no group worth searching while another has nothing else. So the trees that are to be searched are
put together, and each is searched, and reset, by the process that takes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from gpo_lightning.tree import RolloutTree


@dataclass(frozen=True)
class Share:
    """A tree to be searched.

    Args:
        tree: with its samples.
        trajectories: those to search: each one's place in the tree, and its boundaries.
    """

    tree: RolloutTree
    trajectories: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def cost(self) -> int:
        """Tokens of one probe before every step, of which any search takes so and so many."""
        return sum(ends[-1] - begin for _, ends in self.trajectories for begin in ends[:-1])


class Pile(ABC):
    """What is left to be searched."""

    @abstractmethod
    def take(self, in_flight: int) -> list[Share]:
        """What this process is to search next; nothing where it has enough to do, or where nothing is left.

        Args:
            in_flight: probes it waits for.
        """


class AtOnce(Pile):
    """Everything is taken together.

    Args:
        shares: everything.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        self._left = list(shares)

    def take(self, in_flight: int) -> list[Share]:
        taken, self._left = self._left, []
        return taken


class Sharing(ABC):
    """How processes share out their searches."""

    @abstractmethod
    def share(self, own: Sequence[Share]) -> Pile:
        """Put what this process would have to search together with what the others would; all must call it."""


class Alone(Sharing):
    """One process searches what it has sampled."""

    def share(self, own: Sequence[Share]) -> Pile:
        return AtOnce(own)
