"""A micro-batch that does not fit is cut, and the gradient is what it would have been; no example is cut in two."""

import gc
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpo_lightning import GPOModule
from gpo_lightning.errors import TrainingError
from gpo_lightning.experience import ExperienceBuilder, MismatchedResponses, PolicyGradient, PreferencePairs
from gpo_lightning.experience.example import Batch, Row, Rows, Scores, collate_rows
from gpo_lightning.experience.preference import PairBatch
from gpo_lightning.experience.schedule import MicroBatch, schedule
from gpo_lightning.losses import DPO, GRPO, KL, KTO, Loss
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.logprobs import Scored
from gpo_lightning.training.oom_split import NoSplit, StepResult
from tests.conftest import disturb, lora
from tests.fitting import fit_batches, trees

NO_LIMIT = 1 << 30


class Cramped(Policy):
    """Runs out of memory, in the forward or in the middle of the backward pass, where more rows go through at once."""

    def __init__(self, config: PolicyConfig, values: bool, rows: int, backward: bool) -> None:
        super().__init__(config, values)
        self.most, self.late = rows, backward
        self.seen: list[int] = []
        self.rows = 0
        # By then the layers above have their gradients, which must not be added twice.
        self.causal_lm.base_model.layers[0].register_forward_hook(self._fail_below)

    def _score(self, input_ids: Tensor, attention_mask: Tensor, mask: Tensor, temperature: float) -> Scored:
        self.rows = len(input_ids)
        scored = super()._score(input_ids, attention_mask, mask, temperature)
        # Without gradients nothing is kept for later.
        if scored.states.requires_grad:
            self.seen.append(len(input_ids))
            if len(input_ids) > self.most and not self.late:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return scored

    def _fail_below(self, _module: Any, _inputs: Any, hidden: Tensor) -> Tensor:
        return _FailsOnTheWayBack.apply(hidden) if self.late and self.rows > self.most else hidden


class _FailsOnTheWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")


class CrampedModule(GPOModule):
    def __init__(self, loss: Loss, rows: int, backward: bool, packing: Literal["tree", "none"] = "none") -> None:
        config = PolicyConfig(base="tiny", lora=lora(), dtype="float64", packing=packing)
        super().__init__(loss, config, optimizer=torch.optim.SGD)
        self.rows, self.late = rows, backward

    def configure_model(self) -> None:
        if "policy" not in self._modules:
            self.policy = Cramped(self.policy_config, self.loss.needs_values, self.rows, self.late)


def learn(
    module: GPOModule,
    batches: Sequence[MicroBatch],
    builder: ExperienceBuilder,
    accumulate: int,
    accelerator: str = "cpu",
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """The gradient of each step, and what was logged."""
    torch.manual_seed(0)
    module.configure_model()
    disturb(module.policy)
    steps, trainer = fit_batches(module, batches, builder, accumulate, accelerator=accelerator)
    return steps, {name: float(value) for name, value in trainer.callback_metrics.items()}


CASES = [
    (GRPO(kl=KL(0.1)), PolicyGradient(starts=("prompt",))),
    (DPO(), PreferencePairs(starts=("prompt",), pairs=8)),
    (KTO(), MismatchedResponses(starts=("prompt",))),
]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("rows", "accumulate", "packing"), [(2, 1, "none"), (5, 2, "none"), (5, 1, "tree")])
@pytest.mark.parametrize(("loss", "builder"), CASES, ids=lambda value: type(value).__name__)
def test_a_micro_batch_that_does_not_fit_gives_the_gradient_it_would_have_given(
    loss: Loss, builder: ExperienceBuilder, rows: int, accumulate: int, packing: Any, backward: bool, caplog: Any
) -> None:
    # Halves of a tree are other trees, and norms are in single precision, which rounds otherwise there.
    tolerance = 1e-6 if packing == "tree" else 1e-12
    examples = builder.build(trees(), Counter())
    batches = schedule(examples, loss.weights, 16, accumulate)
    expected, metrics = learn(CrampedModule(loss, NO_LIMIT, backward, packing), batches, builder, accumulate)
    module = CrampedModule(loss, rows, backward, packing)
    with caplog.at_level(logging.WARNING):
        found, found_metrics = learn(module, batches, builder, accumulate)
    assert len(found) == len(expected) >= 1
    for whole, cut in zip(expected, found, strict=True):
        assert whole.keys() == cut.keys()
        scale = max(float(g.abs().max()) for g in whole.values())
        assert scale > 0
        for name, gradient in whole.items():
            assert torch.allclose(gradient, cut[name], rtol=0, atol=tolerance * scale), name
    assert found_metrics["train/loss"] == pytest.approx(metrics["train/loss"], rel=tolerance)
    assert found_metrics["train/grad_norm"] == pytest.approx(metrics["train/grad_norm"], rel=tolerance)
    assert found_metrics.keys() == metrics.keys()
    assert module.data.incidents["micro_batches_split"] >= 1
    assert "the gradient is the same" in caplog.text


def test_once_a_size_was_too_big_it_is_not_tried_again() -> None:
    builder = PolicyGradient(starts=("prompt",))
    examples = [example for example in builder.build(trees(), Counter()) if example.length == 13] * 16
    module = CrampedModule(GRPO(), rows=4, backward=False)
    learn(module, schedule(examples, GRPO().weights, 16, 1), builder, accumulate=1)
    policy = module.policy
    assert isinstance(policy, Cramped)
    assert [size for size in policy.seen if size > 4] == [16, 8], "once each"
    assert len([size for size in policy.seen if size == 4]) == len(examples) // 4
    assert module.data.incidents["micro_batches_split"] == 2
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    resumed = CrampedModule(GRPO(), rows=4, backward=False)
    resumed.on_load_checkpoint(checkpoint)
    learn(resumed, schedule(examples, GRPO().weights, 16, 1), builder, accumulate=1)
    assert isinstance(resumed.policy, Cramped)
    assert max(resumed.policy.seen) == 4, "a run that goes on knows it"


