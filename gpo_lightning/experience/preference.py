"""Experience of preference losses: a better and a worse response from the same start state."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import lcm
from typing import cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import BLANK_ROW, Batch, Example, Row, collate_rows
from gpo_lightning.experience.groups import Group, Start, groups
from gpo_lightning.rollouts import RolloutTree, Sample


@dataclass(frozen=True, slots=True)
class PairExample(Example):
    """Two continuations of the same state, the chosen one rewarded more."""

    chosen: Row
    rejected: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.chosen, self.rejected)


@dataclass(frozen=True)
class PairBatch(Batch):
    """Rows ``0 .. R/2 - 1`` are the chosen responses, the other half the rejected ones in the same order."""

    @property
    def size(self) -> int:
        return len(self.rows.input_ids) // 2

    def rows_between(self, begin: int, end: int) -> list[int]:
        return [*range(begin, end), *range(self.size + begin, self.size + end)]


@dataclass(frozen=True)
class PreferencePairs(ExperienceBuilder):
    """Pairs a right with a wrong continuation of the same prefix.

    Args:
        starts: start states to learn from, in that order.
        pairs: most pairs from one start state. Each response is used once before any is used twice.
        prefix_loss: whether the kept prefix, which both sides share, is learnt too. It cancels where a loss takes
            the difference of summed log-probabilities (DPO), and nowhere else.
    """

    starts: Sequence[Start] = ("critical", "frontier", "prompt")
    pairs: int = 4
    prefix_loss: bool = False

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"data.experience (PreferencePairs): pairs is {self.pairs}; it must be at least 1.")

    @property
    def least_group(self) -> int:
        return 2

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        examples: list[Example] = []
        for group in groups(trees, self.starts):
            pairs = self._pairs(group)
            counts["group_without_pair"] += not pairs
            rows = ([group.row(sample, self.prefix_loss) for sample in pair] for pair in pairs)
            examples.extend(PairExample(chosen, rejected) for chosen, rejected in rows)
        return examples

    def _pairs(self, group: Group) -> list[tuple[Sample, Sample]]:
        graded = [sample for sample in group.samples if sample.reward is not None]
        # The same response twice would give the same pair twice.
        distinct = list({sample.tokens: sample for sample in graded}.values())
        best = max((cast(float, sample.reward) for sample in distinct), default=0.0)
        chosen = [sample for sample in distinct if sample.reward == best]
        rejected = [sample for sample in distinct if sample.reward != best]
        # Both sides in turn, one of them shifted whenever the same pairs would begin again: all pairs, each once, and
        # each response once before any of its side twice.
        period = lcm(len(chosen), len(rejected))
        walk = (
            (chosen[k % len(chosen)], rejected[(k + k // period) % len(rejected)])
            for k in range(len(chosen) * len(rejected))
        )
        return list(islice(walk, self.pairs))

    def blank(self) -> Example:
        return PairExample(BLANK_ROW, BLANK_ROW)

    def collate(self, examples: Sequence[Example], pad_id: int, normalisers: tuple[float, ...]) -> PairBatch:
        pairs = cast(Sequence[PairExample], examples)
        rows = collate_rows([p.chosen for p in pairs] + [p.rejected for p in pairs], pad_id)
        return PairBatch(rows, normalisers)
