"""The answer of a text that follows no convention: for comparing with other harnesses, never for training."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpo_lightning.rewards.formats import AnswerFormat, Found, Phrase, boxes

_SEARCHED = 4_000
"""Characters at the end that are read: unclosed brackets cost time in their square."""
_FINAL = re.compile(r"final answer(?: to [^\n.]{1,60})? is(?!\w)", re.IGNORECASE)
_FORMULA = re.compile(
    r"\$\$[^$]+\$\$|(?<!\\)\$(?:\\.|[^$\\\n])+\$|\\\((?:[^\\]|\\(?!\)))+\\\)|\\\[(?:[^\\]|\\(?!\]))+\\\]"
)
_JOINT = re.compile(
    r"(?:[\s,;$]|\\[\[\]();,]|\\q?quad|\\text\s?\{[^{}]{0,40}\}"
    r"|and|or|for part \([a-z]\)|[a-z](?:_\{?\d\}?)?\s?=){1,20}"
)
_NUMBER = re.compile(
    r"[$€£]?\s?-?(?:(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)|\d+)(?:[.,]\d+)?|[.,]\d+)(?:/\d+)?\s?"
    r"(?:%|percent(?:age)?|pct|[$€£])?"
)
_IS_NUMBER = re.compile(r"\s(?:is|are):?\s+" + f"({_NUMBER.pattern})")


@dataclass(frozen=True)
class LastExpression(AnswerFormat):
    r"""What "the final answer is" says, else the last box, else the last formula, else the last number.

    It reads the end of a response, so that a response may try several answers; other harnesses call it flexible
    extraction. Neighbours joined by commas or *and* are one answer.

    >>> LastExpression().find("First $x = 1$, and so $x = 2$.")
    '$x = 2$'
    >>> LastExpression().find(r"\boxed{1} and \boxed{2}")
    '1, 2'
    """

    def search(self, text: str) -> Found | None:
        tail = text[-_SEARCHED:].strip()
        if r"\\boxed" in tail:
            tail = unescaped(tail)
        answer = _announced(tail) or _last_run(tail, [_Span(b.answer, b.end) for b in boxes(tail)]) or _formula(tail)
        return Found(answer, len(text)) if answer else None


def unescaped(text: str) -> str:
    r"""LaTeX whose backslashes were doubled; in a matrix they may stand for new rows.

    >>> unescaped(r"\\boxed{42}"), unescaped(r"\begin{matrix}1\\x\end{matrix}") == r"\begin{matrix}1\\x\end{matrix}"
    ('\\boxed{42}', True)
    """
    return text if re.search(r"(?<!\\)\\begin", text) else re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)


@dataclass(frozen=True, slots=True)
class _Span:
    answer: str
    end: int
    begin: int = -1


def _announced(text: str) -> str | None:
    last = None
    for last in _FINAL.finditer(text):  # noqa: B007  # the last one is wanted
        pass
    return Phrase(last[0]).find(text[last.start() :]) if last else None


def _formula(text: str) -> str | None:
    formulas = [_Span(match[0], match.end(), match.start()) for match in _FORMULA.finditer(text)]
    if formulas:
        said = _IS_NUMBER.findall(text, formulas[-1].end)
        if said:
            return str(said[-1]).strip()
        return _last_run(text, formulas)
    if "\\" in text:
        return text
    numbers = _NUMBER.findall(text)
    return numbers[-1].strip() if numbers else text


def _last_run(text: str, spans: Sequence[_Span]) -> str | None:
    """The last expression and those before it that are joined to it."""
    run: list[str] = []
    begin = None
    for span in reversed(spans):
        if begin is not None and not _JOINT.fullmatch(text[span.end : begin]):
            break
        run.append(span.answer)
        begin = span.begin if span.begin >= 0 else text.rfind("\\", 0, span.end - len(span.answer) - 1)
    return ", ".join(reversed(run)) if run else None
