"""BIG-Bench Hard, whose 27 tasks answer in letters, numbers, one of two words, word lists and closing brackets."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpo_lightning.rewards.choice import same_choice
from gpo_lightning.rewards.formats import AnswerFormat, Phrase, first_answer, some
from gpo_lightning.rewards.grader import Grade, Grader, question_of
from gpo_lightning.rewards.number import same_number
from gpo_lightning.rewards.text import UNPARSED, plain, same_text, verdict
from gpo_lightning.rewards.wrapping import unwrapped

_LETTER = re.compile(r"\([A-Z]\)")
_NUMBER = re.compile(r"-?[0-9]+")
_BRACKETS = re.compile(r"[][(){}<>\s]+")
_WORDS = re.compile(r"[^\s,]+(?:\s[^\s,]+)+")
_PAIRS = ({"yes", "no"}, {"true", "false"}, {"valid", "invalid"})
_HEDGE = re.compile(
    r"(?<!\w)(?:maybe|perhaps|possibly|probably|but|or|not|unless|might|could|something|wrong)(?!\w)|[;?]"
)
_FIRST_WORD = re.compile(r"([a-z]+)(?:$|[,;:]\s|\s(?:because|since|as)\s)")


@dataclass(frozen=True)
class BigBenchHard(Grader):
    """The kind of answer is told by the gold answer: ``(B)``, ``-50``, ``valid``, ``] ] >``, ``fox owl pine``.

    >>> BigBenchHard().grade("So the answer is ]]>.", "] ] >", {}).reason
    'right'
    >>> BigBenchHard().grade("So the answer is fox, owl, pine.", "fox owl pine", {}).reason
    'right'

    Args:
        formats: where the answer may stand; the one finished first counts.
    """

    formats: Sequence[AnswerFormat] = (Phrase(),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", some(self.formats))

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        given = first_answer(response, self.formats, question_of(metadata))
        if given is None:
            return UNPARSED
        gold = answer.strip()
        if _LETTER.fullmatch(gold):
            return same_choice(given, gold, [str(option) for option in metadata.get("options") or ()])
        if _NUMBER.fullmatch(gold):
            return same_number(given, gold)
        if _BRACKETS.fullmatch(gold):
            return _same_brackets(given, gold)
        pair = next((pair for pair in _PAIRS if gold.casefold() in pair), None)
        if pair:
            return _same_of_two(given, gold, pair)
        return _same_words(given, gold) if _WORDS.fullmatch(gold) else same_text(given, gold)


def _same_brackets(given: str, gold: str) -> Grade:
    return verdict("".join(unwrapped(given).split()) == "".join(gold.split()), " ".join("".join(given.split())))


def _same_of_two(given: str, gold: str, pair: set[str]) -> Grade:
    read = plain(given)
    match = _FIRST_WORD.match(read)
    if (
        match
        and match[1] in pair
        and not (pair - {match[1]}) & set(re.findall(r"\w+", read))
        and not _HEDGE.search(read)
    ):
        read = match[1]
    return verdict(read == gold.casefold(), read)


def _same_words(given: str, gold: str) -> Grade:
    read = " ".join(plain(given).replace(",", " ").split())
    return verdict(read == " ".join(gold.casefold().split()) or same_text(given, gold).reward == 1.0, read)
