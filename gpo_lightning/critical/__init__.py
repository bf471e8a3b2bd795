"""Which step matters: step segmenters, the value posterior, search strategies, critical-step selectors.

Everything here reads the state of trajectories; trees, engines, losses and training are never seen.
"""

from gpo_lightning.critical.bisect import Bisect
from gpo_lightning.critical.change_point import ChangePoint
from gpo_lightning.critical.posterior import ValuePosterior, ValuePrior
from gpo_lightning.critical.search import Exhaustive, NoSearch, SearchStrategy, Targets, carried_values
from gpo_lightning.critical.segmenters import FixedLength, LowProbability, Marker, Newline, Segmenter, Sentence
from gpo_lightning.critical.selectors import (
    MaxAbsAdvantage,
    MaxAdvantage,
    MaxValue,
    MaxVariance,
    MinAdvantage,
    RandomStep,
    Selector,
    TowardOutcome,
)
from gpo_lightning.critical.state import TrajectoryState
from gpo_lightning.critical.turn import TurnReader

__all__ = [
    "Bisect",
    "ChangePoint",
    "Exhaustive",
    "FixedLength",
    "LowProbability",
    "Marker",
    "MaxAbsAdvantage",
    "MaxAdvantage",
    "MaxValue",
    "MaxVariance",
    "MinAdvantage",
    "Newline",
    "NoSearch",
    "RandomStep",
    "SearchStrategy",
    "Segmenter",
    "Selector",
    "Sentence",
    "Targets",
    "TowardOutcome",
    "TrajectoryState",
    "TurnReader",
    "ValuePosterior",
    "ValuePrior",
    "carried_values",
]
