"""What Lightning's own arguments may be: it takes some that mean nothing, and some that mean nothing *here*.

An epoch is an iteration whose rollouts decide how many batches it has, so shares of an epoch's batches would end a run
at the first iteration that has too few of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Range:
    holds: Callable[[Any], bool]
    takes: str
    advice: str = ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(least: int, takes: str, advice: str = "") -> _Range:
    return _Range(lambda value: not _number(value) or value >= least, takes, advice)


def _share(value: Any) -> bool:
    return not _number(value) or (value >= 0 if isinstance(value, int) else 0 <= value <= 1)


def _whole_batches(value: Any) -> bool:
    return not _number(value) or value == 1 or (isinstance(value, int) and value > 1)


_NO_SHARES = "An iteration has as many batches as its rollouts give, so a share of them may be none."

_RANGES = {
    "max_epochs": _count(-1, "a number of iterations, or -1 for no end"),
    "min_epochs": _count(0, "a number of iterations"),
    "max_steps": _count(-1, "a number of optimiser steps, or -1 for no end"),
    "min_steps": _count(0, "a number of optimiser steps"),
    "num_nodes": _count(1, "1 or more"),
    "devices": _Range(
        lambda value: not _number(value) or value == -1 or value > 0, "1 or more, -1 for all, a list, or auto"
    ),
    "accumulate_grad_batches": _count(1, "1 or more micro-batches of an optimiser step"),
    "gradient_clip_val": _count(0, "0 or more", "Leave it out for no clipping."),
    "check_val_every_n_epoch": _count(1, "1 or more iterations"),
    "log_every_n_steps": _count(1, "1 or more"),
    "num_sanity_val_steps": _count(-1, "0 or more"),
    "reload_dataloaders_every_n_epochs": _Range(
        lambda value: value in (None, 0, 1),
        "1: every epoch has rollouts of its own",
        "Leave it out; to learn from rollouts for several epochs, set data.refresh_every.",
    ),
    "fast_dev_run": _count(0, "true, false, or a number of batches"),
    "limit_train_batches": _Range(_whole_batches, "a number of batches, 1 or more", _NO_SHARES),
    "limit_val_batches": _Range(_share, "a number of batches, or a share from 0.0 to 1.0"),
    "limit_test_batches": _Range(_share, "a number of batches, or a share from 0.0 to 1.0"),
    "limit_predict_batches": _Range(_share, "a number of batches, or a share from 0.0 to 1.0"),
    "overfit_batches": _Range(
        lambda value: value in (None, 0),
        "0: every iteration has rollouts of its own",
        "To learn from the same rollouts again and again, set data.refresh_every.",
    ),
    "val_check_interval": _Range(
        lambda value: value is None or (_number(value) and value == 1),
        "1.0: the policy is validated between iterations",
        "trainer.check_val_every_n_epoch says how often, or every_n_epochs of BenchmarkEvaluation.",
    ),
}


def complaint(name: str, value: Any) -> str | None:
    """What is wrong with an argument of ``Trainer``, and what to do; ``None`` where nothing is known to be.

    >>> complaint("accumulate_grad_batches", 0)
    'trainer.accumulate_grad_batches is 0, but takes 1 or more micro-batches of an optimiser step.'
    >>> complaint("accumulate_grad_batches", 4)
    """
    known = _RANGES.get(name)
    if known is None or known.holds(value):
        return None
    advice = f" {known.advice}" if known.advice else ""
    return f"trainer.{name} is {value}, but takes {known.takes}.{advice}"


def complaints(arguments: Callable[[str], Any]) -> list[str]:
    """All that is wrong.

    Args:
        arguments: gives the value of an argument by its name.
    """
    found = (complaint(name, arguments(name)) for name in _RANGES)
    return [each for each in found if each is not None]
