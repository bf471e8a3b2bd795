"""The role of an experience builder: from rollout trees to the examples one kind of loss reads."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from gpo_lightning.experience.example import Batch, Example
from gpo_lightning.tree import RolloutTree


class ExperienceBuilder(ABC):
    """Chosen by the loss (``Loss.experience``), or in YAML as ``data.experience`` where its options matter."""

    @property
    @abstractmethod
    def least_group(self) -> int:
        """Fewest responses from one start state that this kind of experience can be made of.

        0 means that it is made of reference solutions, and no rollouts are needed.
        """

    @abstractmethod
    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        """Examples in the order in which they should be learnt; what had to be left out is counted."""

    @abstractmethod
    def blank(self) -> Example:
        """An example without a token of loss: keeps ranks in step where one has less to learn from."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_id: int, normaliser: float) -> Batch:
        """Tensors of a micro-batch of this builder's own examples."""
