"""What trl makes of responses judged one by one: KTO and APO-zero."""

from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl.trainer.kto_trainer import KTOTrainer

from .case import Case, Inputs, Reference
from .draws import ROWS, TOKENS, Bites, Draw, every, mask_bites
from .libraries import TRL
from .trainers import Forwarded, after_one_token, uninitialised

KL_TOKENS = 4


def judged(draw: Draw, *, desirable: Sequence[bool] | None = None) -> Inputs:
    """Responses, which of them are desirable, and mismatched responses for the reference point."""
    logprobs, mismatched = draw.logprobs(ROWS, TOKENS), draw.logprobs(ROWS, KL_TOKENS)
    labels = draw.normal(ROWS) > 0 if desirable is None else torch.tensor(desirable)
    return {
        "logprobs": logprobs,
        "reference": draw.near(logprobs, 0.8),
        "mask": draw.mask(ROWS, TOKENS),
        "desirable_mask": labels,
        "kl_logprobs": mismatched,
        "kl_reference": draw.near(mismatched, 0.4),
        "kl_mask": draw.mask(ROWS, KL_TOKENS, empty=False),
    }


def reference_point(*, positive: bool, mixed: bool = True) -> Bites:
    """The mean divergence of the mismatched responses is as asked, and clearly so; `mixed`: both judgements occur."""

    def bites(
        mask: Tensor, desirable_mask: Tensor, kl_logprobs: Tensor, kl_reference: Tensor, kl_mask: Tensor, **_: Any
    ) -> bool:
        mean = ((kl_logprobs - kl_reference) * kl_mask).sum(-1).mean()
        balanced = not mixed or 2 <= desirable_mask.sum() <= 3
        return bool((mean if positive else -mean) > 0.1) and balanced and mask_bites(mask)

    return bites


def kto(name: str, loss_type: str = "kto", **settings: Any) -> Reference:
    shown = {"loss_type": loss_type, "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0} | settings

    def compute(**x: Tensor) -> Tensor:
        model, ref_model = (
            Forwarded({TOKENS + 1: x[key], KL_TOKENS + 1: x[f"kl_{key}"]}) for key in ("logprobs", "reference")
        )
        trainer = uninitialised(
            KTOTrainer,
            **shown,
            calculate_KL=loss_type == "kto",
            precompute_ref_logps=False,
            ref_model=ref_model,
            args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        )
        mismatched = {f"KL_{key}": entry for key, entry in after_one_token(x["kl_mask"]).items()}
        batch = after_one_token(x["mask"]) | mismatched | {"label": x["desirable_mask"]}
        return KTOTrainer._compute_loss(trainer, model, batch, False)

    source = f"{TRL} trl/trainer/kto_trainer.py::KTOTrainer._compute_loss"
    return Reference(name, source, loss_type, shown, compute)


def unpaired() -> Iterator[Case]:
    above, below = reference_point(positive=True), reference_point(positive=False)
    one_sided = reference_point(positive=True, mixed=False)
    weighted = partial(kto, desirable_weight=1.33, undesirable_weight=0.8)
    yield from every(kto("kto", beta=0.3), judged, above)
    yield from every(kto("kto_clamped", beta=0.3), judged, below)
    yield from every(weighted("kto_weighted"), judged, above)
    yield from every(weighted("kto_only_desirable"), partial(judged, desirable=[True] * ROWS), one_sided)
    yield from every(weighted("kto_only_undesirable"), partial(judged, desirable=[False] * ROWS), one_sided)
    yield from every(kto("apo_zero_unpaired", "apo_zero_unpaired", beta=0.3), judged, above)
