"""What an iteration cost: tokens and seconds by phase, tokens a second, and tokens for each group that teaches."""

from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer

from gpo_lightning.callbacks.rollout_log import group_figures
from gpo_lightning.engines import Purpose
from gpo_lightning.rollouts import gather

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


CLOCKED = ("compute/seconds_", "compute/tokens_per_second", "rollouts/in_flight_mean", "rollouts/idle_share")
"""Beginnings of the names of scalars that a clock tells: no two runs have the same."""


class ComputeLog(Callback):
    """Logs each iteration's cost.

    Scalars: ``compute/tokens_PURPOSE`` (generated in this iteration's rollouts, over all ranks),
    ``compute/seconds_PHASE`` (of the first rank), ``compute/tokens_per_second`` (generated, in rollouts),
    ``compute/tokens_per_useful_group`` (one whose rewards differ) and ``train/learning_rate`` (of the last step).
    """

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._clock: dict[str, float] = {}
        self._batch, self._training, self._rate = 0.0, 0.0, 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What a resumed run, or an evaluation at the start, spent is no iteration's."""
        self._before, self._clock = _generated(pl_module), dict(pl_module.data.clock.seconds)

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._batch = perf_counter()
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._training += perf_counter() - self._batch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = pl_module.data
        generated, clock = _generated(pl_module), dict(data.clock.seconds)
        own = {purpose: generated[purpose] - self._before[purpose] for purpose in generated}
        seconds = {phase: value - self._clock.get(phase, 0.0) for phase, value in clock.items()}
        seconds["train"] = self._training
        self._before, self._clock, self._training = generated, clock, 0.0
        ranks = gather([own])
        tokens = {purpose: sum(rank[purpose] for rank in ranks) for purpose in own}
        useful = sum(gather([useful_groups(pl_module)]))
        scalars = compute_scalars(tokens, seconds, useful) | {"train/learning_rate": self._rate}
        pl_module.log_dict(scalars, on_step=False, on_epoch=True, batch_size=1)


def compute_scalars(tokens: dict[str, int], seconds: dict[str, float], useful: int) -> dict[str, float]:
    """The scalars; what did not happen has none.

    >>> compute_scalars({"sample": 600, "probe": 300, "reset": 0}, {"sample": 2.0, "probe": 1.0, "train": 4.0}, 3)
    {'compute/tokens_sample': 600.0, 'compute/tokens_probe': 300.0, 'compute/seconds_sample': 2.0,
    'compute/seconds_probe': 1.0, 'compute/seconds_train': 4.0, 'compute/tokens_per_second': 300.0,
    'compute/tokens_per_useful_group': 300.0}

    Args:
        tokens: generated, by purpose.
        seconds: by phase.
        useful: groups that teach.
    """
    scalars = {f"compute/tokens_{purpose}": float(count) for purpose, count in tokens.items() if count}
    scalars |= {f"compute/seconds_{phase.replace(' ', '_')}": spent for phase, spent in seconds.items() if spent}
    drawn = sum(tokens.values())
    drawing = sum(spent for phase, spent in seconds.items() if phase in ("sample", "probe", "reset", "search", "grade"))
    if drawn and drawing:
        scalars["compute/tokens_per_second"] = drawn / drawing
    if drawn and useful:
        scalars["compute/tokens_per_useful_group"] = drawn / useful
    return scalars


def _generated(module: "GPOModule") -> Counter[str]:
    """By purpose. Evaluations belong to no iteration: some callbacks make them at its end, after this one's turn."""
    accounts = module.data.engine.ledger.accounts.items()
    return Counter({str(purpose): its.generated for purpose, its in accounts if purpose != Purpose.EVALUATION})


def useful_groups(module: "GPOModule") -> int:
    """Groups of this rank whose rewards differ, at the prompt and at other start states."""
    rollouts = module.data.rollouts
    return sum(not uniform for uniform in group_figures(rollouts.trees if rollouts else []))
