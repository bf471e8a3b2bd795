"""Dr. GRPO: GRPO without its two biases, by length and by difficulty (Liu et al. 2025, arXiv 2503.20783)."""

from dataclasses import dataclass

from gpo_lightning.experience import ExperienceBuilder, PolicyGradient
from gpo_lightning.experience.advantages import GroupMean
from gpo_lightning.losses.parts import Aggregation, FixedLengthMean
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class DrGRPO(PolicyGradientLoss):
    """Token sums over a constant length, advantages without the standard deviation (trl's ``loss_type="dr_grpo"``).

    Args:
        surrogate: ratio and clip.
        aggregation: token sums over a constant; give it ``data.sampling.max_tokens``.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer.
    """

    aggregation: Aggregation = FixedLengthMean()

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        return PolicyGradient(estimator=GroupMean(scale=False))
