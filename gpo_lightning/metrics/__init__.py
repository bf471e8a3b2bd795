"""How well the policy does: success rates with intervals, and the evaluation that measures them."""

from gpo_lightning.metrics.errors import errors_found
from gpo_lightning.metrics.evaluation import Result, problem_rewards, respond, result
from gpo_lightning.metrics.success import SuccessRate, wilson_interval

__all__ = ["Result", "SuccessRate", "errors_found", "problem_rewards", "respond", "result", "wilson_interval"]
