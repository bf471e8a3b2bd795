"""What policy-gradient losses are put together from: surrogate, average, KL and mismatch correction, each by itself."""

from gpo_lightning.losses.parts.average import Average, FixedLengthMean, ResponseMean, ResponseSum, TokenMean
from gpo_lightning.losses.parts.correction import Correction, MaskedWeights, TruncatedWeights
from gpo_lightning.losses.parts.divergence import KL
from gpo_lightning.losses.parts.surrogate import ClippedWeight, SequenceClip, Surrogate, TokenClip

__all__ = [
    "KL",
    "Average",
    "ClippedWeight",
    "Correction",
    "FixedLengthMean",
    "MaskedWeights",
    "ResponseMean",
    "ResponseSum",
    "SequenceClip",
    "Surrogate",
    "TokenClip",
    "TokenMean",
    "TruncatedWeights",
]
