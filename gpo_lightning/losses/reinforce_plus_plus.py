"""REINFORCE++: no critic and no group, advantages whitened over the whole batch (Hu et al. 2025, arXiv 2501.03262).

PPO's clip without a value head and without groups: advantages are whitened over the whole iteration.

    R'_t = [t is last] R - beta (lp0_t - ref_t)
    G_t  = R'_t + gamma G_(t+1)
    A_t  = (G_t - mean) / sqrt(variance + 1e-8)                        over all tokens of the iteration, all processes
    l_t  = -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t)
    L    = 1/(sum_i T_i) sum l_t

The baseline variant (`ReinforcePlusPlusBaseline`) starts from `G_t = R_i - mean_group` on every token and whitens
that.

Reads `PolicyGradient` responses and, where `kl.beta` is above 0, the reference policy, in one extra pass an iteration.

**What differs elsewhere.**

* We follow verl's `reinforce_plus_plus` and `reinforce_plus_plus_baseline`: unbiased variance, 1e-8 added to it.
* OpenRLHF takes the biased variance, at least 1e-8. The difference vanishes with the number of tokens; it is not
  offered.

**When to use it.** Where groups are small, down to a single response a problem. The price is that a response to an
easy problem looks better than one to a hard problem, whatever it did; the baseline variant takes that out and needs
groups. In the plain form, groups whose rewards are all equal do have a gradient.

**With resets.** The plain form has no baseline of the start state, so every continuation of a promising prefix looks
good and every one of a poor prefix bad. With critical prefixes, which are chosen by their value, this is a real bias:
prefer the baseline variant, or GRPO.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder, PolicyGradient
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.experience.advantages import GroupMean, NoBaseline, returns_to_go, whiten
from gpo_lightning.experience.schedule import ReduceSum
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

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        actions = cast(list[ActionBatch], list(batches))
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

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        actions = cast(list[ActionBatch], list(super().prepare(batches, builder, total)))
        masks = [batch.rows.loss_mask for batch in actions]
        return with_advantages(actions, whiten([batch.advantages for batch in actions], masks, total))
