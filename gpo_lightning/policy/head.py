"""The output head: from last hidden states to logits, as the model itself computes them.

The formula is not taken from a list of names in configurations. It is read off the model: numbers are sent through the
code after its base model, and what comes out is compared. A head that is no scaled and capped projection is left to the
model's own forward.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gpo_lightning.errors import ConfigError

_TOKENS = 4
_HALF = (torch.float16, torch.bfloat16)
_LOGITS_ON_CPU, _LOGITS_ON_GPU = 1 << 24, 1 << 26


@dataclass(frozen=True, slots=True)
class Head:
    """Logits are ``cap * tanh(scale * projection(hidden) / cap)``, or without a cap ``scale * projection(hidden)``.

    Args:
        model: whose head this is; its projection is looked up when it is used, for an adapter may be put around it.
        body: the part of the model that gives the last hidden states.
        scale: factor of what the projection gives.
        cap: bound of the logits; ``None`` where there is none.
    """

    model: PreTrainedModel
    body: nn.Module
    scale: float = 1.0
    cap: float | None = None

    @property
    def projection(self) -> nn.Module:
        """From hidden states ``[n, H]`` to ``[n, V]``: the output embeddings with whatever adapter is on them."""
        return cast(nn.Module, self.model.get_output_embeddings())

    @property
    def linear(self) -> nn.Linear | None:
        """The projection where it is a matrix product and nothing else, so that a fused kernel may read its weight."""
        projection = self.projection
        return projection if type(projection) is nn.Linear else None

    @property
    def frozen(self) -> bool:
        """Whether training leaves it alone."""
        return not any(parameter.requires_grad for parameter in self.projection.parameters())

    @property
    def chunk(self) -> int:
        """Rows whose logits fit in 64 MiB of float32 on a CPU, in 256 MiB on a GPU, which wants larger products."""
        config = self.model.config.get_text_config(decoder=True)
        room = _LOGITS_ON_GPU if self.model.device.type == "cuda" else _LOGITS_ON_CPU
        return max(1, room // int(config.vocab_size))

    def at(self, temperature: float) -> Callable[[Tensor], Tensor]:
        """``[n, H] -> [n, V]`` logits, divided by a temperature."""
        return self if temperature == 1.0 else lambda hidden: self(hidden) / temperature

    def __call__(self, hidden: Tensor) -> Tensor:
        """``[n, H] -> [n, V]`` logits."""
        logits = cast(Tensor, self.projection(hidden))
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


@torch.no_grad()
def find_head(model: PreTrainedModel) -> Head | None:
    """The head of a model in eval mode, without an adapter.

    Returns:
        ``None`` where the model's logits are no scaled and capped projection of its last hidden states; its own
        forward must then be asked for them.

    Raises:
        ConfigError: the model computes no logits, or those of a token depend on the tokens after it.
    """
    name = type(model).__name__
    with plain_attention(model):
        try:
            ids, seen = some_tokens(model), dict[nn.Module, Tensor]()
            with _watched(model, seen):
                logits = _logits(model, ids)
            shorter = _logits(model, ids[:, :2])
        except Exception as error:  # of code we do not know
            raise ConfigError(
                f"model.policy.base: {name} cannot compute the logits of a short text: {error}"
            ) from error
        if logits.shape[:2] != ids.shape:
            raise ConfigError(
                f"model.policy.base: {name} gives logits of shape {tuple(logits.shape)}, not one a token."
            )
        if not bool(logits.isfinite().all()):
            raise ConfigError(
                f"model.policy.base: {name} answers a short text with logits that are no numbers. Its files are "
                "damaged, or model.policy.dtype is too narrow for it."
            )
        if not _causal(logits):
            raise ConfigError(
                f"model.policy.base: {name} lets a token see those after it, so it cannot generate. Choose a causal "
                "language model; some, such as BERT's, are causal only with `is_decoder: true` in their config.json."
            )
        if not _close(shorter, logits[:, :2], logits.dtype):
            raise ConfigError(
                f"model.policy.base: {name} gives a token other logits when more tokens follow, so that what it said "
                "while it generated is not what it says of the whole text. Choose another model."
            )
        for body, hidden in seen.items():
            formula = _formula(model, body, ids[:1, :1])
            head = None if formula is None else Head(model, body, *formula)
            if head and _close(head(hidden.flatten(0, 1)).view_as(logits), logits, logits.dtype):
                return head
    return None


def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return cast(Tensor, model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits)


@contextmanager
def _watched(model: PreTrainedModel, seen: dict[nn.Module, Tensor]) -> Generator[None]:
    """Note the hidden states that parts of the model give: of all of it but the head first, then of its decoder."""

    def note(module: nn.Module, args: Any, output: Any) -> None:
        hidden = _hidden(output)
        if hidden is not None:
            seen[module] = hidden

    # Where neither is known by its name, as in Llama 4, the body is a child like any other.
    named = (model.base_model, cast(Any, model).get_decoder(), *model.children())
    parts = [part for part in named if isinstance(part, nn.Module)]
    with removed([part.register_forward_hook(note) for part in dict.fromkeys(parts) if part is not model]):
        yield
    for part in parts:  # the outermost that was called comes first
        if part in seen:
            seen[part] = seen.pop(part)


def _formula(model: PreTrainedModel, body: nn.Module, ids: Tensor) -> tuple[float, float | None] | None:
    """Scale and cap, from numbers of our own in the place of hidden states and of what the projection gives."""
    found: dict[str, Tensor] = {}

    def of_body(module: nn.Module, args: Any, output: Any) -> Any:
        found["hidden"] = _ramp(cast(Tensor, _hidden(output)))
        return _with_hidden(output, found["hidden"])

    def before_projection(module: nn.Module, args: Any) -> Any:
        found["input"] = args[0]
        weight = next(module.parameters())
        return (torch.zeros(args[0].shape, dtype=weight.dtype, device=weight.device), *args[1:])

    def of_projection(module: nn.Module, args: Any, output: Any) -> Any:
        found["projected"] = _ramp(output)
        return found["projected"]

    projection = model.get_output_embeddings()
    if not isinstance(projection, nn.Module):
        return None
    hooks = [
        body.register_forward_hook(of_body),
        projection.register_forward_pre_hook(before_projection),
        projection.register_forward_hook(of_projection),
    ]
    try:
        with removed(hooks):
            found["logits"] = model(input_ids=ids, use_cache=False).logits
    except Exception:  # code that bears no numbers but its own
        return None
    if "input" not in found or found["input"].shape != found["hidden"].shape:
        return None
    before = _fit(found["hidden"], found["input"])
    after = _fit(found["projected"], found["logits"])
    if before is None or after is None or before[1] is not None:
        return None
    if before[0] != 1.0 and getattr(projection, "bias", None) is not None:
        return None
    return before[0] * after[0], after[1]


def _fit(before: Tensor, after: Tensor) -> tuple[float, float | None] | None:
    """``(scale, cap)`` such that ``after`` is ``cap * tanh(scale * before / cap)``; ``None`` if there are none."""
    if before.shape != after.shape:
        return None
    x, y = before.double().flatten(), after.double().flatten()
    smallest = x.abs().argmin()
    scale = float(y[smallest] / x[smallest])
    if abs(scale - 1.0) < 1e-9:
        scale = 1.0
    if torch.allclose(y, scale * x, rtol=1e-5, atol=0):
        return scale, None
    cap = float(y.abs().max())
    return (scale, cap) if cap and torch.allclose(y, cap * torch.tanh(scale * x / cap), rtol=1e-5, atol=0) else None


def _ramp(like: Tensor) -> Tensor:
    """Numbers of both signs from 1e-4 to 1e6, in double precision."""
    sizes = torch.logspace(-4, 6, like.numel(), dtype=torch.float64, device=like.device)
    signs = torch.ones_like(sizes)
    signs[::2] = -1
    return (sizes * signs).view(like.shape)


@contextmanager
def removed(hooks: list[Any]) -> Generator[None]:
    """Take hooks away at the end."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hidden(output: Any) -> Tensor | None:
    if isinstance(output, tuple):
        return cast(Any, output[0])
    return getattr(output, "last_hidden_state", None)


