"""What trl and verl make of a sampler that is not quite the policy: weights, masks, and a loss with either."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer

from .case import Case, Inputs, Reference
from .cut_out import cut_out
from .draws import MARGIN, Bites, Draw, every, mask_bites, once
from .libraries import TRL, VERL, verl
from .responses import SUM, TOKEN, ratios, responses
from .trl_policy_gradient import grpo_loss
from .verl_policy_gradient import verl_policy


def sampled(
    draw: Draw, *, unknown: bool = False, holes: bool = False, by_token: bool = False, kl: bool = False
) -> Inputs:
    """Responses with what the sampler thought of its own tokens; with `unknown`, it does not say for one of them."""
    inputs = responses(draw, kl=kl, holes=holes, by_token=by_token)
    sampler = draw.near(inputs["behaviour"], 0.6)
    if unknown:
        sampler[inputs["mask"].sum(-1).argmax(), 0] = math.nan
    return inputs | {"sampler": sampler}


def leaves(low: float, high: float, level: str) -> Bites:
    """Ratios of policy to sampler below, above and inside [low, high]."""

    def bites(behaviour: Tensor, sampler: Tensor, mask: Tensor, **_: Any) -> bool:
        ratio, live = ratios(behaviour, torch.where(sampler.isnan(), behaviour, sampler), mask, level)
        sides = (ratio < low, ratio > high, (ratio > low) & (ratio < high))
        clear = all(((ratio - bound).abs() > MARGIN).all() for bound in (low, high))
        return all((live & side).any() for side in sides) and clear and mask_bites(mask)

    return bites


def trl_corrected(name: str, mode: str, low: float | None, high: float, beta: float) -> Reference:
    begins = "if self.use_vllm and self.vllm_importance_sampling_correction:\n    mask ="
    run = cut_out(GRPOTrainer._generate_and_score_completions, begins, begins)
    settings = {
        "vllm_importance_sampling_mode": mode,
        "vllm_importance_sampling_clip_min": low,
        "vllm_importance_sampling_clip_max": high,
    }
    training = {"loss_type": "grpo", "beta": beta}

    def compute(behaviour: Tensor, sampler: Tensor, mask: Tensor, **inputs: Any) -> tuple[Tensor, Inputs]:
        ratio = run(
            self=SimpleNamespace(use_vllm=True, vllm_importance_sampling_correction=True, **settings),
            completion_mask=mask,
            tool_mask=None,
            old_per_token_logps=behaviour,
            sampling_per_token_logps=sampler,
        ).vllm_importance_sampling_ratio
        loss = grpo_loss(training, behaviour=behaviour, mask=mask, importance_sampling_ratio=ratio, **inputs)
        return loss, {"importance_sampling_ratio": ratio}

    source = (
        f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer._generate_and_score_completions, its statement "
        "`if self.use_vllm and self.vllm_importance_sampling_correction: mask = ...`; then _compute_loss"
    )
    shown = settings | {"epsilon": 0.2, "use_bias_correction_kl": True} | training
    return Reference(name, source, "grpo", shown, compute)


def trl_corrections() -> Iterator[Case]:
    for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"):
        level = TOKEN if mode.startswith("token") else SUM
        above = trl_corrected(f"trl_{mode}", mode, None, 3.0, beta=0.0)
        yield from every(above, partial(sampled, unknown=True), leaves(0.6, 3.0, level))
        # the KL penalty shows that the correction leaves it alone
        both = trl_corrected(f"trl_{mode}_two_bounds", mode, 0.5, 2.0, beta=0.04)
        yield from once(both, partial(sampled, unknown=True, kl=True), leaves(0.5, 2.0, level))


def trl_off_policy_mask() -> Iterator[Case]:
    settings = {"off_policy_mask_threshold": 0.1}

    def compute(logprobs: Tensor, sampler: Tensor, mask: Tensor, advantages: Tensor) -> Inputs:
        return {"keep": GRPOTrainer.get_off_policy_mask(advantages[:, None], logprobs, sampler, mask, 0.1)}

    def make(draw: Draw) -> Inputs:
        inputs = sampled(draw)
        return {key: inputs[key] for key in ("logprobs", "sampler", "mask", "advantages")}

    def bites(logprobs: Tensor, sampler: Tensor, mask: Tensor, advantages: Tensor) -> bool:
        distance = ((sampler - logprobs) * mask).sum(-1) / mask.sum(-1).clamp(min=1)
        sides = product((advantages > 0, advantages < 0), (distance > 0.1, distance < 0.1))
        return all((sign & side).any() for sign, side in sides) and mask_bites(mask)

    source = f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer.get_off_policy_mask"
    yield from every(Reference("trl_off_policy_mask", source, "opsm", settings, compute), make, bites)


def verl_weighted(name: str, **settings: Any) -> Reference:
    rollout, loss = verl().rollout, verl_policy("", "vanilla")

    def compute(behaviour: Tensor, sampler: Tensor, mask: Tensor, **inputs: Any) -> tuple[Tensor, Inputs]:
        weights, _ = rollout.compute_rollout_correction_weights(behaviour - sampler, mask, **settings)
        found = loss.compute(behaviour=behaviour, mask=mask, rollout_is_weights=weights, **inputs)
        return found, {"importance_sampling_ratio": weights}

    path = "verl/trainer/ppo/rollout_corr_helper.py::compute_rollout_correction_weights"
    source = f"{VERL} {path}; then compute_policy_loss_vanilla"
    return Reference(name, source, "vanilla", loss.settings | settings, compute)


def verl_rejected(rule: str, threshold: str) -> tuple[Reference, Bites]:
    """The reference, and whether it rejects some tokens and leaves some that are not clipped."""
    rollout, loss = verl().rollout, verl_policy("", "vanilla")

    def kept(behaviour: Tensor, sampler: Tensor, mask: Tensor) -> Tensor:
        return rollout.compute_rollout_rejection_mask(behaviour - sampler, mask, rule, threshold)[0]

    def compute(behaviour: Tensor, sampler: Tensor, mask: Tensor, **inputs: Any) -> tuple[Tensor, Inputs]:
        left = kept(behaviour, sampler, mask)
        return loss.compute(behaviour=behaviour, mask=left, **inputs), {"kept_mask": left}

    def bites(logprobs: Tensor, behaviour: Tensor, sampler: Tensor, mask: Tensor, **_: Any) -> bool:
        left = kept(behaviour, sampler, mask)
        unclipped = (logprobs - behaviour).abs() < 0.15
        return bool((left * unclipped).any() and left.sum() < mask.sum()) and mask_bites(mask)

    path = "verl/trainer/ppo/rollout_corr_helper.py::compute_rollout_rejection_mask"
    source = f"{VERL} {path}; then compute_policy_loss_vanilla"
    shown = loss.settings | {"rollout_rs": rule, "rollout_rs_threshold": threshold}
    return Reference(f"verl_reject_{rule}", source, "vanilla", shown, compute), bites


def verl_corrections() -> Iterator[Case]:
    make = partial(sampled, holes=True, by_token=True)
    tokens, rows = leaves(0.5, 2.0, TOKEN), leaves(0.5, 2.0, SUM)
    token = partial(verl_weighted, rollout_is="token", rollout_is_threshold=2.0)
    yield from every(token("verl_token_truncate"), make, tokens)
    yield from every(token("verl_sequence_truncate", rollout_is="sequence"), make, rows)
    yield from every(token("verl_token_mask", rollout_is_threshold="0.5_2.0"), make, tokens)
    yield from every(token("verl_token_truncate_normalised", rollout_is_batch_normalize=True), make, tokens)
    for rule, threshold in (
        ("token_k1", "0.5_2.0"),
        ("seq_sum_k1", "0.5_2.0"),
        ("seq_mean_k1", "0.9_1.1"),
        ("seq_mean_k3", "0.2"),
        ("seq_max_k2", "0.5"),
    ):
        reference, bites = verl_rejected(rule, threshold)
        yield from once(reference, make, bites)
