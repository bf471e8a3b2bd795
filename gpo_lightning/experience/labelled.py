"""Experience of unpaired losses: responses that are right or wrong, each by itself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import BLANK_ROW, Batch, Example, Row, Rows, collate_rows
from gpo_lightning.experience.groups import Start, groups
from gpo_lightning.rollouts import RolloutTree


@dataclass(frozen=True, slots=True)
class LabelledExample(Example):
    """A response and whether it is right.

    Args:
        row: the tokens.
        right: the label.
        mismatched: the same state followed by a response to another problem, for losses that want to know how far
            the policy has moved in general.
    """

    row: Row
    right: bool
    mismatched: Row | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.row,)


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """Adds ``right`` ``[R]``, bool."""

    right: Tensor


@dataclass(frozen=True)
class LabelledResponses(ExperienceBuilder):
    """Every graded response with its label, whatever the others of its group did.

    Args:
        starts: start states to learn from, in that order.
        threshold: least success of a right response.
        prefix_loss: whether the kept prefix is learnt too.
    """

    starts: Sequence[Start] = ("critical", "frontier", "prompt")
    threshold: float = 0.5
    prefix_loss: bool = False

    @property
    def least_group(self) -> int:
        return 1

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        return [example for example, _ in self._labelled(trees, counts)]

    def _labelled(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[tuple[LabelledExample, str]]:
        """Examples, each with its problem's id."""
        labelled: list[tuple[LabelledExample, str]] = []
        for group in groups(trees, self.starts):
            # The same response drawn twice would count twice.
            for sample in {sample.tokens: sample for sample in group.samples}.values():
                if sample.success is None:
                    counts["ungraded_left_out"] += 1
                    continue
                row = group.row(sample, self.prefix_loss)
                labelled.append((LabelledExample(row, sample.success >= self.threshold), group.tree.problem.id))
        return labelled

    def blank(self) -> Example:
        return LabelledExample(BLANK_ROW, right=False)

    def collate(self, examples: Sequence[Example], pad_id: int, normalisers: tuple[float, ...]) -> LabelledBatch:
        labelled = cast(Sequence[LabelledExample], examples)
        rows = collate_rows([example.row for example in labelled], pad_id)
        return LabelledBatch(rows, normalisers, torch.tensor([example.right for example in labelled]))


@dataclass(frozen=True)
class MismatchedResponses(LabelledResponses):
    """Adds to every response the same state with another problem's response, from which KTO estimates its KL.

    The other problem is the next one in the order of learning that is not the same; an iteration with a single
    problem has none (counted), and its KL counts as 0. The response is cut where the row would become longer than
    any real one, which all fit the model's context.
    """

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        labelled = self._labelled(trees, counts)
        longest = max((example.length for example, _ in labelled), default=0)
        examples: list[Example] = []
        for place, (example, problem) in enumerate(labelled):
            others = labelled[place + 1 :] + labelled[:place]
            other = next((other for other, other_problem in others if other_problem != problem), None)
            counts["no_other_problem"] += other is None
            examples.append(replace(example, mismatched=other and _mismatched(example.row, other.row, longest)))
        return examples

    def kl_rows(self, examples: Sequence[Example], pad_id: int) -> Rows:
        labelled = cast(Sequence[LabelledExample], examples)
        return collate_rows([example.mismatched or BLANK_ROW for example in labelled] or [BLANK_ROW], pad_id)


def _mismatched(state: Row, response: Row, longest: int) -> Row:
    return Row(state.context, response.actions[: longest - len(state.context)])
