"""What policy-gradient losses read: responses with an advantage on every token."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import cast

import torch
from torch import Tensor

from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import BLANK_ROW, Batch, Example, Row, collate_rows, spread_over_actions


@dataclass(frozen=True, slots=True)
class ActionExample(Example):
    """A response and how much better than expected each of its tokens was.

    Args:
        row: the tokens.
        advantages: one an action.
        reward: of the response.
        group: number of its group, within this rank and iteration.
    """

    row: Row
    advantages: tuple[float, ...]
    reward: float = 0.0
    group: int = -1

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.row,)


@dataclass(frozen=True)
class ActionBatch(Batch):
    """Responses with advantages.

    Args:
        advantages: ``[R, T]``, 0 outside the mask.
        rewards: ``[R]``.
        groups: ``[R]`` which responses are compared with each other.
        returns: ``[R, T]`` what a value head should have said, for losses that train one.
    """

    advantages: Tensor
    rewards: Tensor
    groups: Tensor
    returns: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class ActionExperience(ExperienceBuilder):
    """Experience of policy-gradient losses; its kinds differ in where the advantages come from."""

    def blank(self) -> Example:
        return ActionExample(BLANK_ROW, ())

    def collate(self, examples: Sequence[Example], pad_id: int, normalisers: tuple[float, ...]) -> ActionBatch:
        actions = cast(Sequence[ActionExample], examples)
        rows = collate_rows([example.row for example in actions], pad_id)
        rewards = torch.tensor([example.reward for example in actions], dtype=torch.float64)
        advantages = spread_over_actions([e.advantages for e in actions], rows)
        return ActionBatch(rows, normalisers, advantages, rewards, torch.tensor([e.group for e in actions]))


def finite(row: Row) -> bool:
    """Whether the engine gave every action a finite log-probability, without which it cannot be weighed."""
    return all(map(isfinite, row.rollout_logprobs))


def spread_over_rows(batch: ActionBatch, values: Tensor) -> ActionBatch:
    """The same batch with the advantage ``values[r]`` on every action of row r."""
    return replace(batch, advantages=values[:, None] * batch.rows.loss_mask)
