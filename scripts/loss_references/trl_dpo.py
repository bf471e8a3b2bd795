"""What trl makes of DPO and its relatives, which are loss types of one trainer."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer

from .case import Case, Inputs, Reference
from .draws import TOKENS, Draw, every, once
from .libraries import TRL
from .pairs import PAIR, beyond_hinge, both_signs, pairs, stacked
from .trainers import Forwarded, after_one_token, uninitialised

DEFAULTS = {
    "beta": 0.1,
    "label_smoothing": 0.0,
    "loss_weights": None,
    "ld_alpha": None,
    "f_divergence_type": "reverse_kl",
    "discopop_tau": 0.05,
}


def dpo(name: str, *losses: str, **settings: Any) -> Reference:
    shown = {"loss_type": list(losses)} | DEFAULTS | settings

    def compute(**inputs: Tensor) -> Tensor:
        trainer = uninitialised(
            DPOTrainer,
            **{key: shown[key] for key in ("beta", "label_smoothing", "ld_alpha", "f_divergence_type")},
            loss_types=list(losses),
            loss_weights=shown["loss_weights"] or [1.0] * len(losses),
            args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=shown["discopop_tau"]),
            precompute_ref_logps=False,
            use_weighting=False,
            ref_model=Forwarded({TOKENS + 1: stacked(inputs, "reference_{}")}),
        )
        model = Forwarded({TOKENS + 1: stacked(inputs)})
        return DPOTrainer._compute_loss(trainer, model, after_one_token(stacked(inputs, "{}_mask")), False)

    source = f"{TRL} trl/trainer/dpo_trainer.py::DPOTrainer._compute_loss"
    return Reference(name, source, "+".join(losses), shown, compute, by=PAIR)


def with_an_empty_response(draw: Draw) -> Inputs:
    inputs = pairs(draw)
    inputs["rejected_mask"][0] = 0
    return inputs


def trl_dpo() -> Iterator[Case]:
    yield from every(dpo("dpo", "sigmoid"), pairs, both_signs)
    yield from every(dpo("dpo_hinge", "hinge", beta=0.5), pairs, partial(beyond_hinge, 0.5))
    for loss in ("ipo", "apo_zero", "apo_down"):
        yield from every(dpo(f"dpo_{loss}", loss), pairs, both_signs)
    yield from every(dpo("dpo_robust", "robust", label_smoothing=0.15), pairs, both_signs)
    for loss in ("nca_pair", "bco_pair", "sppo_hard", "sigmoid_norm", "sft"):
        yield from once(dpo(f"dpo_{loss}", loss), pairs, both_signs)
    for loss in ("exo_pair", "aot"):
        yield from once(dpo(f"dpo_{loss}", loss, label_smoothing=0.15), pairs, both_signs)
    yield from once(dpo("dpo_discopop", "discopop"), pairs, both_signs)
    yield from once(dpo("dpo_with_sft", "sigmoid", "sft", loss_weights=[1.0, 0.3]), pairs, both_signs)
    yield from once(dpo("dpo_length_desensitised", "sigmoid", ld_alpha=0.5), pairs, both_signs)
    # an ignored setting: the value is that of `dpo` on the same inputs
    yield from once(dpo("dpo_sigmoid_ignores_label_smoothing", "sigmoid", label_smoothing=0.15), pairs, both_signs)
    yield from once(dpo("dpo_empty_rejected", "sigmoid"), with_an_empty_response, both_signs)
    yield from once(dpo("dpo_ipo_empty_rejected", "ipo"), with_an_empty_response, both_signs)
