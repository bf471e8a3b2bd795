"""Lightning callbacks: what a run logs, measures and leaves behind.

Installed as ``gpo_lightning.callbacks``. Nothing here changes what is learnt.
"""

from gpo_lightning.callbacks.benchmark_evaluation import BenchmarkEvaluation
from gpo_lightning.callbacks.compute_log import ComputeLog
from gpo_lightning.callbacks.exact_success import ExactSuccess
from gpo_lightning.callbacks.last_and_best import LastAndBest
from gpo_lightning.callbacks.metrics_log import MetricsLog
from gpo_lightning.callbacks.model_export import ModelExport
from gpo_lightning.callbacks.rollout_log import RolloutLog
from gpo_lightning.callbacks.rollout_progress import RolloutProgress
from gpo_lightning.callbacks.run_summary import RunSummary
from gpo_lightning.callbacks.step_advantages import StepAdvantages
from gpo_lightning.callbacks.token_budget import TokenBudget
from gpo_lightning.callbacks.watched_problems import WatchedProblems

__all__ = [
    "BenchmarkEvaluation",
    "ComputeLog",
    "ExactSuccess",
    "LastAndBest",
    "MetricsLog",
    "ModelExport",
    "RolloutLog",
    "RolloutProgress",
    "RunSummary",
    "StepAdvantages",
    "TokenBudget",
    "WatchedProblems",
]
