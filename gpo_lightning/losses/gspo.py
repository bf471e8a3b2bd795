"""GSPO: one ratio and one clip a response, its tokens' geometric mean (Zheng et al. 2025, arXiv 2507.18071)."""

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
