"""The role of a loss: a pure function of per-token log-probabilities and a batch. Losses never see logits."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gpo_lightning.experience import Batch, Example, ExperienceBuilder


@dataclass(frozen=True)
class Scores:
    """What the policy says of a batch's tokens.

    Args:
        logprobs: ``[R, T]`` of the policy, with gradient; 0 outside the mask.
        reference: ``[R, T]`` of the reference policy, for losses that ask for it.
        values: ``[R, T]`` of the value head, for losses that ask for it.
    """

    logprobs: Tensor
    reference: Tensor | None = None
    values: Tensor | None = None


@dataclass(frozen=True)
class LossTerms:
    """A loss over a micro-batch.

    Args:
        total: scalar sum, not mean: the trainer divides by the weight of the whole optimiser step.
        metrics: detached scalars, each a mean over the micro-batch.
    """

    total: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class Loss(ABC):
    """A named algorithm's objective, chosen in YAML by class path; a frozen dataclass of its settings."""

    experience: ClassVar[type[ExperienceBuilder]]
    """Kind of experience it reads."""

    reads_behaviour: ClassVar[bool] = False
    """Whether it compares with behaviour log-probabilities; the policy's own are then taken at their temperature."""

    @property
    def needs_reference(self) -> bool:
        """Whether it reads reference log-probabilities."""
        return False

    @property
    def needs_values(self) -> bool:
        """Whether it reads a value head."""
        return False

    @abstractmethod
    def weight(self, example: Example) -> float:
        """An example's share of the normaliser: 1 for losses averaged over examples, its tokens for token means."""

    @abstractmethod
    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        """The loss of a micro-batch."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked tokens; 0 where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """``[R]`` each row's mean over its masked tokens; 0 for a row without any."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def k3_divergence(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's low-variance, non-negative estimate of KL(policy | reference), per token."""
    gap = reference - logprobs
    return torch.expm1(gap) - gap
