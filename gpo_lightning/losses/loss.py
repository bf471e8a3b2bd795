"""The role of a loss: a pure function of per-token log-probabilities and a batch. Losses never see logits."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from gpo_lightning.engines import Sampling
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder, Scores
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.schedule import ReduceSum


@dataclass(frozen=True)
class LossTerms:
    """A loss over a micro-batch.

    Args:
        sums: one scalar a term, sum and not mean: the trainer divides each by the term's weight in the whole
            optimiser step (``Loss.weights``) and adds them up.
        metrics: detached scalars, each a mean over the micro-batch.
    """

    sums: tuple[Tensor, ...]
    metrics: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class Loss(ABC):
    """A named algorithm's objective, chosen in YAML by class path; a frozen dataclass of its settings."""

    experience: ClassVar[type[ExperienceBuilder]]
    """Kind of experience it reads."""

    reads_rollout_logprobs: ClassVar[bool] = False
    """Whether it compares with rollout log-probs; the policy's own are then taken at their temperature."""

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        """The builder that makes the algorithm what its name says."""
        return cls.experience()

    @property
    def needs_reference(self) -> bool:
        """Whether it reads reference log-probabilities."""
        return False

    @property
    def needs_values(self) -> bool:
        """Whether it reads a value head."""
        return False

    @property
    def reads_context(self) -> bool:
        """Whether it also reads log-probabilities of the tokens before the actions."""
        return False

    @property
    def prepares_with_scores(self) -> bool:
        """Whether :meth:`prepare` reads the scores of the policy that the iteration begins with."""
        return False

    @property
    def needs_old_logprobs(self) -> bool:
        """Whether the loss, too, reads those scores. In an iteration of one step they are the scores of the step."""
        return self.prepares_with_scores

    @property
    def corrects_sampling(self) -> bool:
        """Whether it makes good that tokens were drawn from another distribution than the policy's own."""
        return False

    def check_sampling(self, sampling: Sampling) -> None:
        """Refuse rollouts whose probability ratios would be wrong.

        The policy is scored at ``sampling.temperature``, over all tokens. Rollout log-probs of a reshaped distribution
        (``top_p`` and its like) are higher by what was cut away, so ratios would not begin at 1.

        Raises:
            ConfigError: it compares with such log-probs, and corrects nothing.
        """
        if not self.reads_rollout_logprobs or self.corrects_sampling or not (named := sampling.reshaped):
            return
        raise ConfigError(
            f"data.sampling.{named[0]} is {getattr(sampling, named[0])}, so tokens are drawn from another distribution "
            f"than the one in which {type(self).__name__} scores them, and its probability ratios would not begin at "
            "1. Set model.loss.importance_correction to TruncatedWeights, which weighs tokens by the difference; or "
            f"leave {', '.join(named)} out and draw by data.sampling.temperature alone; or take a loss that reads no "
            "rollout log-probs (DPO, SFT, RAFT, ...)."
        )

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        """What is to be known of the whole iteration before any of it is learnt, such as whitened advantages.

        Args:
            batches: of this rank, all of the iteration's; with ``old_scores`` where :attr:`prepares_with_scores`.
            builder: made them.
            total: element-wise sum over ranks.
        """
        return batches

    @abstractmethod
    def weights(self, example: Example) -> tuple[float, ...]:
        """An example's share of each term's normaliser: 1 where a mean over examples is meant, its tokens for one
        over tokens."""

    @abstractmethod
    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        """The loss of a micro-batch."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked tokens; 0 where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def sequence_mean(values: Tensor, mask: Tensor) -> Tensor:
    """``[R]`` each row's mean over its masked tokens; 0 for a row without any."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
