"""Where a response's thought ends, told by token ids: what is said in a thought is no answer.

Text alone does not tell: a prompt may have opened the thought, and marks that are special tokens vanish in decoding.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.rewards.formats import THOUGHTS

_BEGINS = re.compile(
    r"[<\[◁【{][|▁]?(?!/)[\w:.▁-]*(?:think|thought|reason|reflect)[\w:.▁-]*[|▁]?[>\]▷】}]", re.IGNORECASE
)
_OPENING_WORD = re.compile(r"start|begin|open", re.IGNORECASE)
_CLOSING_WORDS = {"start": "end", "begin": "end", "open": "close"}


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a thought begins or ends.

    Args:
        begins: whether it is the beginning of one.
        after: tokens up to its end.
        text: of the token in which it ends, what follows it.
    """

    begins: bool
    after: int
    text: str = ""


class Thoughts:
    """The marks of thoughts that a policy may write: well-known ones, and those of its chat template and tokenizer.

    A mark with a special token in it is that token; the same letters in other tokens only speak of it.

    Args:
        tokenizer: of the policy.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer: Any = tokenizer
        added = _added(tokenizer)
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        self.marks = {**THOUGHTS, **_told_by([*added, template])}
        marks = {*self.marks, *self.marks.values()}
        self._tokens = tuple(added)
        self._parting = frozenset(id for token, id in added.items() if token in template and token not in marks)
        self._parting |= frozenset(getattr(tokenizer, "all_special_ids", ()))
        self._opened_by = lru_cache(maxsize=4096)(self._opened)
        self._ids = lru_cache(maxsize=256)(self._encoded)

    def said(
        self, prompt: tuple[int, ...], response: Sequence[int], named: Mapping[str, str] = {}, text: str | None = None
    ) -> str:
        """What the response says after its thought; empty where the thought has no end.

        Args:
            prompt: token ids.
            response: token ids.
            named: further marks, beginning to end.
            text: of the response without special tokens, where it has been decoded already.
        """
        named_marks = tuple(named.items())
        text = self._text(response, skip=True) if text is None else text
        marks = self._found(response, text, named_marks)
        if marks[-1].begins if marks else self._opened_by(prompt, named_marks):
            return ""
        last = next(reversed(marks), None)
        if last is None:
            return text
        return last.text + self._text(response[last.after :], skip=True)

    def _opened(self, prompt: tuple[int, ...], named: tuple[tuple[str, str], ...]) -> bool:
        """Whether the prompt leaves a thought open: it ends with the mark, or with words after it in the same turn."""
        marks = self._found(prompt, self._text(prompt, skip=True), named)
        if not marks or not marks[-1].begins:
            return False
        rest = prompt[marks[-1].after :]
        words = (marks[-1].text + self._text(rest, skip=False)).strip()
        return not words or (bool(self._tokenizer.chat_template) and not self._parting.intersection(rest))

    def _found(self, tokens: Sequence[int], text: str, named: tuple[tuple[str, str], ...]) -> list[Mark]:
        """All marks in their order; ``text`` is that of the tokens."""
        if not tokens:
            return []
        both = {**self.marks, **dict(named)}
        written = [(mark, True) for mark in both] + [(mark, False) for mark in both.values()]
        found: list[Mark] = []
        present = set(tokens)
        plain: dict[str, bool] = {}
        for mark, begins in written:
            ids = self._ids(mark) if any(token in mark for token in self._tokens) else ()
            if not ids:
                plain[mark] = begins
                continue
            places = range(len(tokens) if present.issuperset(ids) else 0)
            found += [Mark(begins, at + len(ids)) for at in places if tuple(tokens[at : at + len(ids)]) == ids]
        found += self._in_text(tokens, text, plain)
        return sorted(found, key=lambda mark: mark.after)

    def _in_text(self, tokens: Sequence[int], text: str, marks: Mapping[str, bool]) -> list[Mark]:
        """Marks that are ordinary text, which may be cut into tokens in many ways."""
        pattern = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))
        found: list[Mark] = []
        for match in pattern.finditer(text) if marks else ():
            low, high = 1, len(tokens)
            while low < high:  # decoded text grows with the tokens; unfinished characters are others than in the whole
                middle = (low + high) // 2
                reached = self._text(tokens[:middle], skip=True).startswith(text[: match.end()])
                low, high = (low, middle) if reached else (middle + 1, high)
            found.append(Mark(marks[match[0]], low, self._text(tokens[:low], skip=True)[match.end() :]))
        return found

    def _encoded(self, mark: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(mark, add_special_tokens=False))

    def _text(self, tokens: Sequence[int], skip: bool) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip))


def _added(tokenizer: Any) -> Mapping[str, int]:
    return cast(Mapping[str, int], getattr(tokenizer, "get_added_vocab", dict[str, int])())


def _told_by(known: Sequence[str]) -> dict[str, str]:
    """Marks that speak of thinking among added tokens and in a chat template, and have an end there."""
    begins = dict.fromkeys(match for text in known for match in _BEGINS.findall(text))
    ends = {begin: _end_of(begin) for begin in begins}
    return {begin: end for begin, end in ends.items() if any(end in text for text in known)}


def _end_of(begin: str) -> str:
    """The end that belongs to a beginning.

    >>> _end_of("<plan_thought>"), _end_of("<|START_THINKING|>"), _end_of("[THINK]")
    ('</plan_thought>', '<|END_THINKING|>', '[/THINK]')
    """
    word = _OPENING_WORD.search(begin)
    if word is None:
        return f"{begin[0]}/{begin[1:]}"
    end = _CLOSING_WORDS[word[0].casefold()]
    return begin[: word.start()] + (end.upper() if word[0].isupper() else end) + begin[word.end() :]
