"""How often the critical step is the first wrong one, on responses whose first wrong step is known."""

from collections.abc import Sequence

import torch

from gpo_lightning.metrics.evaluation import Result, result
from gpo_lightning.metrics.success import SuccessRate
from gpo_lightning.problems import LabelledTrajectory
from gpo_lightning.tree import RolloutTree


def errors_found(trajectories: Sequence[LabelledTrajectory], trees: Sequence[RolloutTree], within: int = 0) -> Result:
    """Share of the trajectories with a wrong step whose critical step is that one, with its interval.

    Args:
        trajectories: labelled ones.
        trees: as :meth:`Explorer.examine` gave them; trajectories without a tree are left out.
        within: how many steps the critical one may be off.
    """
    curves = {id(tree.problem): tree.curves[0] for tree in trees if tree.curves}
    hits = [
        abs(curves[id(its.problem)].critical - its.error) <= within
        for its in trajectories
        if its.error is not None and id(its.problem) in curves
    ]
    rate = SuccessRate()
    rate.update(torch.tensor(hits, dtype=torch.float64))
    return result(rate)
