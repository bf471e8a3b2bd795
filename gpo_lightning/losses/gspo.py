"""GSPO: one ratio and one clip a response, its tokens' geometric mean (Zheng et al. 2025, arXiv 2507.18071).

One ratio and one clip for a whole response: the geometric mean of its tokens' ratios.

    A_i = (R_i - mean_group) / (std_group + 1e-4)
    s_i = exp(1/T_i sum_t (lp_t - old_t))                              the exponent at most 10
    l_i = -min(s_i A_i, clip(s_i, 1 - 3e-4, 1 + 4e-4) A_i)
    L   = 1/N sum_i (l_i + beta s_i 1/T_i sum_t k3_t)

Reads what [GRPO](grpo.md) reads.

**What differs elsewhere.**

* trl (`importance_sampling_level="sequence"`) and verl (`gspo`) agree with this in value and gradient. The bound of
  10 is verl's.
* The clip is the paper's. trl keeps its general `epsilon` of 0.2 unless told otherwise, which is wide for a mean
  ratio.
* OpenRLHF's is the same.

**When to use it.** With long responses, and with mixture-of-experts models, where single token ratios are noisy. The
narrow clip is taken against the engine's log-probabilities: where engine and trainer differ by more than the clip,
whole responses are cut from the first step on. Watch `train/clip_fraction`; then widen the clip or use a
[correction](mismatch.md).

**With resets.** The mean is over the new tokens alone. A short continuation has a noisier mean than a whole response,
so it is cut sooner.
"""

from dataclasses import dataclass

from gpo_lightning.losses.parts import SequenceClip, Surrogate
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class GSPO(PolicyGradientLoss):
    """The ratio of whole responses, length-normalised, hence the narrow clip (trl's sequence level, verl's ``gspo``).

    Args:
        surrogate: ratio of the response, and clip.
        aggregation: from tokens to one number; the loss of a response's tokens is the same for all of them.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer.
    """

    surrogate: Surrogate = SequenceClip(low=3e-4, high=4e-4)
