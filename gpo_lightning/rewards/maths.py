"""Mathematical answers in LaTeX: equal text or number at once, everything else in a worker process."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards.comparison import Question, compared
from gpo_lightning.rewards.formats import AnswerFormat, Boxed, Phrase, first_answer, some
from gpo_lightning.rewards.grader import Case, Grade, Grader, question_of
from gpo_lightning.rewards.last_expression import unescaped
from gpo_lightning.rewards.notation import read_notation
from gpo_lightning.rewards.quantity import LEAST_ROUNDED, read_quantity
from gpo_lightning.rewards.reading import read_expression
from gpo_lightning.rewards.text import GOLD_UNREADABLE, UNPARSED, plain, verdict
from gpo_lightning.rewards.workers import Outcome, Workers, shared_workers
from gpo_lightning.rewards.wrapping import unwrapped

_TOO_MUCH = ("timeout", "memory")
_LONGEST_VOTE = 200
_JUDGE = "gpo_lightning.rewards.equivalence:judge"


@dataclass(frozen=True, slots=True)
class Pair:
    """A gold answer, what a response answers, and the question."""

    gold: str
    given: str
    question: str


@dataclass(frozen=True)
class Maths(Grader):
    r"""Compares by mathematical meaning, through math-verify in processes that are killed at a deadline.

    >>> Maths().grade(r"so \boxed{\frac12}", r"\dfrac{1}{2}", {})
    Grade(reward=1.0, reason='right', answer='1/2')

    A response that cannot be read in time or memory is wrong, with the reason ``timeout`` or ``memory``: were it left
    unjudged, a policy could spare itself penalties by writing what hangs. Where the gold answer is at fault, or a
    process died by another's hand, nothing is judged.

    Args:
        formats: where the answer may stand; the one finished first counts.
        deadline: seconds that one comparison may take.
        memory_mib: address space of a worker process, in MiB.
        workers: worker processes; ``null`` takes one a CPU core, four at most.
        longest: an answer of more characters than this is wrong, unread.
    """

    formats: Sequence[AnswerFormat] = (Boxed(), Phrase(), Phrase("the final answer is"))
    deadline: float = 5.0
    memory_mib: int = 1024
    workers: int | None = None
    longest: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", some(self.formats))
        for name, least in (("deadline", 0.1), ("memory_mib", 256), ("workers", 1), ("longest", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigError(f"{name} of Maths is {value}; it must be {least} at least.")

    @property
    def pool(self) -> Workers:
        """The worker processes, shared by all graders with the same settings."""
        workers = self.workers or min(4, os.cpu_count() or 1)
        return shared_workers(_JUDGE, workers, self.deadline, self.memory_mib)

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        return self.grade_all([Case(response, answer, metadata)])[0]

    def grade_all(self, cases: Sequence[Case]) -> list[Grade]:
        questions = [question_of(case.known) for case in cases]
        given = [first_answer(case.judged, self.formats, asked) for case, asked in zip(cases, questions, strict=True)]
        pairs = [
            None if text is None else Pair(case.answer, text, asked)
            for case, text, asked in zip(cases, given, questions, strict=True)
        ]
        known = {pair: self._at_sight(pair) for pair in dict.fromkeys(pairs) if pair}
        asked = {pair: question.job for pair, question in known.items() if isinstance(question, Question)}
        if asked:
            outcomes = self.pool.run([*asked.values()])
            known |= {pair: _grade(pair, outcome) for pair, outcome in zip(asked, outcomes, strict=True)}
        return [cast(Grade, known[pair]) if pair else UNPARSED for pair in pairs]

    def _at_sight(self, pair: Pair) -> Grade | Question:
        """The verdict where it takes no algebra; else what math-verify is to be asked."""
        gold, given = pair.gold, pair.given
        wanted = squeezed(gold)
        if not wanted or len(gold) > self.longest:
            return GOLD_UNREADABLE
        if len(given) > self.longest:
            return verdict(False, given[:40] + "…")
        if squeezed(given) == wanted:
            return verdict(True, canonical(gold))
        parts = read_notation(gold), read_notation(given)
        if parts[0] or parts[1]:
            return verdict(parts[0] is not None and parts[0].equals(parts[1]), canonical(given))
        if _words(gold) or _words(given):
            return verdict(_letters(gold) == _letters(given), canonical(given))
        return _by_number(pair) or _by_reading(pair)


def _by_number(pair: Pair) -> Grade | None:
    """The verdict on two numbers."""
    if "=" in pair.gold and "=" in pair.given:  # x = 5 is not y = 5
        return None
    gold = read_quantity(_point(pair.gold, pair.given), pair.question, pair.gold)
    given = read_quantity(_point(pair.given, pair.gold), pair.question, pair.gold)
    if not gold or not given:
        return None
    right = given.equals(gold, question=pair.question) or given.rounds_to(gold)
    return verdict(right, canonical(pair.gold) if right else str(given))


def _by_reading(pair: Pair) -> Grade | Question:
    """What two expressions tell by their form, or the question for math-verify."""
    gold, given = (read_expression(text, pair.question, pair.gold) for text in (unescaped(pair.gold), pair.given))
    if gold is None and _SAID.fullmatch(text := _without_text_commands(pair.gold)):
        return verdict(_letters(text) == _letters(pair.given), canonical(pair.given))
    if gold is None:
        return Grade(None, "gold_unreadable", canonical(pair.given))
    if given is None:
        return UNPARSED
    decimal = read_quantity(pair.gold, pair.question, pair.gold)
    places = decimal.places if decimal and decimal.places else 0
    question = compared(gold, given, 0.5 * 10.0**-places if places >= LEAST_ROUNDED else 0.0)
    return verdict(False, canonical(pair.given)) if question is None else question


def _grade(pair: Pair, outcome: Outcome) -> Grade:
    gold, given = pair.gold, pair.given
    if outcome.status == "done":
        found = outcome.value["verdict"]
        if found == "gold_unreadable":
            return Grade(None, "gold_unreadable", canonical(given))
        if found == "unparsed":
            return UNPARSED
        return verdict(found == "right", canonical(gold) if found == "right" else _vote(given, outcome))
    reason = outcome.status if outcome.status in (*_TOO_MUCH, "crashed") else "unreadable"
    if outcome.stage != "answer":
        return Grade(None, f"gold_{reason}", canonical(given))
    return Grade(None if reason == "crashed" else 0.0, reason, canonical(given))


def _vote(given: str, outcome: Outcome) -> str:
    number = read_quantity(given)
    return str(number) if number else outcome.value["reading"] or canonical(given)


def canonical(answer: str) -> str:
    """A number where the answer is one, else its text without dress."""
    number = read_quantity(answer)
    return str(number) if number else squeezed(answer)[:_LONGEST_VOTE]


# ---- text that needs no algebra --------------------------------------------------------------------------------------

_DRESS = [
    (re.compile(r"\\(?:left|right|displaystyle|big|Big|limits)(?![a-zA-Z])|\\!|\{,\}(?=\d{3})"), ""),
    (re.compile(r"(?<=\d)\\[,;:](?=\d{3}(?!\d))|(?<!\d)\\[,;:]|\\[,;:](?!\d)"), ""),
    (re.compile(r"\\[,;:]"), " "),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s?(\d)\s?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s?(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\\s|\\q?quad(?![a-zA-Z])|~"), " "),
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])"), ""),
]
_NOT_WORDS = re.compile(r"[0-9=<>+*/^_&|\\{}()\[\]]|[^\x00-\x7f]| - ")
_TEXT_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox)\s?\{([^{}]*)\}")
_SAID = re.compile(r"(?=.*[A-Za-z]{3})[\w\s.,'’-]+")
"""Words and numbers, as in *June 20* and *1 hour 30 minutes*."""
_DECIMAL_COMMA = re.compile(r"\$?\s?(-?[0-9]+),([0-9]{2}|[0-9]{4,})\s?\$?")
_DECIMAL_POINT = re.compile(r"\$?\s?-?[0-9][0-9,]*\.[0-9]+\s?\$?")


def squeezed(answer: str) -> str:
    r"""LaTeX without what changes only its looks.

    >>> squeezed(r"$\left( 3, \dfrac 12 \right)$")
    '(3,\\frac{1}{2})'
    """
    text = unwrapped(answer)
    for pattern, by in _DRESS:
        text = pattern.sub(by, text)
    return text.strip()


def _letters(answer: str) -> str:
    """Words without blanks, brackets around a lone letter and LaTeX text commands."""
    return "".join(plain(_without_text_commands(answer)).split()).strip("().,")


def _without_text_commands(answer: str) -> str:
    return _TEXT_COMMAND.sub(r"\1", unwrapped(answer))


def _words(answer: str) -> bool:
    """Nothing but words: two letters or more in a row, no formula."""
    bare = _TEXT_COMMAND.sub(r"\1", unwrapped(answer)).strip("() ")
    texts = _TEXT_COMMAND.fullmatch(unwrapped(answer)) or _TEXT_COMMAND.search(answer)
    return bool(bare) and not _NOT_WORDS.search(bare) and (bool(texts) or len(bare.split()) > 1 or len(bare) > 3)


def _point(answer: str, other: str = "") -> str:
    """A decimal comma as a point, where the other side is written with a point."""
    match = _DECIMAL_COMMA.fullmatch(answer.strip())
    return f"{match[1]}.{match[2]}" if match and _DECIMAL_POINT.fullmatch(other.strip()) else answer
