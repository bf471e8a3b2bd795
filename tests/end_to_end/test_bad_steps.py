"""A step whose loss or gradient is not finite changes nothing, on no rank, and is there to be looked at."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from gpo_lightning.errors import TrainingError
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.experience.schedule import schedule
from gpo_lightning.losses import GRPO
from gpo_lightning.module import GPOModule
from gpo_lightning.policy import PolicyConfig
from tests.conftest import lora
from tests.fitting import fit_batches, trees


class Spoilt(GPOModule):
    """Its loss is NaN, or its gradient is while the loss is not, or is zero, at given micro-batches."""

    def __init__(
        self, nan_loss: set[int], nan_gradient: set[int], bad_steps: int, no_gradient: frozenset[int] = frozenset()
    ) -> None:
        super().__init__(
            GRPO(), PolicyConfig(base="tiny", lora=lora(), dtype="float64"), torch.optim.AdamW, bad_steps=bad_steps
        )
        self.nan_loss, self.nan_gradient, self.no_gradient = nan_loss, nan_gradient, no_gradient
        self.weights: list[dict[str, torch.Tensor]] = []
        self.seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        number, self.seen = self.seen, self.seen + 1
        if number % self.trainer.accumulate_grad_batches == 0:
            self.weights.append({name: value.clone() for name, value in self.policy.trainable_state().items()})
        if number in self.nan_loss:
            with torch.no_grad():
                original, self.policy.logprobs = self.policy.logprobs, lambda *a: original(*a) * float("nan")  # type: ignore[method-assign]
            try:
                return super().training_step(batch, batch_idx)
            finally:
                self.policy.logprobs = original  # type: ignore[method-assign]
        loss = super().training_step(batch, batch_idx)
        if number in self.nan_gradient:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        if number in self.no_gradient:
            loss.register_hook(lambda gradient: gradient * 0)
        return loss


def run(module: Spoilt, folder: Path, accumulate: int = 2) -> None:
    builder = PolicyGradient(starts=("prompt",))
    examples = builder.build(trees(), Counter())
    batches = schedule(examples, module.loss.weights, 2, accumulate)
    fit_batches(module, batches, builder, accumulate, folder)
    module.weights.append({name: value.clone() for name, value in module.policy.trainable_state().items()})


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(("loss", "gradient"), [({2}, set()), ({3}, set()), (set(), {2})])
def test_a_bad_step_changes_no_weight_and_the_next_one_does(loss: set[int], gradient: set[int], tmp_path: Path) -> None:
    """The second step, of two micro-batches, one of which is bad."""
    module = Spoilt(loss, gradient, bad_steps=2)
    run(module, tmp_path)
    changed = [not same(before, after) for before, after in zip(module.weights, module.weights[1:], strict=False)]
    assert changed[1] is False
    assert all(changed[:1] + changed[2:])
    assert len(changed) > 2
    assert all(torch.isfinite(value).all() for value in module.weights[-1].values())
    assert module.data.incidents == {"skipped_steps": 1}
    (kept,) = (tmp_path / "bad_steps").glob("*.pt")
    batches = torch.load(kept, weights_only=True)
    assert len(batches) == 2, "every micro-batch of the step"
    assert batches[0]["rows"]["input_ids"].dtype == torch.long


def test_a_step_without_a_gradient_changes_no_weight_and_is_no_bad_one(tmp_path: Path) -> None:
    """Adam's momentum would carry the weights on, away from where they have just begun to succeed."""
    module = Spoilt(set(), set(), bad_steps=1, no_gradient=frozenset({2, 3}))
    run(module, tmp_path)
    changed = [not same(before, after) for before, after in zip(module.weights, module.weights[1:], strict=False)]
    assert changed[1] is False
    assert all(changed[:1] + changed[2:])
    assert not module.data.incidents


def test_bad_steps_in_a_row_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="2 optimiser steps in a row"):
        run(Spoilt({1, 2}, set(), bad_steps=2), tmp_path)


def test_bad_steps_with_a_good_one_between_do_not(tmp_path: Path) -> None:
    module = Spoilt({0, 4}, set(), bad_steps=2)
    run(module, tmp_path)
    assert module.data.incidents == {"skipped_steps": 2}
