"""What trl makes of preferences without a reference policy: CPO, SimPO and ORPO, which read logits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer

from .case import Case, Inputs, Reference
from .draws import every, once
from .libraries import TRL
from .pairs import PAIR, beyond_hinge, both_signs, pairs, stacked
from .trainers import uninitialised


class TwoWords:
    """A model with a vocabulary of two that gives word 0 exactly the log-probabilities asked for.

    The trainer then takes them from the logits by itself. The two logits are the log-probabilities of the two words, so
    their log-sum-exp is 0 whatever they are, and the gradient by the first is that of the log-probability.
    """

    def __init__(self, logprobs: Tensor) -> None:
        self.logprobs = logprobs

    def __call__(self, *_: Any, **__: Any) -> SimpleNamespace:
        other = torch.log(-torch.expm1(self.logprobs))
        return SimpleNamespace(logits=torch.nn.functional.pad(torch.stack([self.logprobs, other], -1), (0, 0, 0, 1)))


def labelled(inputs: Inputs) -> tuple[TwoWords, Inputs]:
    """Model and batch of a CPO or ORPO trainer: a first token, what the prompt has besides it, the response."""
    batch, logprobs = {}, []
    for side in PAIR:
        response, mask = inputs[side], inputs[f"{side}_mask"]
        prompt = inputs.get(f"prompt_{side}", response[:, :0])
        read = torch.cat([torch.ones(len(mask), 1 + prompt.shape[1]), mask], 1).long()
        said = torch.cat([torch.zeros(len(mask), 1 + prompt.shape[1]), mask], 1).bool()
        ids = torch.zeros_like(read)
        batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"] = ids, read
        batch[f"{side}_labels"] = ids.masked_fill(~said, -100)
        logprobs.append(torch.cat([prompt, response], 1))
    return TwoWords(torch.cat(logprobs)), batch


def cpo(name: str, loss_type: str, **settings: Any) -> Reference:
    defaults = {"beta": 0.1, "label_smoothing": 0.0, "cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0}
    shown = {"loss_type": loss_type} | defaults | settings

    def compute(**inputs: Tensor) -> Tensor:
        trainer = uninitialised(CPOTrainer, **shown, is_encoder_decoder=False, pad_token_id=0)
        return CPOTrainer.get_batch_loss_metrics(trainer, *labelled(inputs))[0]

    source = f"{TRL} trl/experimental/cpo/cpo_trainer.py::CPOTrainer.get_batch_loss_metrics, which calls cpo_loss"
    return Reference(name, source, loss_type, shown, compute, by=PAIR)


def trl_cpo() -> Iterator[Case]:
    make = partial(pairs, reference=False)
    alone = partial(cpo, cpo_alpha=0.0)
    simpo = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0}
    yield from every(cpo("cpo", "sigmoid"), make, both_signs)
    yield from every(alone("cpo_without_nll", "sigmoid"), make, both_signs)
    yield from every(alone("cpo_smoothed", "sigmoid", label_smoothing=0.15), make, both_signs)
    yield from every(cpo("cpo_hinge", "hinge", beta=0.5), make, partial(beyond_hinge, 0.5))
    yield from every(cpo("cpo_ipo", "ipo"), make, both_signs)
    yield from every(alone("simpo", **simpo), make, both_signs)
    yield from once(alone("simpo_trl_defaults", "simpo"), make, both_signs)
    yield from once(alone("simpo_smoothed", **simpo, label_smoothing=0.15), make, both_signs)
    yield from once(cpo("cpo_simpo", **simpo), make, both_signs)


def orpo_trainer() -> Any:
    return uninitialised(ORPOTrainer, beta=0.1, is_encoder_decoder=False, padding_value=0)


def orpo_ratio(**inputs: Tensor) -> Tensor:
    trainer = orpo_trainer()
    means = ORPOTrainer.concatenated_forward(trainer, *labelled(inputs))[:2]
    return -ORPOTrainer.odds_ratio_loss(trainer, *means)[0].mean()


def orpo(**inputs: Tensor) -> Tensor:
    return ORPOTrainer.get_batch_loss_metrics(orpo_trainer(), *labelled(inputs))[0]


@contextmanager
def no_float32() -> Iterator[None]:
    """`Tensor.float` leaves float64 alone, so that code which goes down to float32 runs as it stands in float64."""
    original = Tensor.float
    Tensor.float = lambda self: self if self.dtype == torch.float64 else original(self)
    try:
        yield
    finally:
        Tensor.float = original


def in_float64(compute: Callable[..., Tensor], **inputs: Any) -> Tensor:
    with no_float32():
        return compute(**inputs)


def both_branches(**inputs: Any) -> bool:
    """Mean log-probabilities on both sides of -log 2, where log(1 - exp x) changes its form."""
    mask = stacked(inputs, "{}_mask")
    means = (stacked(inputs) * mask).sum(-1) / mask.sum(-1)
    return both_signs(**inputs) and bool((means > -0.6).any() and (means < -0.8).any())


def trl_orpo() -> Iterator[Case]:
    settings, rough, exact = {"beta": 0.1}, 1e-5, "; Tensor.float made to leave float64 alone"
    source = f"{TRL} trl/experimental/orpo/orpo_trainer.py::ORPOTrainer"
    parts = (
        ("orpo_ratio", "odds_ratio_loss, negated mean", "odds_ratio", orpo_ratio, PAIR, 0),
        ("orpo", "get_batch_loss_metrics", "orpo", orpo, (*PAIR, "prompt_chosen"), 3),
    )
    for name, method, loss, compute, by, prompt in parts:
        double = partial(in_float64, compute)
        reference = Reference(name, f"{source}.{method}{exact}", loss, settings, double, by)
        yield from every(reference, partial(pairs, reference=False, prompt=prompt), both_branches)
    for name, method, loss, compute, by, prompt in parts:
        reference = Reference(f"{name}_float32", f"{source}.{method}", loss, settings, compute, by, rough)
        yield from once(reference, partial(pairs, reference=False, prompt=prompt), both_branches)
