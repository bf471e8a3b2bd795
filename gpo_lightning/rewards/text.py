"""Answers that are words: the same text, however it is dressed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpo_lightning.rewards.formats import AnswerFormat, Boxed, Phrase, first_answer, some
from gpo_lightning.rewards.grader import Grade, Grader, question_of
from gpo_lightning.rewards.wrapping import unwrapped

_LONGEST = 10_000
_LONGEST_VOTE = 200
_ARTICLE = re.compile(r"(?:the|an|a)\s+(?=\S)")
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "`": "'"})
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Text(Grader):
    """Compares the answer as text, without regard to case, blanks, quotes, a leading article or a closing full stop.

    >>> Text().grade("The answer is **the Eiffel Tower**.", "Eiffel  tower", {})
    Grade(reward=1.0, reason='right', answer='eiffel tower')

    Args:
        formats: where the answer may stand; the one finished first counts.
    """

    formats: Sequence[AnswerFormat] = (Boxed(), Phrase())

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", some(self.formats))

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        given = first_answer(response, self.formats, question_of(metadata))
        return UNPARSED if given is None else same_text(given, answer)


UNPARSED = Grade(0.0, "unparsed")
GOLD_UNREADABLE = Grade(None, "gold_unreadable")


def verdict(right: bool, answer: str) -> Grade:
    """Right or wrong, with what was read."""
    return Grade(1.0, "right", answer[:_LONGEST_VOTE]) if right else Grade(0.0, "wrong", answer[:_LONGEST_VOTE])


def same_text(given: str, gold: str) -> Grade:
    """Whether two answers are the same words; a gold answer of nothing judges nothing."""
    wanted, read = plain(gold), plain(given)
    return verdict(read == wanted, read) if wanted else GOLD_UNREADABLE


def plain(text: str) -> str:
    """Text as it is compared.

    >>> plain(' "The  Eiffel Tower." ')
    'eiffel tower'
    """
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    folded = _SPACES.sub(" ", unwrapped(text).translate(_QUOTES)).strip().casefold()
    folded = unwrapped(folded)
    return _ARTICLE.sub("", folded, count=1) if _ARTICLE.match(folded) else folded
