"""Which step matters: step segmenters, search strategies, critical-step selectors, and the explorer that joins them.

Everything here works on rollout trees; losses and training are never seen.
"""

from gpo_lightning.critical.bisect import Bisect
from gpo_lightning.critical.change_point import ChangePoint
from gpo_lightning.critical.clock import Clock
from gpo_lightning.critical.drawing import Drawing, Progress, ProgressListener, seeded, seeded_draw
from gpo_lightning.critical.explorer import Explorer, RolloutPlan, Rollouts
from gpo_lightning.critical.order import ProblemOrder
from gpo_lightning.critical.posterior import ValuePosterior, ValuePrior
from gpo_lightning.critical.search import Exhaustive, Known, NoSearch, SearchStrategy
from gpo_lightning.critical.segmenters import FixedLength, LowProbability, Marker, Newline, Segmenter, Sentence
from gpo_lightning.critical.selectors import (
    MaxAbsAdvantage,
    MaxAdvantage,
    MaxValue,
    MaxVariance,
    MinAdvantage,
    RandomStep,
    Selector,
)
from gpo_lightning.critical.sharing import Alone, AtOnce, Pile, Share, Sharing
from gpo_lightning.critical.text import token_pieces

__all__ = [
    "Alone",
    "AtOnce",
    "Bisect",
    "ChangePoint",
    "Clock",
    "Drawing",
    "Exhaustive",
    "Explorer",
    "FixedLength",
    "Known",
    "LowProbability",
    "Marker",
    "MaxAbsAdvantage",
    "MaxAdvantage",
    "MaxValue",
    "MaxVariance",
    "MinAdvantage",
    "Newline",
    "NoSearch",
    "Pile",
    "ProblemOrder",
    "Progress",
    "ProgressListener",
    "RandomStep",
    "RolloutPlan",
    "Rollouts",
    "SearchStrategy",
    "Segmenter",
    "Selector",
    "Sentence",
    "Share",
    "Sharing",
    "ValuePosterior",
    "ValuePrior",
    "seeded",
    "seeded_draw",
    "token_pieces",
]
