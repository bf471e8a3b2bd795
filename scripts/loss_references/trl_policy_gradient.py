"""What trl makes of a policy gradient: GRPO and what is a setting of its trainer, and RLOO."""

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from .case import Case, Inputs, Reference, Settings
from .draws import every, once
from .libraries import TRL
from .responses import MEAN, SUM, clips, responses
from .trainers import accelerator, uninitialised

SHOWN = (
    "loss_type",
    "epsilon",
    "epsilon_high",
    "delta",
    "beta",
    "use_bias_correction_kl",
    "importance_sampling_level",
    "max_completion_length",
    "steps_per_generation",
)
DEFAULTS = {entry.name: entry.default for entry in fields(GRPOConfig)} | {"steps_per_generation": 1}
OUTSIDE = {"num_items_in_batch": 1, "num_processes": 1, "current_gradient_accumulation_steps": 1}
"""What a GRPO trainer learns from its surroundings instead of its configuration."""
OWN = (
    "loss_type",
    "beta",
    "importance_sampling_level",
    "max_completion_length",
    "top_entropy_quantile",
    "current_gradient_accumulation_steps",
)
"""Settings that the trainer keeps under the names they have in its configuration."""


def grpo_loss(
    settings: Settings,
    logprobs: Tensor,
    behaviour: Tensor,
    mask: Tensor,
    advantages: Tensor,
    reference: Tensor | None = None,
    importance_sampling_ratio: Tensor | None = None,
) -> Tensor:
    values = DEFAULTS | OUTSIDE | settings
    trainer = uninitialised(
        GRPOTrainer,
        **{key: values[key] for key in OWN},
        accelerator=accelerator(values["num_processes"]),
        args=SimpleNamespace(**values),
        epsilon_low=values["epsilon"],
        epsilon_high=values["epsilon"] if values["epsilon_high"] is None else values["epsilon_high"],
        off_policy_mask_threshold=None,
        use_vllm=importance_sampling_ratio is not None,
        vllm_importance_sampling_correction=True,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    )
    batch = prompts_and_completions(mask) | {
        "advantages": advantages,
        "old_per_token_logps": behaviour,
        "ref_per_token_logps": reference,
        "importance_sampling_ratio": importance_sampling_ratio,
        "num_items_in_batch": torch.tensor(values["num_items_in_batch"]),
    }
    return GRPOTrainer._compute_loss(trainer, None, batch)


def prompts_and_completions(mask: Tensor) -> Inputs:
    ids, prompt = torch.zeros_like(mask).long(), torch.zeros(len(mask), 1).long()
    return {"prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": ids, "completion_mask": mask}


def grpo(name: str, loss_type: str = "grpo", **settings: Any) -> Reference:
    settings["loss_type"] = loss_type
    shown = {key: DEFAULTS[key] for key in SHOWN} | settings
    source = f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer._compute_loss"
    return Reference(name, source, loss_type, shown, partial(grpo_loss, settings))


def rloo_loss(
    settings: Settings, logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, reference: None
) -> Tensor:
    low, high = settings["epsilon"], settings["epsilon_high"]
    trainer = uninitialised(
        RLOOTrainer,
        epsilon_low=low,
        epsilon_high=low if high is None else high,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    )
    batch = {"old_logps": (behaviour * mask).sum(1), "advantages": advantages}
    return RLOOTrainer._compute_loss(trainer, None, prompts_and_completions(mask) | batch)


def rloo(name: str, **settings: Any) -> Reference:
    source = f"{TRL} trl/trainer/rloo_trainer.py::RLOOTrainer._compute_loss; behaviour summed under the mask before"
    return Reference(name, source, "rloo", settings, partial(rloo_loss, settings))


def trl_policy_gradient() -> Iterator[Case]:
    clip, two_sided, higher = clips(0.2, 0.2), clips(0.2, 0.2, cap=1.6), clips(0.2, 0.28)
    by_token, kl = partial(responses, by_token=True), partial(responses, kl=True)
    yield from every(grpo("grpo"), responses, clip)
    yield from every(grpo("grpo_asymmetric", epsilon=0.1, epsilon_high=0.3), responses, clips(0.1, 0.3))
    yield from every(grpo("grpo_token_advantages"), by_token, clip)
    yield from every(grpo("grpo_two_sided", delta=1.6), responses, two_sided)
    yield from every(grpo("grpo_kl", beta=0.04, use_bias_correction_kl=False), kl, clip)
    yield from every(grpo("grpo_kl_corrected", beta=0.04), kl, clip)
    yield from once(grpo("grpo_two_sided_kl_corrected", delta=1.6, beta=0.04), kl, two_sided)
    yield from once(grpo("grpo_accumulated", current_gradient_accumulation_steps=3), responses, clip)

    dapo = partial(grpo, loss_type="dapo", epsilon_high=0.28)
    window = {"num_processes": 2, "steps_per_generation": 4, "current_gradient_accumulation_steps": 3}
    far = partial(responses, spread=1.4)
    yield from every(grpo("bnpo", "bnpo"), responses, clip)
    yield from every(dapo("dapo", num_items_in_batch=23), responses, higher)
    yield from once(dapo("dapo_window", num_items_in_batch=61, **window), responses, higher)
    yield from every(grpo("dr_grpo", "dr_grpo", max_completion_length=9), responses, clip)
    yield from every(grpo("cispo", "cispo", epsilon_high=5.0, num_items_in_batch=23), far, clips(0.2, 4.0))

    gspo = partial(grpo, importance_sampling_level="sequence")
    rows, clip = partial(responses, rows=7, spread=0.4), clips(0.2, 0.2, level=MEAN)
    yield from every(gspo("gspo"), rows, clip)
    yield from once(gspo("gspo_asymmetric", epsilon=0.05, epsilon_high=0.08), rows, clips(0.05, 0.08, level=MEAN))
    yield from every(gspo("gspo_kl_corrected", beta=0.04), partial(rows, kl=True), clip)
    yield from every(rloo("rloo", epsilon=0.2, epsilon_high=None), rows, clips(0.2, 0.2, level=SUM))
    yield from once(rloo("rloo_asymmetric", epsilon=0.3, epsilon_high=0.6), rows, clips(0.3, 0.6, level=SUM))
