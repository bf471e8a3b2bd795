"""One optimiser step, micro-batch by micro-batch: score, loss, backward pass, and whether the step is sound."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpo_lightning.experience import Batch
from gpo_lightning.losses import Loss
from gpo_lightning.policy.sharding import norm_of
from gpo_lightning.training.bad_steps import BadSteps
from gpo_lightning.training.oom_split import NoSplit, OOMSplit, StepResult, mean_metrics
from gpo_lightning.training.scorer import Scorer


class TrainingStep:
    """Turns micro-batches into gradients.

    For each micro-batch :meth:`forward`, :meth:`backward` and :meth:`judge`, in this order; before the optimiser
    steps, :meth:`close`.

    Args:
        scorer: of the policy.
        loss: what is minimised.
        parameters: what is trained.
        splits: whether a micro-batch that does not fit on the device may be split; only a device that need not go
            forward and back in step with others may.
        bad_steps: optimiser steps in a row whose loss or gradient is not finite, after which training stops.
        reduce_sum: element-wise sum over ranks.
        count_incident: called with the name of whatever went wrong and was mended.
    """

    def __init__(
        self,
        scorer: Scorer,
        loss: Loss,
        parameters: Sequence[nn.Parameter],
        splits: bool = True,
        bad_steps: int = 5,
        reduce_sum: Callable[[Tensor], Tensor] = lambda values: values,
        count_incident: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.scorer, self.loss, self.parameters = scorer, loss, parameters
        self._split = OOMSplit(self._learn, count_incident) if splits else NoSplit(self._learn)
        self._bad_steps = BadSteps(bad_steps)
        self._reduce_sum, self._count_incident = reduce_sum, count_incident
        self._divergence: Tensor | None = None
        self._scale = 1.0

    def forward(self, batch: Batch, scale: float = 1.0) -> Tensor:
        """The loss of a micro-batch: each term's sum over its weight in the whole optimiser step, times ``scale``."""
        self._scale = scale
        if batch.kl_rows:
            total, rows = self._reduce_sum(self.scorer.drift(batch.kl_rows))
            self._divergence = total / rows.clamp(min=1)
        return self._split.forward(batch)

    def backward(self, loss: Tensor, precision: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """Add the gradient of the micro-batch to those of the parameters.

        Args:
            loss: what :meth:`forward` returned, which may have been scaled since.
            precision: context of a forward pass.
        """
        self._split.backward(loss, self.parameters, precision)

    def judge(self) -> dict[str, Tensor]:
        """Loss and metrics of the micro-batch, detached; empty where they are not finite."""
        results = self._split.results
        sound = [self._bad_steps.judge(result.batch, result.logprobs, result.loss) for result in results]
        if not all(sound):
            return {}
        return {"loss": torch.stack([result.loss for result in results]).sum(), **mean_metrics(results)}

    def close(self, number: int, directory: Path | None = None, rank: int = 0) -> Tensor | None:
        """End the optimiser step; the norm of its gradient, or ``None`` where it is skipped on all ranks.

        A step without any gradient, of groups whose rewards are all equal say, leaves the weights as they are.

        Args:
            number: of the step.
            directory: the run's folder, where the batches of a bad step are kept; ``None`` keeps none.
            rank: of this process.

        Raises:
            TrainingError: too many steps in a row were bad.
        """
        norm = norm_of([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        bad = bool(self._reduce_sum(self._bad_steps.flag(norm)).item() > 0)
        if bad or norm == 0:
            # An optimiser leaves alone, moments and all, what has no gradient. By one of zeros Adam goes on at nearly
            # full speed, in the direction of the steps before.
            for parameter in self.parameters:
                parameter.grad = None
        if bad:
            self._count_incident("skipped_steps")
        self._bad_steps.close(bad, number, directory, rank)
        return None if bad else norm

    def _learn(self, batch: Batch) -> StepResult:
        scores = replace(self.scorer(batch), divergence=self._divergence)
        terms = self.loss(scores, batch)
        parts = [term / weight for term, weight in zip(terms.sums, batch.normalisers, strict=True)]
        return StepResult(batch, scores.logprobs.detach(), torch.stack(parts).sum() * self._scale, terms.metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"bad_steps_in_a_row": self._bad_steps.in_a_row, "too_big": self._split.too_big}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._bad_steps.in_a_row, self._split.too_big = state["bad_steps_in_a_row"], state["too_big"]
