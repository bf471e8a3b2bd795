"""The role of an experience builder: from rollout trees to the examples one kind of loss reads."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from gpo_lightning.experience.example import Batch, Example, Rows
from gpo_lightning.rollouts import RolloutTree


class ExperienceBuilder(ABC):
    """Chosen by the loss (``Loss.default_experience``), or in YAML as ``data.experience`` where its options matter."""

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
    def collate(self, examples: Sequence[Example], pad_id: int, normalisers: tuple[float, ...]) -> Batch:
        """Tensors of a micro-batch of this builder's own examples."""

    def kl_rows(self, examples: Sequence[Example], pad_id: int) -> Rows | None:
        """Rows to be scored, without gradient, before the optimiser step that these examples belong to (see
        ``Scores.divergence``). ``None`` where the loss wants none; never ``None`` on some ranks only."""
        return None
