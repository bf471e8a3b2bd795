"""What trl makes of supervised fine-tuning: SFT and DFT."""

from collections.abc import Iterator
from types import SimpleNamespace

from torch import Tensor
from trl.trainer.sft_trainer import SFTTrainer

from .case import Case, Inputs, Reference
from .draws import ROWS, TOKENS, Draw, every, mask_bites
from .libraries import TRL
from .trainers import Forwarded, accelerator, after_one_token, uninitialised


def sft(name: str, loss_type: str, num_items_in_batch: int | None = None, num_processes: int = 1) -> Reference:
    args = {"loss_type": loss_type, "average_tokens_across_devices": True}

    def compute(logprobs: Tensor, mask: Tensor) -> Tensor:
        trainer = uninitialised(
            SFTTrainer,
            accelerator=accelerator(num_processes),
            args=SimpleNamespace(**args),
            compute_loss_func=None,
            label_smoother=None,
            get_tp_size=lambda: 1,
        )
        batch = after_one_token(mask)
        batch["labels"] = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
        model = Forwarded({TOKENS + 1: logprobs})
        return SFTTrainer.compute_loss(trainer, model, batch, num_items_in_batch=num_items_in_batch)

    source = f"{TRL} trl/trainer/sft_trainer.py::SFTTrainer.compute_loss"
    shown = args | {"num_items_in_batch": num_items_in_batch, "num_processes": num_processes}
    return Reference(name, source, loss_type, shown, compute)


def completions(draw: Draw) -> Inputs:
    return {"logprobs": draw.logprobs(ROWS, TOKENS), "mask": draw.mask(ROWS, TOKENS)}


def supervised() -> Iterator[Case]:
    yield from every(sft("sft", "nll"), completions, mask_bites)
    yield from every(sft("sft_window", "nll", num_items_in_batch=61, num_processes=2), completions, mask_bites)
    yield from every(sft("dft", "dft"), completions, mask_bites)
