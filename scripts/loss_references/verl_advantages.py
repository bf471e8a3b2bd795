"""What verl makes of advantages: GRPO, RLOO, REINFORCE++ and its baseline, GAE, and its whitening."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .case import Case, Inputs, Reference
from .draws import ROWS, TOKENS, Draw, every, mask_bites
from .libraries import VERL, verl

SOURCE = f"{VERL} verl/trainer/ppo/core_algos.py"
GROUPS = (0, 0, 0, 1, 2, 2, 2, 2, 3)
"""A group of one, and a group whose rewards are all equal."""


def outcomes(draw: Draw) -> Inputs:
    rewards = draw.normal(len(GROUPS)) + draw.normal(len(GROUPS)).sign()
    mask = draw.mask(len(GROUPS), TOKENS, holes=True)
    return {"rewards": rewards.round(decimals=3), "groups": list(GROUPS), "mask": mask}


def equal_groups(draw: Draw) -> Inputs:
    """Six completions in two groups; the rewards of the second are equal."""
    rewards = draw.normal(3).repeat_interleave(2)
    rewards[:3] = draw.normal(3)
    rewards[3:] = rewards[3]
    return {"rewards": rewards, "groups": [0, 0, 0, 1, 1, 1], "mask": draw.mask(6, TOKENS)}


def token_rewards(draw: Draw) -> Inputs:
    mask = draw.mask(ROWS, TOKENS, holes=True)
    rewards = draw.normal(ROWS, TOKENS, spread=0.2) * mask + at_the_end(draw.normal(ROWS), mask)
    return {"token_rewards": rewards.round(decimals=3), "mask": mask}


def token_rewards_and_values(draw: Draw) -> Inputs:
    return token_rewards(draw) | {"values": draw.normal(ROWS, TOKENS)}


def to_whiten(draw: Draw) -> Inputs:
    return {
        "values": (draw.normal(ROWS, TOKENS, spread=2.0) + 1.0).round(decimals=3),
        "mask": draw.mask(ROWS, TOKENS, holes=True),
    }


def at_the_end(rewards: Tensor, mask: Tensor) -> Tensor:
    """Rewards of responses as verl takes them: at the last token that counts, or the very last where none does."""
    places = torch.arange(TOKENS) * mask
    last = torch.where(mask.sum(-1) > 0, places.argmax(-1), TOKENS - 1)
    return torch.zeros_like(mask).scatter(1, last[:, None], rewards[:, None])


def outcome(name: str, estimator: str, **settings: Any) -> Reference:
    function = verl().core.get_adv_estimator_fn(estimator)

    def compute(rewards: Tensor, groups: Sequence[int], mask: Tensor) -> Inputs:
        advantages, _ = function(at_the_end(rewards, mask), mask, index=np.array(groups), **settings)
        return {"advantages": advantages}

    return Reference(name, f"{SOURCE}::{function.__name__}", estimator, settings, compute)


def reinforce_plus_plus() -> Reference:
    function, settings = verl().core.compute_reinforce_plus_plus_outcome_advantage, {"gamma": 0.97}

    def compute(token_rewards: Tensor, mask: Tensor) -> Inputs:
        advantages, returns = function(token_rewards, mask, config=SimpleNamespace(**settings))
        return {"advantages": advantages, "returns": returns}

    name = "reinforce_plus_plus"
    return Reference(name, f"{SOURCE}::{function.__name__}", name, settings, compute)


def gae() -> Reference:
    function, settings = verl().core.compute_gae_advantage_return, {"gamma": 0.97, "lam": 0.9}

    def compute(token_rewards: Tensor, values: Tensor, mask: Tensor) -> Inputs:
        advantages, returns = function(token_rewards, values, mask, **settings)
        return {"advantages": advantages, "returns": returns}

    source = f"{SOURCE}::{function.__name__}; advantages whitened, returns not"
    return Reference("gae", source, "gae", settings, compute)


def whiten(name: str, shift_mean: bool) -> Reference:
    def compute(values: Tensor, mask: Tensor) -> Inputs:
        return {"whitened": verl().functional.masked_whiten(values, mask, shift_mean=shift_mean)}

    source = f"{VERL} verl/utils/torch_functional.py::masked_whiten"
    return Reference(name, source, "masked_whiten", {"shift_mean": shift_mean}, compute)


def verl_advantages() -> Iterator[Case]:
    baseline = "reinforce_plus_plus_baseline"
    for reference, make in (
        (outcome("verl_grpo", "grpo", norm_adv_by_std_in_grpo=True), outcomes),
        (outcome("verl_grpo_unscaled", "grpo", norm_adv_by_std_in_grpo=False), outcomes),
        (outcome("verl_grpo_equal_rewards", "grpo", norm_adv_by_std_in_grpo=True), equal_groups),
        (outcome("verl_rloo", "rloo"), outcomes),
        (outcome(baseline, baseline), outcomes),
        (reinforce_plus_plus(), token_rewards),
        (gae(), token_rewards_and_values),
        (whiten("masked_whiten", True), to_whiten),
        (whiten("masked_whiten_keeping_mean", False), to_whiten),
    ):
        yield from every(reference, make, mask_bites)
