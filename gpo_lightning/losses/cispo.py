"""CISPO: REINFORCE with clipped weights, so that no token loses its gradient (MiniMax 2025, arXiv 2506.13585)."""

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
