"""How well the policy does: benchmarks, success rates and other figures with intervals, tables, the explorer page.

Nothing here grades by itself, and nothing here is trained.
"""

from gpo_lightning.evaluation import explorer
from gpo_lightning.evaluation.benchmark import Benchmark
from gpo_lightning.evaluation.estimate import Estimate
from gpo_lightning.evaluation.majority_at_k import majority_at_k
from gpo_lightning.evaluation.pass_at_k import PassAtK, pass_at_k
from gpo_lightning.evaluation.report import Report

__all__ = [
    "Benchmark",
    "Estimate",
    "PassAtK",
    "Report",
    "explorer",
    "majority_at_k",
    "pass_at_k",
]
