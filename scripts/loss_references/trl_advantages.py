"""What trl makes of advantages: GRPO, RLOO, and the penalty on overlong responses."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from .case import Case, Inputs, Reference
from .cut_out import cut_out
from .draws import Draw, every, mask_bites
from .libraries import TRL
from .responses import responses

GENERATIONS = 3
STATEMENTS = "unscorable_mask =", "advantages = torch.nan_to_num"
"""Where, in the method that makes a batch, the advantages begin and end."""
WHERE = "_generate_and_score_completions, its statements from `{}` to `{}`".format(*STATEMENTS)


def rewards_per_func(draw: Draw, functions: int) -> Inputs:
    """Three groups of three. With two reward functions, some rewards are missing and one completion has none at all."""
    rewards = draw.normal(3 * GENERATIONS, functions)
    rewards[-GENERATIONS:, 0] = 1.0
    if functions > 1:
        rewards[1, :], rewards[2, 1], rewards[5, 0] = math.nan, math.nan, math.nan
    return {"rewards_per_func": rewards}


def unscorable_somewhere(rewards_per_func: Tensor) -> bool:
    missing = rewards_per_func.isnan()
    return bool(missing.all(1).any() and (missing.any(1) & ~missing.all(1)).any())


def grpo(name: str, **settings: Any) -> Reference:
    defaults = {"scale_rewards": "group", "multi_objective_aggregation": "sum_then_normalize", "reward_weights": [1.0]}
    shown = defaults | settings | {"num_generations": GENERATIONS}
    run = cut_out(GRPOTrainer._generate_and_score_completions, *STATEMENTS)

    def compute(rewards_per_func: Tensor) -> Inputs:
        owner = SimpleNamespace(**shown | {"reward_weights": torch.tensor(shown["reward_weights"])})
        owner.reward_funcs = shown["reward_weights"]
        found = run(self=owner, rewards_per_func=rewards_per_func, num_generations=GENERATIONS, device="cpu")
        return {"advantages": found.advantages}

    return Reference(name, f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer.{WHERE}", "grpo", shown, compute)


def rloo_rewards(draw: Draw) -> Inputs:
    """Four groups of two, one completion of which has no reward."""
    inputs = responses(draw, rows=8, kl=True)
    rewards = draw.normal(8, 1, spread=1.5)
    rewards[2] = math.nan
    return {"rewards_per_func": rewards, **{key: inputs[key] for key in ("behaviour", "reference", "mask")}}


def rloo(name: str, **settings: Any) -> Reference:
    shown = {"normalize_advantages": False, "reward_clip_range": None, "reward_weights": [1.0]} | settings
    shown["num_generations"] = 2
    run = cut_out(RLOOTrainer._generate_and_score_completions, *STATEMENTS)

    def compute(rewards_per_func: Tensor, behaviour: Tensor, reference: Tensor, mask: Tensor) -> Inputs:
        found = run(
            self=SimpleNamespace(**shown | {"reward_weights": torch.tensor(shown["reward_weights"])}),
            rewards_per_func=rewards_per_func,
            old_per_token_logps=behaviour,
            ref_per_token_logps=reference,
            completion_mask=mask,
            num_generations=2,
            device="cpu",
            gather=lambda x: x,
        )
        return {"advantages": found.advantages}

    return Reference(name, f"{TRL} trl/trainer/rloo_trainer.py::RLOOTrainer.{WHERE}", "rloo", shown, compute)


def trl_advantages() -> Iterator[Case]:
    one, two = partial(rewards_per_func, functions=1), partial(rewards_per_func, functions=2)
    for scale in ("group", "batch", "none"):
        yield from every(grpo(f"trl_grpo_{scale}", scale_rewards=scale), one)
    weighted = partial(grpo, reward_weights=[1.0, 0.5])
    each = weighted("trl_grpo_normalize_then_sum", multi_objective_aggregation="normalize_then_sum")
    yield from every(weighted("trl_grpo_two_rewards"), two, unscorable_somewhere)
    yield from every(each, two, unscorable_somewhere)
    clipped = {"normalize_advantages": True, "reward_clip_range": [-1.0, 1.0]}
    yield from every(rloo("trl_rloo", beta=0.0), rloo_rewards, mask_bites)
    yield from every(rloo("trl_rloo_kl", beta=0.05), rloo_rewards, mask_bites)
    yield from every(rloo("trl_rloo_normalised", beta=0.05, **clipped), rloo_rewards, mask_bites)


def overlong(longest: int, cache_length: int) -> Case:
    settings = {"max_completion_len": longest, "soft_punish_cache": cache_length}
    punish = get_soft_overlong_punishment(**settings)

    def compute(lengths: Sequence[int]) -> Inputs:
        return {"rewards": torch.tensor(punish(completion_ids=[[0] * length for length in lengths]))}

    source = f"{TRL} trl/rewards/other_rewards.py::get_soft_overlong_punishment"
    reference = Reference(f"overlong_{longest}_{cache_length}", source, "soft_overlong_punishment", settings, compute)
    return reference.run(0, {"lengths": [0, 1, 4, 7, 8, 9, 14, 15, 16, 17, 19, 20, 21, 40]})


def trl_overlong() -> Iterator[Case]:
    yield overlong(20, 5)
    yield overlong(8, 8)
