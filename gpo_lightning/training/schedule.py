"""Learning rates by the share of the run that is done, for nobody knows the number of optimiser steps beforehand.

An iteration has as many steps as its examples fill. The shapes, and their names, are those of transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_scheduler

from gpo_lightning.errors import ConfigError

_TICKS = 10_000


@dataclass(frozen=True)
class Schedule:
    """A schedule of transformers over the whole run.

    >>> factor = Schedule("linear", warmup=0.1).factor()
    >>> [round(factor(share), 2) for share in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    Args:
        name: one that transformers knows: ``linear``, ``cosine``, ``constant_with_warmup``, ``inverse_sqrt``, ...
        warmup: share of the run, 0 to 1, in which the learning rate rises to what the optimiser was given.
        options: of the schedule, such as ``{min_lr_rate: 0.1}``; numbers of steps, and ``timescale``, are shares of
            the run too, as in ``{num_decay_steps: 0.2}``; learning rates (``min_lr``, ``lr_end``) are what they are.
    """

    name: str = "cosine"
    warmup: float = 0.0
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"model.schedule.warmup is {self.warmup:g}; it is a share of the run, 0 to 1.")
        for name, value in self.options.items():
            if _is_share(name) and not (isinstance(value, int | float) and 0 <= value <= 1):
                raise ConfigError(
                    f"model.schedule.options.{name} is {value!r}; it is a share of the run, 0 to 1, for nobody knows "
                    "the number of optimiser steps beforehand."
                )
        self.factor()

    def factor(self, rate: float = 1.0) -> Callable[[float], float]:
        """From the share of the run that is done, 0 to 1, to the factor of the learning rate.

        Args:
            rate: the learning rate that the optimiser was given.
        """
        options = {name: round(value * _TICKS) if _is_share(name) else value for name, value in self.options.items()}
        nothing = torch.optim.SGD([torch.zeros(1)], lr=rate)
        try:
            made = get_scheduler(self.name, nothing, round(self.warmup * _TICKS), _TICKS, options or None)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"model.schedule: {error}") from error
        if not isinstance(made, LambdaLR):
            raise ConfigError(f"model.schedule.name is {self.name!r}, which does not follow from the share of a run.")
        shape = made.lr_lambdas[0]
        return lambda share: shape(round(min(max(share, 0.0), 1.0) * _TICKS))

    def scheduler(self, optimizer: Optimizer, share: Callable[[], float]) -> LRScheduler:
        """To be stepped after each optimiser step.

        Args:
            optimizer: whose learning rates are the highest ones.
            share: of the run that is done, whenever it is asked.
        """
        return _ByShare(optimizer, self.factor(float(optimizer.defaults["lr"])), share)


def _is_share(option: str) -> bool:
    return option.endswith("_steps") or option == "timescale"


class _ByShare(LRScheduler):
    def __init__(self, optimizer: Optimizer, factor: Callable[[float], float], share: Callable[[], float]) -> None:
        self.factor, self.share = factor, share
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        factor = self.factor(self.share())
        return [rate * factor for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().state_dict().items() if name not in ("factor", "share")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.last_epoch == 0:  # another schedule's run, of which a share is done
            for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = rate
