"""How well the policy does: what is asked, success rates and other figures with intervals, and their tables.

Nothing here generates or grades by itself, and nothing here is trained.
"""

from gpo_lightning.metrics.errors import errors_found
from gpo_lightning.metrics.estimate import Estimate, macro_average, wilson_interval
from gpo_lightning.metrics.evaluation import Benchmark, respond, subset
from gpo_lightning.metrics.majority_at_k import MajorityAtK, majority_at_k
from gpo_lightning.metrics.pass_at_k import PassAtK, pass_at_k
from gpo_lightning.metrics.problem_mean import ProblemMean
from gpo_lightning.metrics.report import Figures, Report, Tally
from gpo_lightning.metrics.responses import (
    MeanLength,
    TruncationRate,
    UngradedCount,
    UnparsedRate,
    mean_length,
    truncation_rate,
    ungraded_count,
    unparsed_rate,
)
from gpo_lightning.metrics.success import SuccessRate, problem_rewards
from gpo_lightning.metrics.tables import markdown

__all__ = [
    "Benchmark",
    "Estimate",
    "Figures",
    "MajorityAtK",
    "MeanLength",
    "PassAtK",
    "ProblemMean",
    "Report",
    "SuccessRate",
    "Tally",
    "TruncationRate",
    "UngradedCount",
    "UnparsedRate",
    "errors_found",
    "macro_average",
    "majority_at_k",
    "markdown",
    "mean_length",
    "pass_at_k",
    "problem_rewards",
    "respond",
    "subset",
    "truncation_rate",
    "ungraded_count",
    "unparsed_rate",
    "wilson_interval",
]
