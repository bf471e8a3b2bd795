"""Logs how step advantages are distributed, and where and how large the critical steps are."""

from statistics import fmean
from typing import TYPE_CHECKING

from lightning import Callback, Trainer

from gpo_lightning.callbacks.logged import log_histograms
from gpo_lightning.rollouts import gather
from gpo_lightning.rollouts.tree import ValueCurve

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class StepAdvantages(Callback):
    """Histograms, in every logger, and scalars of each iteration's explored trajectories.

    Histograms: ``steps/advantage`` (every step), ``steps/value`` (every prefix), ``critical/advantage`` and
    ``critical/position`` (0: first step, 1: last). Scalars: their means, under the same names with ``_mean``.
    """

    def on_train_epoch_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        rollouts = pl_module.data.rollouts
        curves = gather([curve for tree in rollouts.trees for curve in tree.curves] if rollouts else [])
        if not curves:
            return
        distributions = step_distributions(curves)
        means = {f"{name}_mean": fmean(values) for name, values in distributions.items()}
        pl_module.log_dict(means, on_step=False, on_epoch=True, batch_size=1)
        log_histograms(trainer, distributions)


def step_distributions(curves: list[ValueCurve]) -> dict[str, list[float]]:
    """The values behind each histogram, from at least one curve.

    >>> curve = ValueCurve(tokens=(5, 6, 7, 8), boundaries=(0, 2, 4), values=(0.5, 0.25, 1.0), critical=1)
    >>> step_distributions([curve])["critical/advantage"]
    [0.75]
    """
    return {
        "steps/advantage": [advantage for curve in curves for advantage in curve.advantages],
        "steps/value": [value for curve in curves for value in curve.values[:-1]],
        "critical/advantage": [curve.advantages[curve.critical] for curve in curves],
        "critical/position": [curve.critical / max(1, len(curve.advantages) - 1) for curve in curves],
    }
