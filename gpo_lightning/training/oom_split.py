"""A micro-batch that does not fit into the device's memory is split; the gradient stays the same.

A loss is a sum divided by weights that are known beforehand, so the gradients of parts add up to that of the whole.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from gpo_lightning.errors import TrainingError
from gpo_lightning.experience import Batch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepResult:
    """The forward pass of a micro-batch, or of a part of one.

    Args:
        batch: what was learnt from.
        logprobs: ``[R, T]`` of the policy, detached.
        loss: share of this part in the loss of the optimiser step.
        metrics: detached scalars, each a mean over the part.
    """

    batch: Batch
    logprobs: Tensor
    loss: Tensor
    metrics: dict[str, Tensor]


class NoSplit:
    """Micro-batches go through in one piece; one that does not fit stops the run with advice.

    For several devices: they add their gradients up within the backward pass, once each, in step with each other.

    Args:
        learn: a forward pass.
    """

    def __init__(self, learn: Callable[[Batch], StepResult]) -> None:
        self.learn = learn
        self.too_big: int | None = None
        self.results: list[StepResult] = []

    def forward(self, batch: Batch) -> Tensor:
        """The loss to be handed to :meth:`backward`, which may scale it before."""
        try:
            learnt = self.learn(batch)
        except torch.OutOfMemoryError as error:
            raise _without_cutting(batch) from error
        self.results = [replace(learnt, loss=learnt.loss.detach())]
        return learnt.loss

    def backward(
        self, loss: Tensor, parameters: Sequence[nn.Parameter], precision: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Add the gradient of the batch to that of the parameters.

        Args:
            loss: what :meth:`forward` returned, scaled.
            parameters: those that are trained.
            precision: context of a forward pass.
        """
        try:
            loss.backward()
        except torch.OutOfMemoryError as error:
            raise _without_cutting(self.results[0].batch) from error


class OOMSplit(NoSplit):
    """Cuts what does not fit into halves, down to single examples, and from then on whatever is as large.

    Args:
        learn: a forward pass.
        count_incident: called for every split.
    """

    def __init__(self, learn: Callable[[Batch], StepResult], count_incident: Callable[[str], None]) -> None:
        super().__init__(learn)
        self._count_incident = count_incident
        self._left: list[Batch] = []
        self._present: StepResult | None = None
        self._scale_of = torch.zeros(())

    def forward(self, batch: Batch) -> Tensor:
        self.results, self._left = [], [batch]
        present = self._next()
        # The graph stays here alone: were it the caller's too, a failed backward pass could not free its memory.
        self._scale_of = torch.zeros_like(present.loss, requires_grad=True)
        return present.loss.detach() + self._scale_of

    def backward(
        self, loss: Tensor, parameters: Sequence[nn.Parameter], precision: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        (scale,) = torch.autograd.grad(loss, self._scale_of)
        while True:
            too_big = self._go_back(scale, parameters)
            if too_big is not None:
                self._halve(too_big)
            if not self._left:
                return
            with precision():
                self._next()

    def _go_back(self, scale: Tensor, parameters: Sequence[nn.Parameter]) -> Batch | None:
        """The backward pass of the present part, whose graph is gone afterwards; the part, if it does not fit."""
        present, self._present = cast(StepResult, self._present), None
        if not _descend(present.loss * scale, parameters):
            return present.batch
        self.results.append(replace(present, loss=present.loss.detach()))
        return None

    def _next(self) -> StepResult:
        """A forward pass over the next part that fits."""
        while True:
            part = self._left.pop()
            if self.too_big is not None and part.size > 1 and part.area >= self.too_big:
                self._left += reversed(part.halves())
                continue
            try:
                self._present = self.learn(part)
            except torch.OutOfMemoryError:
                pass
            else:
                return self._present
            self._halve(part)

    def _halve(self, part: Batch) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if part.size == 1:
            raise TrainingError(
                f"A single example of {part.area} tokens does not fit into the device's memory. Lower "
                "data.sampling.max_tokens or model.policy.logit_chunk, set model.policy.gradient_checkpointing to "
                "true, or give the engine less (data.engine.init_args.gpu_memory)."
            )
        self.too_big = min(part.area, self.too_big or part.area)
        self._count_incident("micro_batches_split")
        _LOG.warning(
            "Out of memory: a micro-batch of %d examples, %d tokens with padding, is cut into halves, and later ones "
            "of its size as well; the gradient is the same. A data.micro_batch below %d, or a budget "
            "(data.micro_tokens), avoids the failed attempts.",
            part.size,
            part.area,
            part.size,
        )
        self._left += reversed(part.halves())


def _descend(loss: Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    """Add the gradient of a part, or nothing of it if memory runs out in the middle."""
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    fits = True
    try:
        loss.backward()
    except torch.OutOfMemoryError:
        fits = False
    for parameter, earlier in zip(parameters, before, strict=True):
        if not fits or parameter.grad is None:
            parameter.grad = earlier
        elif earlier is not None:
            parameter.grad = earlier.add_(parameter.grad)
    return fits


def _without_cutting(batch: Batch) -> TrainingError:
    return TrainingError(
        f"Out of memory: a micro-batch of {batch.size} examples, {batch.area} tokens with padding, does not fit on one "
        "of several devices, which cannot cut theirs each for itself. Set data.micro_batch to "
        f"{max(1, batch.size // 2)} and trainer.accumulate_grad_batches to twice what it is, or lower "
        "data.micro_tokens: the gradient is the same. Then go on with --ckpt_path last."
    )


def mean_metrics(results: Sequence[StepResult]) -> dict[str, Tensor]:
    """Means over the examples of all parts."""
    total = sum(result.batch.size for result in results)
    shares = [(result.metrics, result.batch.size / total) for result in results]
    return {
        name: torch.stack([metrics[name] * share for metrics, share in shares]).sum() for name in results[0].metrics
    }
