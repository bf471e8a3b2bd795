"""Where the answer stands in a response: one class a convention, and the rule for which answer counts.

The rule: the thought is cut off first; of the answers that remain, the one that is *finished first* is the one that
counts, whatever its format, and nothing after it is read. Formats are alternatives, not fallbacks: a response that
gives two answers has given the first.

Every search is linear in the length of the response and raises on no text.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards.sentences import sentence, spoken

THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel|>analysis": "<|channel|>final<|message|>",
    "<|channel|>commentary": "<|channel|>final<|message|>",
}
"""How well-known families mark a thought, beginning to end."""
_THOUGHT_MARK = re.compile("|".join(map(re.escape, [*THOUGHTS, *THOUGHTS.values()])))


@dataclass(frozen=True, slots=True)
class Found:
    """An answer as it was written, and the offset at which it was finished."""

    answer: str
    end: int


class AnswerFormat(ABC):
    """A convention of marking the answer in a response."""

    @abstractmethod
    def search(self, text: str) -> Found | None:
        """The first finished answer and where it ends; must be linear in the length of ``text``."""

    def find(self, text: str) -> str | None:
        """The first finished answer; ``None`` where there is none."""
        found = self.search(text)
        return None if found is None else found.answer


def after_thought(response: str) -> str | None:
    """What follows the last end of a thought; ``None`` where a thought was begun and never ended.

    A template may have opened the thought in the prompt, so that a response has only its end. Rollouts are cut by
    their token ids beforehand, which tell more (:mod:`gpo_lightning.problems.thoughts`).

    >>> after_thought("It may be 41. </think>It is 42.")
    'It is 42.'
    >>> after_thought("<think>It may be 41.") is None
    True
    """
    last = None
    for last in _THOUGHT_MARK.finditer(response):  # noqa: B007  # the last one is wanted
        pass
    if last is None:
        return response
    return None if last[0] in THOUGHTS else response[last.end() :]


def first_answer(response: str, formats: Sequence[AnswerFormat], question: str = "") -> str | None:
    """The answer that is finished first after the thought, in any of the formats.

    Boxes of the question are passed over where the response quotes them and has one of its own behind.

    >>> first_answer("The answer is 41. No, \\\\boxed{42}", [Boxed(), Phrase()])
    '41'
    """
    said = after_thought(response)
    if said is None:
        return None
    said = _without_quoted(said, question)
    found = [answer for each in formats if (answer := each.search(said)) is not None]
    return min(found, key=lambda answer: answer.end).answer if found else None


def _without_quoted(said: str, question: str) -> str:
    quoted = {box.answer for box in boxes(question)}
    own = next((box for box in boxes(said) if box.answer and box.answer not in quoted), None) if quoted else None
    before = [box for box in boxes(said) if own and box.end < own.end]
    return said[before[-1].end :] if before else said


def some(formats: Sequence[AnswerFormat]) -> tuple[AnswerFormat, ...]:
    """The formats of a grader, which must be one at least."""
    if not formats:
        raise ConfigError("formats of a grader is empty; name at least one, such as gpo_lightning.rewards.Boxed.")
    return tuple(formats)


# ---- boxes ----------------------------------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(
    r"(?:\\(?:q?quad|strut|square|Box|[lc]?dots)(?![a-zA-Z])|\\[hv]?phantom\s?\{[^{}]*\}|\\[hv]space\*?\s?\{[^{}]*\}"
    r"|\\underline\s?\{\s*\}|\\[,;:!_ ]|\\(?:text|mbox)\s?\{\s*(?:(?:your|the|final)\s){0,2}(?:answer)?\s*\}"
    r"|(?:(?:your|the|final)\s){0,2}answer(?:\shere)?|\\\Z|[\s~_.…?])*",
    re.IGNORECASE,
)
"""Boxes that show where an answer will stand: blanks, question marks, dots, ``your answer``."""
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{|\\.|[{}]|\n[ \t]*\n", re.DOTALL)


@dataclass(frozen=True)
class Boxed(AnswerFormat):
    r"""The first ``\boxed{...}`` or ``\fbox{...}`` whose braces close; blank boxes are passed over.

    A blank line ends a box that was left open, as it does in TeX; what was open there is no answer.

    >>> Boxed().find(r"so \boxed{\frac{1}{2}}, not \boxed{3}")
    '\\frac{1}{2}'
    >>> Boxed().find(r"so \boxed{\frac{1}{2}") is None
    True
    """

    def search(self, text: str) -> Found | None:
        return next((box for box in boxes(text) if not _PLACEHOLDER.fullmatch(box.answer)), None)


def boxes(text: str) -> Iterator[Found]:
    """All outermost boxes in their order, blank ones too."""
    begin = depth = 0
    for token in _BOX_OR_BRACE.finditer(text):
        mark = token[0]
        if depth == 0:
            if len(mark) > 2 and mark.endswith("{"):
                begin, depth = token.end(), 1
        elif mark.endswith("{") and mark != r"\{":
            depth += 1
        elif mark == "}":
            depth -= 1
            if depth == 0:
                yield Found(text[begin : token.start()].strip(), token.end())
        elif mark.startswith("\n"):
            depth = 0


# ---- marks, tags and phrases ----------------------------------------------------------------------------------------

_LONGEST_MARKED = 200
_EMPHASIS = " \t*_"


def marked_answer(response: str, marker: str) -> str | None:
    """The rest of the first line that begins with ``marker``; ``None`` without such a line."""
    for line in response.splitlines():
        text = line.strip()
        if text.startswith(marker):
            return text[len(marker) :].strip()[:_LONGEST_MARKED]
    return None


@dataclass(frozen=True)
class Marked(AnswerFormat):
    """The rest of the first line that begins with a marker, such as ``Answer: 42`` or GSM8K's ``#### 42``.

    >>> Marked("####").find("6 * 7 = 42\\n#### 42\\n#### 43")
    '42'

    Args:
        marker: the literal text that opens the answer line.
    """

    marker: str = "Answer:"

    def search(self, text: str) -> Found | None:
        end = 0
        for line in text.splitlines(keepends=True):
            end += len(line)
            answer = marked_answer(line.strip().lstrip(_EMPHASIS), self.marker)
            if answer is not None:
                return Found(answer.strip(_EMPHASIS), end)
        return None


@dataclass(frozen=True)
class Tagged(AnswerFormat):
    """What stands between the first ``<answer>`` and the ``</answer>`` after it; blank ones are passed over.

    >>> Tagged().find("<answer> 42 </answer><answer>43</answer>")
    '42'

    Args:
        tag: name of the tag, without its angle brackets.
    """

    tag: str = "answer"

    def search(self, text: str) -> Found | None:
        opening, closing = f"<{self.tag}>", f"</{self.tag}>"
        begin = text.find(opening)
        while begin >= 0:
            end = text.find(closing, begin)
            if end < 0:
                return None
            answer = text[begin + len(opening) : end].strip()
            if answer:
                return Found(answer, end + len(closing))
            begin = text.find(opening, end)
        return None


@dataclass(frozen=True)
class Phrase(AnswerFormat):
    """What follows a phrase, up to the end of the sentence or line; in any case, without emphasis or full stop.

    The phrase may be of any language; a sentence ends as in English, Chinese, Japanese, Korean, Arabic or Hindi. *The
    answer is* may also be *the correct answer is*, *the final answer is* or *the best answer is*.

    >>> Phrase().find("So **the answer is 42.** Or 43?")
    '42'
    >>> Phrase().find("The correct answer is St. Louis.")
    'St. Louis'
    >>> Phrase().find("The answer is not 42.")
    'not 42'
    >>> Phrase("答案是").find("所以答案是42。")
    '42'

    Args:
        phrase: the words before the answer, in any case.
    """

    phrase: str = "the answer is"

    def search(self, text: str) -> Found | None:
        for match in spoken(self.phrase).finditer(text):
            answer, end = sentence(text, match.end())
            if answer:
                return Found(answer, end)
        return None


# ---- without a convention -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole(AnswerFormat):
    """The whole response is the answer, for prompts that ask for nothing else.

    >>> Whole().find(" 42 ")
    '42'
    """

    def search(self, text: str) -> Found | None:
        answer = text.strip()
        return Found(answer, len(text)) if answer else None
