"""Where one reasoning step ends and the next begins."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from gpo_lightning.errors import ConfigError


class Segmenter(ABC):
    """Cuts a response into steps."""

    @abstractmethod
    def boundaries(self, pieces: Sequence[str]) -> tuple[int, ...]:
        """Step boundaries as token offsets.

        Args:
            pieces: the text each response token adds.

        Returns:
            ``[n + 1]`` strictly increasing offsets from 0 to ``len(pieces)``; step t is ``[b_t, b_{t+1})``.
            An empty response has none: ``(0,)``.
        """


@dataclass(frozen=True)
class Newline(Segmenter):
    """A step ends with a line; short steps are merged (METHOD: the paper's rule, by its authors' earlier code).

    A step of fewer than ``min_tokens`` tokens, or without visible text, joins the next one, and at the end of the
    response the one before. If more than ``max_steps`` remain, neighbours are merged evenly.

    >>> Newline(min_tokens=1).boundaries(["1", "+1=", "2", "\\n", "so", " 2", ""])
    (0, 4, 7)

    Args:
        min_tokens: fewest tokens of a step.
        max_steps: most steps of a response.
    """

    min_tokens: int = 30
    max_steps: int = 30

    def __post_init__(self) -> None:
        if self.min_tokens < 1 or self.max_steps < 1:
            raise ConfigError("data.segmenter: min_tokens and max_steps must be at least 1.")

    def boundaries(self, pieces: Sequence[str]) -> tuple[int, ...]:
        ends = [i + 1 for i, piece in enumerate(pieces) if "\n" in piece]
        return merge_steps(pieces, ends, self.min_tokens, self.max_steps)


def merge_steps(pieces: Sequence[str], ends: Sequence[int], min_tokens: int, max_steps: int) -> tuple[int, ...]:
    """Boundaries from raw step ends, by the merging rule of :class:`Newline`."""
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


def _is_step(pieces: Sequence[str], min_tokens: int) -> bool:
    return len(pieces) >= min_tokens and bool("".join(pieces).strip())
