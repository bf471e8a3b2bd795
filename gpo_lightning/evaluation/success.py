"""How often the policy is right."""

from collections.abc import Sequence

import torch

from gpo_lightning.evaluation.problem_mean import ProblemMean
from gpo_lightning.rollouts import RolloutTree, Sample


def mean_success(samples: Sequence[Sample]) -> float:
    """Mean success of one problem's graded responses; 0 where none could be graded."""
    graded = [sample.success for sample in samples if sample.success is not None]
    return sum(graded) / len(graded) if graded else 0.0


def problem_rewards(trees: Sequence[RolloutTree]) -> torch.Tensor:
    """``[P]`` each problem's mean success; 0 where no response could be graded."""
    return torch.tensor([mean_success(tree.samples) for tree in trees], dtype=torch.float64)


class SuccessRate(ProblemMean):
    """Mean over problems of the mean success of their responses (:func:`problem_rewards`), with a 95 % interval.

    Responses to one problem are not independent, so the problem is the unit: with several responses each, the
    interval is Wilson's at the number of independent trials that would have the same standard error.

    >>> rate = SuccessRate()
    >>> rate.update(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    >>> float(rate.compute()["accuracy"])
    0.75
    """

    figure = "accuracy"
