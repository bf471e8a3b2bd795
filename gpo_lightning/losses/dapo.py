"""DAPO: GRPO that lets unlikely tokens grow and counts every token the same (Yu et al. 2025, arXiv 2503.14476).

GRPO that lets unlikely tokens grow, counts every token the same, and does not waste a step on groups that teach
nothing.

    R_i <- R_i + min(0, max(-1, (limit - cache - length_i) / cache))   with SoftPunishment
    A_i = (R_i - mean_group) / (std_group + 1e-4)
    l_t = -min(r_t A, clip(r_t, 1 - 0.2, 1 + 0.28) A)
    L   = 1/(sum_i T_i) sum_i sum_t (l_t + beta r_t k3_t)

Reads what [GRPO](grpo.md) reads.

The last two belong to the data. The class alone does not set them, `configs/loss/dapo.yaml` does. `limit` must be
`data.sampling.max_tokens`.

**Dynamic sampling.** Groups that are all right or all wrong are dropped. With `data.plan.refills` fresh problems are
drawn in their place, up to that many times `data.plan.problems`, until as many mixed groups stand as were planned
(count: `refilled`). The extra samples are booked like any others. `MaskTruncated` in place of `SoftPunishment` is the
paper's overlong filtering.

**What differs elsewhere.**

* trl's `loss_type="dapo"` is the token mean alone: `epsilon_high` must be set there, and it has no dynamic sampling.
* trl averages over its accumulation window; here it is always the optimiser step over all processes.
* verl's `token-mean` with `clip_ratio_high` is the same loss; its `clip_ratio_c` is `surrogate.dual`.

**When to use it.** Where many groups come out uniform, or where entropy falls early. Refills make an iteration
dearer, so compare at equal tokens. The length punishment is a change of the task's reward: leave it out where length
does no harm.

**With resets.** Refilled problems are explored and reset like the others. The length that is punished includes the
kept prefix.
"""

from dataclasses import dataclass

from gpo_lightning.losses.parts import Aggregation, Surrogate, TokenClip, TokenMean
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class DAPO(PolicyGradientLoss):
    """Clip-higher and the mean over all tokens of the optimiser step.

    Its two other parts are of the data: dynamic sampling (``data.plan.refills``) and overlong shaping
    (``data.experience.overlong``); ``configs/loss/dapo.yaml`` sets all four.

    Args:
        surrogate: ratio and clip, further above than below.
        aggregation: from tokens to one number.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer.
    """

    surrogate: Surrogate = TokenClip(low=0.2, high=0.28)
    aggregation: Aggregation = TokenMean()
