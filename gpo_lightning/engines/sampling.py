"""How tokens are drawn, and where a response ends: the same on every engine.

The order is vLLM's and that of ``transformers``: repetition penalty, temperature, ``min_p``, ``top_k``, ``top_p``. Log-
probabilities of a completion are those of what is left after all of it: of the distribution its tokens were drawn from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Any, cast

from gpo_lightning.errors import ConfigError


class Purpose(StrEnum):
    """Why a continuation is there; generated tokens are counted by purpose. A ``SOLUTION`` is given, not generated."""

    SAMPLE = "sample"
    PROBE = "probe"
    RESET = "reset"
    EVALUATION = "evaluation"
    SOLUTION = "solution"


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    >>> sampling = Sampling(max_tokens=96, stop="</answer>", probe_temperature=0.7)
    >>> sampling.of(Purpose.PROBE).temperature, sampling.of(Purpose.RESET).temperature
    (0.7, 1.0)

    Args:
        max_tokens: most tokens of a whole response; a continuation of a prefix gets what the prefix left.
        temperature: softmax temperature; 0 means greedy.
        top_p: nucleus mass; 1 keeps every token.
        top_k: likeliest tokens that are kept; 0 keeps every one.
        min_p: least probability that is kept, as a share of the likeliest token's; 0 keeps every token.
        repetition_penalty: above 1, tokens of the prompt and the response so far are drawn less often.
        stop: texts that end a response; the tokens that complete one stay in it.
        stop_token_ids: token ids that end a response, beside the policy's own.
        probe_temperature: temperature of probes; ``null`` takes ``temperature``.
        reset_temperature: temperature of continuations from start states; ``null`` takes ``temperature``.
    """

    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    probe_temperature: float | None = None
    reset_temperature: float | None = None

    def __post_init__(self) -> None:
        stop = cast(Any, self.stop)
        object.__setattr__(self, "stop", (stop,) if isinstance(stop, str) else tuple(stop or ()))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids or ()))

    def of(self, purpose: Purpose) -> "Sampling":
        """How the tokens of one purpose are drawn."""
        phases = {Purpose.PROBE: self.probe_temperature, Purpose.RESET: self.reset_temperature}
        own = phases.get(purpose)
        temperature = self.temperature if own is None else own
        return replace(self, temperature=temperature, probe_temperature=None, reset_temperature=None)

    @property
    def reshaped(self) -> list[str]:
        """Settings by which tokens come from another distribution than the policy's at ``temperature``."""
        neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        names = [name for name, value in neutral.items() if getattr(self, name) != value]
        phases = ("probe_temperature", "reset_temperature")
        return names + [name for name in phases if getattr(self, name) not in (None, self.temperature)]

    def checked(self, key: str) -> "Sampling":
        """Itself.

        Args:
            key: under which it was configured.

        Raises:
            ConfigError: nothing can be drawn so.
        """
        ranges = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (self.temperature >= 0 and isfinite(self.temperature), "0 or more"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "top_k": (self.top_k >= 0, "0 or more; 0 keeps every token"),
            "min_p": (0 <= self.min_p <= 1, "in [0, 1]"),
            "repetition_penalty": (0 < self.repetition_penalty < float("inf"), "above 0; 1 changes nothing"),
            "probe_temperature": (self.probe_temperature is None or self.probe_temperature > 0, "above 0, or null"),
            "reset_temperature": (self.reset_temperature is None or self.reset_temperature > 0, "above 0, or null"),
            "stop": (all(text for text in self.stop), "texts that are not empty"),
            "stop_token_ids": (all(token >= 0 for token in self.stop_token_ids), "token ids, 0 or more"),
        }
        for name, (good, wanted) in ranges.items():
            if not good:
                raise ConfigError(f"{key}: {name} is {getattr(self, name)}; it must be {wanted}.")
        return self


class StopText:
    """Finds the texts that end a response, as its tokens come.

    >>> from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
    >>> tokenizer = tiny_tokenizer()
    >>> response = tokenizer.encode("a=3+4=7#7", add_special_tokens=False)
    >>> stops = StopText(tokenizer, ["=7"])
    >>> end = next(end for end in range(1, len(response)) if stops.ends(response[:end]))
    >>> tokenizer.decode(response[:end])
    'a=3+4=7'

    Args:
        tokenizer: of the policy.
        stop: the texts.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        # A character may take several tokens, up to one a byte; special tokens give none.
        self._window = 4 * max((len(text) for text in stop), default=0) + 4

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether a stop text is complete with the last of these tokens, of which none ended it before."""
        if not self._stop:
            return False
        text = str(self._tokenizer.decode(list(tokens[-self._window :]), skip_special_tokens=True))
        return any(stop in text for stop in self._stop)
