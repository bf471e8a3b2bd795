"""Next-token logits of a batch of growing texts: by a cache of keys, values and states, or computed anew.

Which of the two a model allows is found by trying, for caches that cannot be cut, copied or padded do not say so.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from gpo_lightning.policy.base import takes_positions

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy

_LOG = logging.getLogger(__name__)

Prefixes = Sequence[tuple[int, ...]]


class Decoder(ABC):
    """Texts of a batch, row by row; a prefix that several rows begin with is computed once.

    Args:
        policy: in eval mode.
        prefixes: one a row.
    """

    logits: Tensor
    """``[R, V]`` of the next token."""

    def __init__(self, policy: "Policy", prefixes: Prefixes) -> None:
        self.model: Any = policy.causal_lm
        self._positions = takes_positions(self.model)
        self._only_last = {"logits_to_keep": 1} if "logits_to_keep" in signature(self.model.forward).parameters else {}
        self.device = policy.device
        distinct = list(dict.fromkeys(prefixes))
        place = {prefix: row for row, prefix in enumerate(distinct)}
        self._prefill(distinct, policy.pad_id)
        self.keep(torch.tensor([place[prefix] for prefix in prefixes], device=self.device))

    @abstractmethod
    def _prefill(self, prefixes: Prefixes, pad_id: int) -> None:
        """Begin with these rows."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, of which one may occur several times."""

    @abstractmethod
    def feed(self, tokens: Tensor) -> None:
        """Append a token ``[R]`` to each row."""

    def _last_logits(self, **inputs: Any) -> Tensor:
        return self.model(**inputs, **self._only_last).logits[:, -1]


class Cached(Decoder):
    """Each token is computed once."""

    def _prefill(self, prefixes: Prefixes, pad_id: int) -> None:
        width = max(len(prefix) for prefix in prefixes)
        ids = torch.full((len(prefixes), width), pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prefix in enumerate(prefixes):
            ids[row, width - len(prefix) :] = torch.tensor(prefix)
            mask[row, width - len(prefix) :] = 1
        self._cache = DynamicCache(config=self.model.config)
        self._mask = mask.to(self.device)
        self._next = self._mask.sum(-1)
        self._compute(ids.to(self.device), (self._mask.cumsum(-1) - 1).clamp(min=0))

    def keep(self, rows: Tensor) -> None:
        self.logits, self._mask, self._next = self.logits[rows], self._mask[rows], self._next[rows]
        # Made for beams, and the one selection of rows that recurrent states have too.
        self._cache.reorder_cache(cast(torch.LongTensor, rows))

    def feed(self, tokens: Tensor) -> None:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        self._compute(tokens[:, None], self._next[:, None])
        self._next = self._next + 1

    def _compute(self, ids: Tensor, positions: Tensor) -> None:
        where = {"position_ids": positions} if self._positions else {}
        self.logits = self._last_logits(
            input_ids=ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **where
        )


class Recomputed(Decoder):
    """The whole text is computed for every token; rows of one length go together, so that nothing is padded."""

    def _prefill(self, prefixes: Prefixes, pad_id: int) -> None:
        self._texts = [torch.tensor(prefix, device=self.device) for prefix in prefixes]
        self._compute()

    def keep(self, rows: Tensor) -> None:
        self.logits = self.logits[rows]
        self._texts = [self._texts[row] for row in rows.tolist()]

    def feed(self, tokens: Tensor) -> None:
        self._texts = [torch.cat([text, token]) for text, token in zip(self._texts, tokens[:, None], strict=True)]
        self._compute()

    def _compute(self) -> None:
        logits: dict[int, Tensor] = {}
        for length in {len(text) for text in self._texts}:
            rows = [row for row, text in enumerate(self._texts) if len(text) == length]
            ids = torch.stack([self._texts[row] for row in rows])
            logits |= zip(
                rows,
                self._last_logits(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False),
                strict=True,
            )
        self.logits = torch.stack([logits[row] for row in range(len(self._texts))])


@torch.no_grad()
def choose_decoder(policy: "Policy") -> type[Decoder]:
    """By cache where that gives what computing anew gives, padded, cut and copied; of a policy in eval mode."""
    try:
        gap = _gap(policy)
    except Exception as error:  # of a cache, or a model's use of it, that we do not know
        reason = f"{type(error).__name__}: {error}"
    else:
        if gap <= (0.15 if policy.causal_lm.dtype in (torch.float16, torch.bfloat16) else 1e-4):
            return Cached
        reason = f"logits differ by {gap:.2g} of their spread from those without a cache"
    _LOG.warning(
        "%s: the cache of keys and values cannot be used (%s). Every token is computed from the whole text, which "
        "takes longer; vLLM may serve this model faster.",
        type(policy.causal_lm).__name__,
        reason,
    )
    return Recomputed


def _gap(policy: "Policy") -> float:
    """Largest difference of two decoders' logits, in standard deviations of the logits."""
    some = policy.vocabulary // 3
    prefixes = [tuple(range(some, some + 6)), tuple(range(some + 4, some + 7)), tuple(range(some, some + 6))]
    cached, anew = Cached(policy, prefixes), Recomputed(policy, prefixes)
    gaps = [_difference(cached, anew)]
    for rows in ([0, 1, 2], [2, 1], [1]):
        tokens = torch.tensor([some + row for row in rows], device=policy.device)
        for decoder in (cached, anew):
            decoder.keep(torch.tensor(rows, device=policy.device))
            decoder.feed(tokens)
        gaps.append(_difference(cached, anew))
    return max(gaps)


def _difference(one: Decoder, other: Decoder) -> float:
    return float((one.logits - other.logits).abs().max() / other.logits.float().std().clamp(min=1e-9))
