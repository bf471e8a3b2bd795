"""Optimiser steps whose loss or gradient is not a number: skipped, counted, kept for inspection, and not for ever."""

import logging
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpo_lightning.errors import TrainingError
from gpo_lightning.experience import Batch

_LOG = logging.getLogger(__name__)

FOLDER = "bad_steps"
_MOST_KEPT = 3


class BadSteps:
    """Watches the micro-batches of an optimiser step, then the step.

    Args:
        most: bad steps in a row after which training stops.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.in_a_row = 0
        self._bad = False
        self._batches: list[Batch] = []

    def judge(self, batch: Batch, logprobs: Tensor, loss: Tensor) -> bool:
        """Whether a micro-batch is sound; a bad one spoils its whole step, on every rank."""
        sound = bool(torch.isfinite(logprobs).all() and torch.isfinite(loss).all())
        self._bad |= not sound
        self._batches.append(batch)
        return sound

    def flag(self, norm: Tensor) -> Tensor:
        """1 where this rank found the step bad, its gradient included; else 0."""
        self._bad |= not bool(torch.isfinite(norm))
        return torch.tensor(float(self._bad), device=norm.device)

    def close(self, bad: bool, step: int, directory: Path | None, rank: int) -> None:
        """End the step; ``bad`` is what all ranks agreed on.

        Raises:
            TrainingError: it was bad, and so were those before it.
        """
        batches, self._batches, self._bad = self._batches, [], False
        self.in_a_row = self.in_a_row + 1 if bad else 0
        if not bad:
            return
        kept = (
            "" if directory is None else f" The batches are in {self._keep(batches, directory / FOLDER, step, rank)}."
        )
        if rank == 0:
            _LOG.warning("Optimiser step %d is skipped: its loss or gradient is not finite.%s", step, kept)
        if self.in_a_row >= self.most:
            raise TrainingError(
                f"{self.in_a_row} optimiser steps in a row had a loss or gradient that is not finite, the last of them "
                f"step {step}; they were skipped. The weights may have overflowed in the step before them: a lower "
                "learning rate (model.optimizer) or trainer.gradient_clip_val helps, from a checkpoint before that."
                f"{kept}"
            )

    @staticmethod
    def _keep(batches: list[Batch], folder: Path, step: int, rank: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob(f"*-rank{rank}.pt"))) < _MOST_KEPT:
            torch.save([_plain(batch) for batch in batches], folder / f"step-{step:06d}-rank{rank}.pt")
        return folder


def _plain(value: Any) -> Any:
    """Tensors and primitives, which ``torch.load`` reads without trusting the file."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
