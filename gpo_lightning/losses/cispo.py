"""CISPO: REINFORCE with clipped weights, so that no token loses its gradient (MiniMax 2025, arXiv 2506.13585).

REINFORCE with clipped importance weights: no token loses its gradient, its weight only stops growing. MiniMax 2025,
[arXiv 2506.13585](https://arxiv.org/abs/2506.13585).

    A_i = (R_i - mean_group) / (std_group + 1e-4)
    w_t = clip(r_t, lowest, highest)                                   without gradient
    L   = 1/(sum_i T_i) sum_i sum_t (-w_t A_i lp_t + beta r_t k3_t)

Reads what [GRPO](grpo.md) reads.

**What differs elsewhere.**

* We follow trl 1.16's `cispo`: an upper bound alone, its `epsilon_high` being the largest weight itself. ScaleRL
  takes 5.
* verl clips to `1 - clip_ratio_low` and `1 + clip_ratio_high`: give these as `lowest` and `highest`, for example 0.8
  and 1.2.
* The value of this loss means little, as always with REINFORCE; its gradient is what counts.

**When to use it.** Where rare tokens turn a solution and PPO's clip keeps silencing them, or where several optimiser
steps learn from one iteration. Nothing stops the policy from moving far in one iteration, so watch
`train/rollout_kl`.

**With resets.** A critical step is often an unlikely one; its tokens keep their gradient here. Only new tokens learn.
"""

from dataclasses import dataclass

from gpo_lightning.losses.parts import Aggregation, ClippedWeight, Surrogate, TokenMean
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class CISPO(PolicyGradientLoss):
    """Weights cut at an absolute maximum of 5, mean over all tokens (trl 1.16's ``cispo``, ScaleRL's bound).

    verl cuts at both ends, to ``1 - e`` and ``1 + e``: give ``surrogate`` those as ``lowest`` and ``highest``.

    Args:
        surrogate: the cut weight.
        aggregation: from tokens to one number.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer.
    """

    surrogate: Surrogate = ClippedWeight()
    aggregation: Aggregation = TokenMean()
