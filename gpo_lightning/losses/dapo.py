"""DAPO: GRPO that lets unlikely tokens grow and counts every token the same (Yu et al. 2025, arXiv 2503.14476)."""

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
