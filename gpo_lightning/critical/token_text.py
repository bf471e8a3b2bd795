"""The text each token adds, so that step boundaries found in text are token offsets."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from transformers import PreTrainedTokenizerBase as Tokenizer

_UNFINISHED = "\ufffd"
_WINDOW = 8


class TokenText:
    """The text that tokens of one tokenizer add to a response.

    Where every token says by itself what it says in its place, that is looked up, for most tokens say the same again
    and again; else the response is decoded token by token.

    Args:
        tokenizer: of the policy.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._alone: dict[int, str] = {}

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Text added by each token; joined, the pieces are the decoded text.

        A character whose bytes are spread over several tokens belongs to the token that completes it; the ones before
        add nothing. Special tokens add nothing.

        Args:
            tokens: response token ids.

        Returns:
            One string a token.
        """
        for token in set(tokens) - self._alone.keys():
            self._alone[token] = self._decode([token])
        pieces = [self._alone[token] for token in tokens]
        joined = "".join(pieces)
        if _UNFINISHED not in joined and joined == self._decode(tokens):
            return pieces
        return self._in_place(tokens)

    def _in_place(self, tokens: Sequence[int]) -> list[str]:
        pieces: list[str] = []
        # A few tokens of context before keep leading blanks right; decoding all of them would be quadratic.
        context, before = 0, ""
        for end in range(1, len(tokens) + 1):
            after = self._decode(tokens[context:end])
            if after.endswith(_UNFINISHED) and end < len(tokens):
                pieces.append("")
                continue
            pieces.append(after[len(before) :])
            before = after
            if end - context > 2 * _WINDOW:
                context = end - _WINDOW
                before = self._decode(tokens[context:end])
        return pieces

    def _decode(self, tokens: Sequence[int]) -> str:
        return cast(str, self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def token_pieces(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    """As :meth:`TokenText.pieces`, of a single response."""
    return TokenText(tokenizer).pieces(tokens)


def line_offsets(pieces: Sequence[str]) -> list[int]:
    """Token offsets at which lines begin, the first at 0.

    >>> line_offsets(["a", "1", "\\n", "b"])
    [0, 3]
    """
    return [0, *(index + 1 for index, piece in enumerate(pieces) if "\n" in piece)]


def step_texts(pieces: Sequence[str], boundaries: Sequence[int]) -> tuple[str, ...]:
    """Text of each step; joined, they are the response's.

    >>> step_texts(["a", "b\\n", "c"], (0, 2, 3))
    ('ab\\n', 'c')

    Args:
        pieces: text that each token adds.
        boundaries: ``[n + 1]`` token offsets of the steps.
    """
    return tuple("".join(pieces[begin:end]) for begin, end in pairwise(boundaries))
