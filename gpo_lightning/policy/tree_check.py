"""Whether a model can be given packed rows, found out by giving it some, and what it is then given."""

import logging
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gpo_lightning.policy.base import context_of, takes_positions
from gpo_lightning.policy.head import Head
from gpo_lightning.policy.packing import Packing, Tree, pack

_LOG = logging.getLogger(__name__)

_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "local_attention")
_ONE_ROW = Packing(balance=float("inf"), longest=64)


def find_packing(model: PreTrainedModel, head: Head | None) -> Packing | None:
    """How rows are packed for a model in eval mode, without an adapter.

    Returns:
        ``None``, with a warning, where its hidden states in a packed row are not those of rows by themselves:
        recurrent layers and convolutions read siblings, some attention bears no mask or no positions of ours.
    """
    text = model.config.get_text_config(decoder=True)
    reason = "its own forward computes the logits" if head is None else _difference(model, head)
    if reason is not None:
        _LOG.warning(
            "model.policy.packing: %s gets every row by itself (%s), so what rows share is computed again for each. "
            "Set it to none to spare this message.",
            type(model).__name__,
            reason,
        )
        return None
    windows = (getattr(text, name, None) for name in _WINDOWS)
    # Within a window, attention that is bounded by one sees all that any other sees.
    longest = min([context_of(text), *(size for size in windows if isinstance(size, int) and size > 0)])
    # Six times the width by the count of operations (12 H^2 a layer and token, 2 H L of attention); attention with a
    # mask runs at half the speed of matrix products.
    return Packing(balance=3.0 * text.hidden_size, longest=longest)


def tree_inputs(tree: Tree, model: PreTrainedModel) -> dict[str, Any]:
    """What a model is called with to compute packed rows."""
    sees, dtype = tree.sees(), model.dtype
    if _attention(model) != "sdpa":
        unseen = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=sees.device)
        sees = torch.where(sees, torch.zeros_like(unseen), unseen)
    return {"input_ids": tree.tokens, "position_ids": tree.depths, "attention_mask": sees, "use_cache": False}


def _attention(model: PreTrainedModel) -> str:
    return str(getattr(model.config, "_attn_implementation", None))


@torch.no_grad()
def _difference(model: PreTrainedModel, head: Head) -> str | None:
    """What speaks against packed rows: three rows of which each begins as the one before, apart and in one."""
    if _attention(model) not in ("sdpa", "eager"):
        return f"attention {_attention(model)} takes no such mask"
    if not takes_positions(model):
        return "it takes no positions"
    size = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    ids = (size // 3 + torch.arange(9)).repeat(3, 1)
    ids[1, 6:], ids[2, 3:] = ids[1, 6:] + 11, ids[2, 3:] + 23
    ids = ids.clamp(max=size - 1).to(model.device)
    tree = pack(ids, torch.ones_like(ids), _ONE_ROW)
    if tree is None:
        return "its vocabulary is too small to tell"
    try:
        apart = cast(Tensor, head.body(input_ids=ids, use_cache=False).last_hidden_state)
        packed = head.body(**tree_inputs(tree.to(ids.device), model)).last_hidden_state.flatten(0, 1)[tree.places]
    except Exception as error:  # of code we do not know
        return f"{type(error).__name__} in a trial"
    change = (apart - packed).abs().double().amax((0, -1))  # [T]
    scale = (apart[0] - apart[2]).abs().double().max()
    # Rounding is some thousandths in half precision; a sibling that is read changes a state as much as a token does.
    tolerance = 5e-2 if apart.dtype in (torch.float16, torch.bfloat16) else 1e-4
    return None if bool(change.max() <= tolerance * scale) else "a trial gave other hidden states"
