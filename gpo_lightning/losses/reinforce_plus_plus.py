"""REINFORCE++: no critic and no group, advantages whitened over the whole batch (Hu et al. 2025, arXiv 2501.03262)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import ActionBatch, Batch, ExperienceBuilder, PolicyGradient, ReduceSum
from gpo_lightning.experience.advantages import GroupMean, NoBaseline, returns_to_go, whiten
from gpo_lightning.losses.parts import KL, Aggregation, TokenMean
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss, with_advantages


@dataclass(frozen=True)
class ReinforcePlusPlus(PolicyGradientLoss):
    """Return to go with the KL in the reward, whitened over all tokens of the iteration and all ranks, PPO's clip.

    As verl's ``reinforce_plus_plus`` (unbiased variance; OpenRLHF takes the biased one). Because the mean of the whole
    iteration is taken away, responses of a group with equal rewards do have a gradient here.

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number.
        kl: to the reference policy, by default in the reward of each token.
        importance_correction: of the mismatch between engine and trainer.
        gamma: discount a token.
    """

    aggregation: Aggregation = TokenMean()
    kl: KL = KL(beta=0.01, estimator="k1", place="reward")
    gamma: float = 1.0
    experience: ClassVar[type[ExperienceBuilder]] = PolicyGradient

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"model.loss (ReinforcePlusPlus): gamma is {self.gamma}; it must lie in (0, 1].")

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        return PolicyGradient(estimator=NoBaseline())

    @property
    def needs_old_logprobs(self) -> bool:
        return True

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        actions = cast(Sequence[ActionBatch], batches)
        masks = [batch.rows.loss_mask for batch in actions]
        returns = [returns_to_go(self.token_rewards(batch), batch.rows.loss_mask, self.gamma) for batch in actions]
        return with_advantages(actions, whiten(returns, masks, total))


@dataclass(frozen=True)
class ReinforcePlusPlusBaseline(PolicyGradientLoss):
    """Reward less the group's mean, whitened over all tokens of the iteration, PPO's clip (verl's ``..._baseline``).

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer.
    """

    aggregation: Aggregation = TokenMean()
    experience: ClassVar[type[ExperienceBuilder]] = PolicyGradient

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        return PolicyGradient(estimator=GroupMean(scale=False), keep_uniform=True)

    @property
    def needs_old_logprobs(self) -> bool:
        return True

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        actions = cast(Sequence[ActionBatch], super().prepare(batches, builder, total))
        masks = [batch.rows.loss_mask for batch in actions]
        return with_advantages(actions, whiten([batch.advantages for batch in actions], masks, total))
