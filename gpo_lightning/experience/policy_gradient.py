"""Experience of policy-gradient losses: responses with an advantage on every token."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from gpo_lightning.advantages import AdvantageEstimator, GroupMean
from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import BLANK_ROW, Batch, Example, Row, collate_rows, spread_over_actions
from gpo_lightning.experience.groups import Start, groups
from gpo_lightning.tree import RolloutTree


@dataclass(frozen=True, slots=True)
class ActionExample(Example):
    """A response and how much better than expected each of its tokens was.

    Args:
        row: the tokens.
        advantages: one an action.
    """

    row: Row
    advantages: tuple[float, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.row,)


@dataclass(frozen=True)
class ActionBatch(Batch):
    """Adds ``advantages`` ``[R, T]``, 0 outside the mask."""

    advantages: Tensor


@dataclass(frozen=True)
class PolicyGradient(ExperienceBuilder):
    """Every response of a group, its advantage measured against the others from the same start state.

    The kept prefix is state, only new tokens are actions. The group that a critical prefix was chosen by (its
    probes) is biased upwards in its mean; the group's own baseline takes that out, since every response is compared
    with responses from the same prefix.

    Args:
        starts: start states to learn from, in that order.
        estimator: how advantages are made.
        keep_uniform: keep groups whose rewards are all equal. Their policy gradient is exactly zero; only a KL term
            learns from them.
    """

    starts: Sequence[Start] = ("critical", "prompt")
    estimator: AdvantageEstimator = GroupMean()
    keep_uniform: bool = False

    @property
    def least_group(self) -> int:
        return 2

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        examples: list[Example] = []
        for group in groups(trees, self.starts):
            advantages = self.estimator.advantages([sample.reward for sample in group.samples])
            if not self.keep_uniform and not any(advantages):
                counts["uniform_group"] += 1
                continue
            for sample, advantage in zip(group.samples, advantages, strict=True):
                actions = sample.tokens[sample.start :]
                row = Row(group.context, actions, sample.logprobs)
                examples.append(ActionExample(row, (advantage,) * len(actions)))
        return examples

    def blank(self) -> Example:
        return ActionExample(BLANK_ROW, ())

    def collate(self, examples: Sequence[Example], pad_id: int, normaliser: float) -> ActionBatch:
        actions = cast(Sequence[ActionExample], examples)
        rows = collate_rows([example.row for example in actions], pad_id)
        return ActionBatch(rows, normaliser, spread_over_actions([e.advantages for e in actions], rows))
