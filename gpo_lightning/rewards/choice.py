"""Answers that pick one of lettered options."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpo_lightning.rewards.formats import AnswerFormat, Boxed, Marked, Phrase, first_answer, some
from gpo_lightning.rewards.grader import Grade, Grader, question_of
from gpo_lightning.rewards.text import GOLD_UNREADABLE, UNPARSED, plain, verdict
from gpo_lightning.rewards.wrapping import unwrapped

_LONGEST = 1000
_LETTER = re.compile(
    r"(?:(?:the\s)?(?:option|choice|answer|letter)\s|(?:选项|選項|選択肢|선택지|보기|الخيار|विकल्प|选|選)\s?)?[(\[]?\s?([A-Z])\s?[)\]]?\s?(?:[.:,;]|选项|選項|번|项)?",
    re.IGNORECASE,
)
_LETTER_AND_MORE = re.compile(
    r"(?:(?:option|choice|Option|Choice|answer|Answer)\s)?"
    r"(?:[(\[]\s?([A-Za-z])\s?[)\]]|([A-Z])(?:\s?[).:,;]|(?=\s?[-–—(]\s?)|(?=\s(?:because|since|as|which|is)\s)))"
    r"(?:\s|(?<=[)\]:.])|(?=\())(.*)",
    re.DOTALL,
)
_LETTER_AND_TEXT = re.compile(r"([A-Z])\s(.+)", re.DOTALL)
_OTHER_LETTER = re.compile(
    r"[(\[]\s?([A-Z])\s?[)\]]|(?<![\w'])([B-HJ-Z])(?![\w'])"
    r"|(?:^\s|or|and|not|,|/|but|maybe|perhaps|possibly|also)\s?([AI])(?=\s?(?:[.,;:)]|$|or|and))"
)
_LETTERS = re.compile(
    r"(?:(?:either|both)\s)?[(\[]?[A-Z][)\]]?(?:(?:\s?[,/;&]\s?|\s(?:or|and)\s|\s)[(\[]?[A-Z][)\]]?)+"
)
_EMPHASIS = re.compile(r"\*\*|__")
_DENIAL = re.compile(
    r"(?<!\w)(?:not|isn'?t|no|wrong|incorrect|false|or|nor|maybe|perhaps|possibly|probably|but|however|although|though"
    r"|unless|either|instead|rather|could|might|may|unsure|uncertain|guess\w*|alternatively|also|wait|except|else|unlikely"
    r"|doubt\w*)(?!\w)|\?"
)


@dataclass(frozen=True)
class Choice(Grader):
    """Reads one letter (``B``, ``(B)``, ``B.``, ``B) text``) or an option's own text.

    The problem's metadata may list the texts of the options, in order, under ``options``. An answer that names two
    letters is wrong; a hedge, or a letter with another option's text, makes it unparsed.

    >>> Choice().grade("The answer is (B).", "B", {})
    Grade(reward=1.0, reason='right', answer='B')
    >>> Choice().grade("The answer is Rome.", "B", {"options": ["Paris", "Rome"]}).answer
    'B'
    >>> Choice().grade("The answer is A or B.", "B", {}).reason
    'wrong'
    >>> Choice().grade("The answer is B, maybe Paris.", "B", {"options": ["Paris", "Rome"]}).reason
    'unparsed'

    Args:
        formats: where the answer may stand; the one finished first counts.
    """

    formats: Sequence[AnswerFormat] = (Phrase(), Boxed(), Marked())

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", some(self.formats))

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        given = first_answer(response, self.formats, question_of(metadata))
        options = [str(option) for option in metadata.get("options") or ()]
        return UNPARSED if given is None else same_choice(given, answer, options)


def same_choice(given: str, gold: str, options: Sequence[str] = ()) -> Grade:
    """Whether the answer names the gold letter and no other."""
    match = _LETTER.fullmatch(gold.strip())
    if match is None or (options and _place(match[1].upper()) >= len(options)):
        return GOLD_UNREADABLE
    wanted = match[1].upper()
    if given.strip().casefold() == gold.strip().casefold():
        return verdict(True, wanted)
    named = _named(given, options)
    if not named:
        return UNPARSED if _hedged(given, options) else verdict(False, plain(given))
    return verdict(wanted in named, wanted if wanted in named else named[0])


def _hedged(given: str, options: Sequence[str]) -> bool:
    """Whether it names an option and more: neither several letters alone nor words that are no option."""
    text = _bare(given)
    if len(text) > _LONGEST or _LETTERS.fullmatch(text) or _LETTER.fullmatch(text):
        return False
    said = plain(text)
    return bool(_LETTER_AND_MORE.match(text)) or any(_within(plain(option), said) for option in options)


def _bare(given: str) -> str:
    """The answer without emphasis, which may end behind its letter."""
    return unwrapped(_EMPHASIS.sub("", unwrapped(given)))


def _within(option: str, text: str) -> bool:
    return bool(option) and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text) is not None


def _named(given: str, options: Sequence[str]) -> list[str]:
    """The letter that was named; several only where their options have the same text."""
    text = _bare(given)
    if len(text) > _LONGEST:
        return []
    texts = [plain(option) for option in options]
    by_text = [_letter(i) for i, option in enumerate(texts) if option and option == plain(text)]
    alone = _LETTER.fullmatch(text)
    if alone:
        letter = alone[1].upper()
        return [letter] if not options or _place(letter) < len(options) else by_text
    if by_text:
        return by_text
    return _letter_and_more(text, texts)


def _letter_and_more(text: str, texts: Sequence[str]) -> list[str]:
    match = _LETTER_AND_MORE.match(text)
    if match is None:
        bare = _LETTER_AND_TEXT.fullmatch(text)
        own = _text_of(bare[1], texts) if bare else ""
        return [bare[1]] if bare and own and plain(bare[2]) == own else []
    letter, more = (match[1] or match[2]).upper(), match[3].strip().lstrip("-–—").strip()
    own = _text_of(letter, texts)
    if texts and _place(letter) >= len(texts):
        return []
    if own and own in (plain(more), plain(more.strip("()"))):
        return [letter]
    others = {a or b or c for a, b, c in _OTHER_LETTER.findall(" " + more)} - {letter}
    said = plain(more)
    another = any(_within(option, said) for option in texts if option != own)
    return [] if others or another or _DENIAL.search(more.casefold()) else [letter]


def _text_of(letter: str, texts: Sequence[str]) -> str:
    return texts[_place(letter)] if _place(letter) < len(texts) else ""


def _place(letter: str) -> int:
    return ord(letter) - ord("A")


def _letter(place: int) -> str:
    return chr(ord("A") + place)