def test_shorter_micro_batches_are_not_cut_because_a_long_one_was() -> None:
    builder = PolicyGradient(starts=("prompt",))
    examples = builder.build(trees(), Counter())
    lengths = sorted(example.length for example in examples)
    short = [example for example in examples if example.length < lengths[len(lengths) // 2]][:8]
    long = [example for example in examples if example.length == lengths[-1]] * 8
    module = CrampedModule(GRPO(), rows=7, backward=False)
    learn(module, schedule([*long[:8], *short], GRPO().weights, 8, 1), builder, accumulate=1)
    policy = module.policy
    assert isinstance(policy, Cramped)
    assert policy.seen[:3] == [8, 4, 4]
    assert policy.seen[3] == 8, "fewer tokens, so it is tried"


def test_a_single_example_that_does_not_fit_stops_the_run_with_advice() -> None:
    builder = PolicyGradient(starts=("prompt",))
    batches = schedule(builder.build(trees(), Counter()), GRPO().weights, 4, 1)
    with pytest.raises(TrainingError, match=r"single example .*data\.sampling\.max_tokens"):
        learn(CrampedModule(GRPO(), rows=0, backward=False), batches, builder, accumulate=1)


def test_a_pair_is_never_torn_apart() -> None:
    """Two rows are one example; with room for one row nothing can be learnt."""
    builder = PreferencePairs(starts=("prompt",), pairs=8)
    batches = schedule(builder.build(trees(), Counter()), DPO().weights, 4, 1)
    with pytest.raises(TrainingError, match="single example"):
        learn(CrampedModule(DPO(), rows=1, backward=True), batches, builder, accumulate=1)


@pytest.mark.parametrize("backward", [False, True])
def test_one_of_several_devices_cannot_cut_by_itself_and_says_what_can_be_done(backward: bool) -> None:
    batch = PolicyGradient().collate([PolicyGradient().blank()] * 6, 0, (1.0,))

    def cramped(_: Batch) -> StepResult:
        if not backward:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        loss = _FailsOnTheWayBack.apply(torch.ones((), requires_grad=True))
        return StepResult(batch, loss.detach(), loss, {})

    whole = NoSplit(cramped)
    with pytest.raises(TrainingError, match=r"data\.micro_batch to 3 and trainer\.accumulate_grad_batches"):
        whole.backward(whole.forward(batch), [], lambda: pytest.fail("no second forward pass"))


rows = st.builds(
    lambda context, actions: Row(tuple(range(1, context + 1)), tuple(range(50, 50 + actions))),
    st.integers(1, 6),
    st.integers(0, 6),
)


@given(st.lists(st.tuples(rows, rows), min_size=2, max_size=9))
def test_halves_hold_every_pair_once_and_in_order(pairs: list[tuple[Row, Row]]) -> None:
    both = collate_rows([chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs], 0)
    prior = Scores(torch.randn(both.loss_mask.shape), divergence=torch.ones(()))
    batch = PairBatch(both, (2.0,), old_scores=prior, kl_rows=(both,))
    parts = batch.halves()
    assert [part.size for part in parts] == [len(pairs) // 2, len(pairs) - len(pairs) // 2]
    rebuilt: list[tuple[Row, Row]] = []
    for part in parts:
        assert isinstance(part, PairBatch)
        assert (part.normalisers, part.kl_rows) == ((2.0,), ())
        assert part.rows.attention_mask.sum(-1).max() == part.rows.attention_mask.shape[1], "no wider than needed"
        assert part.old_scores is not None
        assert part.old_scores.logprobs.shape == part.rows.loss_mask.shape
        assert part.old_scores.divergence == 1.0
        flat = [row_of(part.rows, i) for i in range(2 * part.size)]
        rebuilt += zip(flat[: part.size], flat[part.size :], strict=True)
    assert rebuilt == [(replace(a, rollout_logprobs=()), replace(b, rollout_logprobs=())) for a, b in pairs]


def row_of(rows: Rows, i: int) -> Row:
    end = int(rows.attention_mask[i].sum())
    begin = end - int(rows.loss_mask[i].sum())
    ids = tuple(rows.input_ids[i].tolist())
    return Row(ids[:begin], ids[begin:end])


@pytest.mark.gpu
def test_a_device_that_is_really_full_gives_the_same_gradient() -> None:
    """Memory is capped between what the whole micro-batch needs and what its halves need."""
    builder = PolicyGradient(starts=("prompt",))
    examples = builder.build(trees(), Counter()) * 64
    batches = schedule(examples, GRPO().weights, len(examples), 1)
    config = PolicyConfig(base="tiny", lora=lora(), dtype="float32")
    torch.cuda.reset_peak_memory_stats()
    (expected,), _ = learn(GPOModule(GRPO(), config, torch.optim.SGD), batches, builder, 1, "gpu")
    needed = torch.cuda.max_memory_reserved()
    gc.collect()
    torch.cuda.empty_cache()
    cramped = GPOModule(GRPO(), config, torch.optim.SGD)
    torch.cuda.set_per_process_memory_fraction(0.75 * needed / torch.cuda.get_device_properties(0).total_memory)
    try:
        (found,), _ = learn(cramped, batches, builder, 1, "gpu")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cramped.data.incidents["micro_batches_split"] >= 1
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(gradient, found[name], rtol=0, atol=1e-4 * scale), name
