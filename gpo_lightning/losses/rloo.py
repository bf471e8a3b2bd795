"""RLOO: REINFORCE with the other responses as baseline (Ahmadian et al. 2024, arXiv 2402.14740).

    R'_i = R_i - beta sum_t (lp0_t - ref_t)
    A_i  = R'_i - mean of R'_j over the others of the group
    r_i  = exp(sum_t (lp_t - old_t))                                   the exponent at most 20
    L    = 1/N sum_i -min(r_i A_i, clip(r_i, 1 - low, 1 + high) A_i)

Reads `PolicyGradient` groups, the reference policy, and scores by the policy as the iteration began (an extra pass).

**What differs elsewhere.**

* We follow trl 1.16's RLOOTrainer. Its KL compares the log-probabilities of the rollout; ours those of the trainer as
  the iteration began. Its `normalize_advantages` is not offered.
* verl has the same advantages, but clips token by token: `surrogate: TokenClip`, `aggregation: TokenMean`, `kl.beta:
  0`.
* With `kl.beta: 0` no reference is read and the extra pass is not made; set `keep_uniform: false` then.

**When to use it.** Where an unbiased baseline matters, as with small groups, and responses are short. The ratio is a
product over all tokens, so with long responses or several optimiser steps an iteration most responses are soon
clipped; [GSPO](gspo.md) takes the root of it.

**With resets.** A reset group has its own leave-one-out baseline. Ratio and KL are those of the new tokens alone.
"""

from dataclasses import dataclass

from gpo_lightning.experience import ExperienceBuilder, PolicyGradient
from gpo_lightning.experience.advantages import LeaveOneOut
from gpo_lightning.losses.parts import KL, SequenceClip, Surrogate
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class RLOO(PolicyGradientLoss):
    """The response is one action: one ratio, one clip, its summed KL taken from its reward (trl 1.16's RLOOTrainer).

    Args:
        surrogate: ratio of the response's probabilities, and clip.
        aggregation: from tokens to one number; the loss of a response's tokens is the same for all of them.
        kl: to the reference policy, by default in the reward.
        importance_correction: of the mismatch between engine and trainer.
    """

    surrogate: Surrogate = SequenceClip(ratio_of="sum")
    kl: KL = KL(beta=0.05, estimator="k1", place="reward")

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        # With a KL in the reward, responses of equal outcome differ.
        return PolicyGradient(estimator=LeaveOneOut(), keep_uniform=True)
