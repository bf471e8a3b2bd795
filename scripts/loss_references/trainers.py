"""A method of a trl trainer runs without the trainer: on an object that has only the attributes it reads."""

from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from .case import Inputs


def accelerator(num_processes: int = 1) -> SimpleNamespace:
    """One process that gathers what it has; `num_processes` is only told to those who ask."""
    same = partial(lambda x, **_: x)
    return SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=num_processes,
        process_index=0,
        gather=same,
        reduce=same,
        gather_for_metrics=same,
        sync_gradients=True,
        parallelism_config=None,
    )


def uninitialised(trainer: type, **attributes: Any) -> Any:
    """A trainer of which only the attributes named exist, besides those every trainer reads to log metrics."""
    self = object.__new__(trainer)
    common = {
        "accelerator": accelerator(),
        "model": Forwarded({}),
        "aux_loss_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    vars(self).update(common | attributes)
    return self


class Forwarded:
    """A model whose forward pass is over: per-token log-probabilities, by the width of the input they belong to."""

    training = True
    is_gradient_checkpointing = False

    def __init__(self, logprobs: dict[int, Tensor]) -> None:
        self.logprobs = logprobs

    def __call__(self, input_ids: Tensor, labels: Tensor, **_: Any) -> SimpleNamespace:
        label_mask = labels[:, 1:] != -100
        logprobs = self.logprobs[input_ids.shape[1]] * label_mask
        nothing = torch.zeros_like(logprobs)
        return SimpleNamespace(
            log_probs=logprobs, label_mask=label_mask, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )


def after_one_token(mask: Tensor) -> Inputs:
    """A prompt of one token before each completion."""
    mask = torch.nn.functional.pad(mask, (1, 0)).long()
    return {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