def _with_hidden(output: Any, hidden: Tensor) -> Any:
    if isinstance(output, tuple):
        return (hidden, *cast(Any, output[1:]))
    output.last_hidden_state = hidden
    return output


def some_tokens(model: PreTrainedModel) -> Tensor:
    """``[2, 4]`` ids of which only the last ones differ, from the middle, for special tokens stand at the ends."""
    size = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    ids = (size // 3 + torch.arange(_TOKENS)).repeat(2, 1)
    ids[1, -1] = size // 2
    return ids.to(model.device)


@contextmanager
def plain_attention(model: PreTrainedModel) -> Generator[None]:
    """Attention that runs wherever the weights are just now: kernels for a GPU do not, before the model is on one."""
    chosen = cast(str | None, getattr(model.config, "_attn_implementation", None))
    if chosen in (None, "eager", "sdpa") or model.device.type != "cpu":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(chosen)


def _causal(logits: Tensor) -> bool:
    """Whether two rows that differ in the last token have the same logits before it."""
    change = (logits[0] - logits[1]).abs().double()
    return bool(change[:-1].max() <= (5e-2 if logits.dtype in _HALF else 1e-3) * change[-1].max())


def _close(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> bool:
    tolerance = 2e-2 if dtype in _HALF else 1e-4
    ours, theirs = ours.double(), theirs.double()
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1.0))
