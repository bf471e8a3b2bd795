"""GRPO: the clipped surrogate with group-relative advantages (Shao et al. 2024, arXiv 2402.03300).

Policy gradient without a value network: each response is compared with the others of its group.

    A_i = (R_i - mean_group) / (std_group + 1e-4)                    std unbiased
    l_t = -min(r_t A, clip(r_t, 1 - low, 1 + high) A)                 [A < 0 and dual set: at most -dual A]
    L   = 1/N sum_i 1/T_i sum_t (l_t + beta r_t k3_t)                 k3 = exp(ref - lp) - (ref - lp) - 1

Reads groups of responses that share their start state (`PolicyGradient`), and the engine's log-probabilities. The
reference policy is read only where `kl.beta` is above 0.

**What differs elsewhere.**

* We follow trl 1.16's `loss_type="grpo"`. trl's own default is `dapo`: see [DAPO](dapo.md).
* The constant beside the standard deviation is 1e-4 in trl, 1e-6 in verl, 1e-9 in OpenRLHF: `estimator.epsilon`.
* A group of one has no advantage here; verl leaves it its reward.
* trl 1.16 multiplies the KL by the ratio. The paper and older versions do not: `kl.weighted: false`. The paper's
  `beta` is 0.04.
* trl's two-sided clip (`delta`) and verl's dual clip (`clip_ratio_c`) are the same function: `surrogate.dual`.
* trl's `bnpo` averages over the tokens of a micro-batch, so it depends on the split. `TokenMean` averages over the
  whole step.

**When to use it.** The default, and a sound first choice where rewards are cheap and groups are mixed. Groups that
are all right or all wrong teach nothing. Its mean favours short right and long wrong responses: see [Dr.
GRPO](dr_grpo.md).

**With resets.** Responses from a critical prefix are a group of their own, so what the prefix is worth cancels in the
advantage. Only new tokens learn. A continuation is shorter than a whole response, so under `ResponseMean` each of its
tokens counts for more.
"""

from dataclasses import dataclass

from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class GRPO(PolicyGradientLoss):
    """Mean over responses of each response's token mean, as trl 1.16's ``loss_type="grpo"``.

    Advantages in units of the group's standard deviation; a group whose rewards are all equal has none.

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number.
        kl: to the reference policy; the paper adds k3 with ``beta`` 0.04, trl's default is none.
        importance_correction: of the mismatch between engine and trainer.
    """
