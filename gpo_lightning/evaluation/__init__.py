"""How well the policy does: benchmarks, success rates and other figures with intervals, tables, the explorer page.

Nothing here grades by itself, and nothing here is trained.
"""

from gpo_lightning.evaluation import explorer
from gpo_lightning.evaluation.benchmark import Benchmark, respond, subset
from gpo_lightning.evaluation.diagnosis import Diagnosis, diagnose
from gpo_lightning.evaluation.estimate import Estimate, macro_average, wilson_interval
from gpo_lightning.evaluation.exact import exact_success, exact_values
from gpo_lightning.evaluation.gradients import (
    BatchGradient,
    Efficiency,
    UniformShare,
    batch_gradient,
    efficiency,
    headroom,
    success_gradient,
    uniform_share,
)
from gpo_lightning.evaluation.labelled_errors import errors_found
from gpo_lightning.evaluation.majority_at_k import MajorityAtK, majority_at_k
from gpo_lightning.evaluation.pass_at_k import PassAtK, pass_at_k
from gpo_lightning.evaluation.problem_mean import ProblemMean
from gpo_lightning.evaluation.report import Figures, Report, Tally
from gpo_lightning.evaluation.responses import (
    MeanLength,
    TruncationRate,
    UngradedCount,
    UnparsedRate,
    mean_length,
    truncation_rate,
    ungraded_count,
    unparsed_rate,
)
from gpo_lightning.evaluation.success import SuccessRate, problem_rewards
from gpo_lightning.evaluation.tables import markdown

__all__ = [
    "BatchGradient",
    "Benchmark",
    "Diagnosis",
    "Efficiency",
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
    "UniformShare",
    "UnparsedRate",
    "batch_gradient",
    "diagnose",
    "efficiency",
    "errors_found",
    "exact_success",
    "exact_values",
    "explorer",
    "headroom",
    "macro_average",
    "majority_at_k",
    "markdown",
    "mean_length",
    "pass_at_k",
    "problem_rewards",
    "respond",
    "subset",
    "success_gradient",
    "truncation_rate",
    "ungraded_count",
    "uniform_share",
    "unparsed_rate",
    "wilson_interval",
]
