"""Where one reasoning step ends and the next begins."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from typing import Literal

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards.formats import THOUGHTS

Logprobs = Sequence[float]


class Segmenter(ABC):
    """Cuts a response into steps.

    All of them merge alike: a step of fewer than ``min_tokens`` tokens, or without visible text, joins the next one,
    and at the end of the response the one before. If more than ``max_steps`` remain, neighbours are merged evenly.

    A thought (``<think>...</think>`` and the like) is cut into steps of its own: its end is always a boundary, and no
    boundary falls inside a tag.
    """

    min_tokens: int
    max_steps: int

    def __post_init__(self) -> None:
        if self.min_tokens < 1 or self.max_steps < 1:
            raise ConfigError("data.segmenter: min_tokens and max_steps must be at least 1.")

    @abstractmethod
    def ends(self, pieces: Sequence[str], logprobs: Logprobs) -> list[int]:
        """Ascending token offsets at which a step ends, before merging."""

    def boundaries(self, pieces: Sequence[str], logprobs: Logprobs = ()) -> tuple[int, ...]:
        """Step boundaries as token offsets.

        Args:
            pieces: the text each response token adds.
            logprobs: rollout log-prob of each token; only some segmenters read them.

        Returns:
            ``[n + 1]`` strictly increasing offsets from 0 to ``len(pieces)``; step t is ``[b_t, b_{t+1})``.
            An empty response has none: ``(0,)``.
        """
        ends = self.ends(pieces, logprobs)
        if not _THOUGHT_TAG.search("".join(pieces)):
            return merge_steps(pieces, ends, self.min_tokens, self.max_steps)
        return _around_thought(pieces, ends, self.min_tokens, self.max_steps)


@dataclass(frozen=True)
class Newline(Segmenter):
    """A step ends with a line; short steps are merged (METHOD: the paper's rule, by its authors' earlier code).

    >>> Newline(min_tokens=1).boundaries(["1", "+1=", "2", "\\n", "so", " 2", ""])
    (0, 4, 7)

    Args:
        min_tokens: fewest tokens of a step.
        max_steps: most steps of a response.
    """

    min_tokens: int = 30
    max_steps: int = 30

    def ends(self, pieces: Sequence[str], logprobs: Logprobs) -> list[int]:
        return [i + 1 for i, piece in enumerate(pieces) if "\n" in piece]


@dataclass(frozen=True)
class Marker(Segmenter):
    """A step begins, or ends, where a regular expression matches.

    >>> Marker(r"Step \\d+:", min_tokens=1).boundaries(["Step 1:", " add", " Step", " 2", ":", " stop"])
    (0, 2, 6)

    Args:
        pattern: regular expression, searched in the whole text; ``^`` and ``$`` match at lines.
        side: ``before``: a step begins with a match; ``after``: it ends with one.
        min_tokens: fewest tokens of a step.
        max_steps: most steps of a response.
    """

    pattern: str
    side: Literal["before", "after"] = "before"
    min_tokens: int = 1
    max_steps: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"data.segmenter.pattern: {self.pattern!r} is no regular expression: {error}") from error

    def ends(self, pieces: Sequence[str], logprobs: Logprobs) -> list[int]:
        matches = [match for match in re.finditer(self.pattern, "".join(pieces), re.MULTILINE) if match[0]]
        if self.side == "before":
            return _starting(pieces, [match.start() for match in matches])
        return _ending(pieces, [match.end() for match in matches])


@dataclass(frozen=True)
class Sentence(Segmenter):
    """A step ends with a sentence: a full stop, question or exclamation mark with a blank after it, or a line's end.

    The point of a number (3.14) is none, for a digit follows it.

    >>> Sentence(min_tokens=1).boundaries(["It is", " 3.", "14", ".", " So", " yes", "!"])
    (0, 4, 7)

    Args:
        min_tokens: fewest tokens of a step.
        max_steps: most steps of a response.
    """

    min_tokens: int = 10
    max_steps: int = 30

    def ends(self, pieces: Sequence[str], logprobs: Logprobs) -> list[int]:
        text = "".join(pieces)
        return _ending(pieces, [match.end() for match in re.finditer(r"[.!?][\"')\]]*(?=\s)|[。！？]|\n", text)])


@dataclass(frozen=True)
class FixedLength(Segmenter):
    """Every step has the same number of tokens, whatever they say.

    Args:
        tokens: of a step.
        max_steps: most steps of a response.
    """

    tokens: int = 50
    max_steps: int = 30

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.max_steps < 1:
            raise ConfigError("data.segmenter: tokens and max_steps must be at least 1.")

    @property
    def min_tokens(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.tokens

    def ends(self, pieces: Sequence[str], logprobs: Logprobs) -> list[int]:
        return list(range(self.tokens, len(pieces), self.tokens))


@dataclass(frozen=True)
class LowProbability(Segmenter):
    """A step begins with a token that the policy was not sure of: where it could have gone another way.

    A response without rollout log-probs is one step.

    Args:
        probability: tokens drawn with less than this begin a step.
        min_tokens: fewest tokens of a step.
        max_steps: most steps of a response.
    """

    probability: float = 0.5
    min_tokens: int = 10
    max_steps: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.probability <= 1:
            raise ConfigError(f"data.segmenter.probability is {self.probability}; it must lie in (0, 1].")

    def ends(self, pieces: Sequence[str], logprobs: Logprobs) -> list[int]:
        return [i for i, logprob in enumerate(logprobs) if i and exp(logprob) < self.probability]


def merge_steps(pieces: Sequence[str], ends: Sequence[int], min_tokens: int, max_steps: int) -> tuple[int, ...]:
    """Boundaries from raw step ends, by the merging rule of :class:`Segmenter`."""
    kept = [0]
    for end in ends:
        if _is_step(pieces[kept[-1] : end], min_tokens):
            kept.append(end)
    if kept[-1] != len(pieces):
        if len(kept) > 1 and not _is_step(pieces[kept[-1] :], min_tokens):
            kept.pop()
        kept.append(len(pieces))
    steps = len(kept) - 1
    if steps > max_steps:
        kept = [kept[round(i * steps / max_steps)] for i in range(max_steps + 1)]
    return tuple(kept)


_THOUGHT_TAG = re.compile("|".join(map(re.escape, [*THOUGHTS, *THOUGHTS.values()])))


def _around_thought(pieces: Sequence[str], ends: Sequence[int], min_tokens: int, max_steps: int) -> tuple[int, ...]:
    """Boundaries that respect the tags of a thought, whose steps and those of what follows are merged apart."""
    tags = list(_THOUGHT_TAG.finditer("".join(pieces)))
    reached = [0, *accumulate(map(len, pieces))]
    outside = [end for end in ends if not any(tag.start() < reached[end] < tag.end() for tag in tags)]
    closing = _ending(pieces, [tag.end() for tag in tags if tag[0] not in THOUGHTS][-1:])
    cut = closing[0] if closing else 0
    if max_steps < 2 or not "".join(pieces[:cut]).strip() or not "".join(pieces[cut:]).strip():
        return merge_steps(pieces, outside, min_tokens, max_steps)
    after = merge_steps(pieces[cut:], [end - cut for end in outside if end > cut], min_tokens, max_steps // 2)
    left = max_steps - len(after) + 1
    thought = merge_steps(pieces[:cut], [end for end in outside if end < cut], min_tokens, left)
    return (*thought, *(cut + offset for offset in after[1:]))


def _is_step(pieces: Sequence[str], min_tokens: int) -> bool:
    return len(pieces) >= min_tokens and bool("".join(pieces).strip())


def _ending(pieces: Sequence[str], characters: Sequence[int]) -> list[int]:
    """Token offsets after the tokens that hold the last character before each place in the text."""
    reached = list(accumulate(map(len, pieces)))
    return sorted({next(i + 1 for i, total in enumerate(reached) if total >= place) for place in characters})


def _starting(pieces: Sequence[str], characters: Sequence[int]) -> list[int]:
    """Token offsets before the tokens that hold the character at each place in the text."""
    reached = list(accumulate(map(len, pieces)))
    firsts = {next((i for i, total in enumerate(reached) if total > place), len(pieces)) for place in characters}
    return sorted(first for first in firsts if first)
