"""How often the critical step is the first wrong one, on responses whose first wrong step is known."""

from collections.abc import Sequence

from gpo_lightning.evaluation.estimate import Estimate, wilson_interval
from gpo_lightning.problems import LabelledTrajectory
from gpo_lightning.rollouts import RolloutTree


def errors_found(trajectories: Sequence[LabelledTrajectory], trees: Sequence[RolloutTree], within: int = 0) -> Estimate:
    """Share of the trajectories with a wrong step whose critical step is that one, with its interval.

    Args:
        trajectories: labelled ones.
        trees: as :meth:`RolloutLoop.examine` gave them; trajectories without a tree are left out.
        within: how many steps the critical one may be off.
    """
    curves = {id(tree.problem): tree.curves[0] for tree in trees if tree.curves}
    hits = [
        abs(curves[id(trajectory.problem)].critical - trajectory.error) <= within
        for trajectory in trajectories
        if trajectory.error is not None and id(trajectory.problem) in curves
    ]
    share = sum(hits) / len(hits) if hits else 0.0
    return Estimate(share, *wilson_interval(share, len(hits)), len(hits))
