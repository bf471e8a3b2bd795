"""What OpenRLHF makes of PPO, GSPO, values and DPO; its losses are modules, called as they stand."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from .case import Case, Reference, Settings
from .draws import every, once
from .libraries import OPENRLHF, openrlhf_loss
from .pairs import PAIR, both_signs, pairs
from .responses import MEAN, TOKEN, clips, over_tokens, responses
from .value import clips_values, valued

SOURCE = f"{OPENRLHF} openrlhf/models/loss.py"


def policy(name: str, kind: str, dual_clip: float | None, token_level_loss: bool) -> Reference:
    settings: Settings = {"policy_loss_type": kind, "dual_clip": dual_clip, "token_level_loss": token_level_loss}
    settings |= {"clip_eps_low": 0.2, "clip_eps_high": 0.28}
    loss = openrlhf_loss().PolicyLoss(**settings)

    def compute(logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, reference: None) -> Tensor:
        return loss(logprobs, behaviour, over_tokens(advantages, mask), action_mask=mask)[0]

    return Reference(name, f"{SOURCE}::PolicyLoss", kind, settings, compute)


def openrlhf_policy_gradient() -> Iterator[Case]:
    tokens, rows = partial(responses, by_token=True, spread=1.0), partial(responses, rows=7, spread=0.4)
    clip = partial(clips, 0.2, 0.28)
    yield from once(policy("openrlhf_ppo", "ppo", 3.0, True), tokens, clip(level=TOKEN, cap=3.0))
    yield from once(policy("openrlhf_ppo_by_response", "ppo", None, False), tokens, clip(level=TOKEN))
    yield from once(policy("openrlhf_gspo", "gspo", None, False), rows, clip(level=MEAN))


def openrlhf_value() -> Iterator[Case]:
    loss = openrlhf_loss().ValueLoss(clip_eps=0.2)

    def compute(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        return loss(values, old_values, returns, action_mask=mask)

    settings = {"clip_eps": 0.2, "token_level_loss": True}
    reference = Reference("openrlhf_value", f"{SOURCE}::ValueLoss", "value", settings, compute, by=("values",))
    yield from every(reference, valued, clips_values)


def dpo(name: str, **settings: Any) -> Reference:
    settings = {"beta": 0.1, "label_smoothing": 0.0, "ipo": False} | settings
    loss = openrlhf_loss().DPOLoss(**settings)

    def compute(**x: Tensor) -> Tensor:
        return loss(*((x[of + side] * x[f"{side}_mask"]).sum(-1) for of in ("", "reference_") for side in PAIR))[0]

    source = f"{SOURCE}::DPOLoss; log-probs summed under the mask before"
    return Reference(name, source, "dpo", settings, compute, by=PAIR)


def openrlhf_dpo() -> Iterator[Case]:
    yield from every(dpo("openrlhf_dpo"), pairs, both_signs)
    yield from every(dpo("openrlhf_cdpo", label_smoothing=0.15), pairs, both_signs)
    yield from every(dpo("openrlhf_ipo", ipo=True), pairs, both_signs)
