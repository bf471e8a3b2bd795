"""Dr. GRPO: GRPO without its two biases, by length and by difficulty (Liu et al. 2025, arXiv 2503.20783).

GRPO without its two biases, by length and by difficulty.

    A_i = R_i - mean_group
    l_t = -min(r_t A, clip(r_t, 1 - low, 1 + high) A)
    L   = 1/(N tokens) sum_i sum_t (l_t + beta r_t k3_t)

Reads what [GRPO](grpo.md) reads.

Give `aggregation.tokens` the value of `data.sampling.max_tokens`; `configs/loss/dr_grpo.yaml` has the quickstart's
96. It scales the whole gradient and nothing else: with Adam a wrong value matters little, but
`trainer.gradient_clip_val` sees it.

**What differs elsewhere.**

* We follow trl 1.16's `loss_type="dr_grpo"` with `scale_rewards` off: token sums over responses times
  `max_completion_length`.
* verl's `seq-mean-token-sum-norm` divides by the width of the batch instead. `aggregation: ResponseSum` does not
  divide by length at all.

**When to use it.** Where responses differ much in length, or where wrong responses grow longer during training.
Without the standard deviation, nearly solved and nearly hopeless groups count for less than under GRPO.

**With resets.** Continuations are short and the constant is not changed for them, so they count by their tokens, as
whole responses do.
"""

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
