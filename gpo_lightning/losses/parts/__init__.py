"""What policy-gradient losses are put together from: surrogate, average, KL and mismatch correction, each by itself."""

from gpo_lightning.losses.parts.aggregation import Aggregation, FixedLengthMean, ResponseMean, ResponseSum, TokenMean
from gpo_lightning.losses.parts.divergence import KL
from gpo_lightning.losses.parts.importance_correction import ImportanceCorrection, MaskedWeights, TruncatedWeights
from gpo_lightning.losses.parts.surrogate import ClippedWeight, SequenceClip, Surrogate, TokenClip

__all__ = [
    "KL",
    "Aggregation",
    "ClippedWeight",
    "FixedLengthMean",
    "ImportanceCorrection",
    "MaskedWeights",
    "ResponseMean",
    "ResponseSum",
    "SequenceClip",
    "Surrogate",
    "TokenClip",
    "TokenMean",
    "TruncatedWeights",
]
