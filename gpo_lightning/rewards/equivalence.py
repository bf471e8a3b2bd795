r"""Are two LaTeX expressions the same? Asked of math-verify, inside a worker process and nowhere else.

math-verify's own timeouts are switched off: they are ``signal.alarm``, which fails in threads and does not interrupt a
long integer power. The worker's deadline stands in for them. Only LaTeX is read, and whole: its other ways of finding
an answer take the last number of a text it cannot read. Units are read elsewhere: it drops letters such as ``t``.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import math_verify
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig

GOLD, ANSWER = "gold", "answer"
_LONGEST_READING = 200
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])(?!\s?\\overline)")
_LATEX = LatexExtractionConfig(
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
)


def judge(job: dict[str, Any], at: Callable[[str], None]) -> dict[str, Any]:
    """Whether every side of an answer is one of the gold's: ``{"verdict": "right", "reading": "1/2"}``.

    Args:
        job: ``gold`` and ``answer``, lists of LaTeX; ``within``, what a rounded gold answer leaves open, or 0.
        at: told which of the two is worked on.
    """
    at(GOLD)
    golds = [gold for side in job["gold"] if (gold := _gold(side)) is not None]
    at(ANSWER)
    if not golds:
        return {"verdict": "gold_unreadable", "reading": ""}
    answers = [_parsed(side) for side in job["answer"]]
    if any(answer is None for answer in answers):
        return {"verdict": "unparsed", "reading": ""}
    right = all(_finite(each) and any(_same(gold, each, job["within"]) for gold in golds) for each in answers)
    return {"verdict": "right" if right else "wrong", "reading": "" if right else _reading(answers[-1])}


def _same(gold: Any, answer: Any, within: float) -> bool:
    if within and _apart(gold, answer) < within:
        return True
    exact = _exactly(gold, answer)
    if exact is not None:
        return exact
    return math_verify.verify(gold, answer, strict=True, allow_set_relation_comp=True, timeout_seconds=None)


def _exactly(gold: Any, answer: Any) -> bool | None:
    """Whether a fraction is the gold answer; ``None`` where the answer is no fraction, and numerals may not decide.

    Fifteen decimals of an irrational number are not that number, nor is a very small one nothing.
    """
    import sympy

    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr) or gold.free_symbols:
        return None
    value = answer.doit()
    if not isinstance(value, sympy.Rational):
        return None
    difference = gold.doit() - value
    return bool(difference == 0 or (not difference.is_Rational and sympy.simplify(difference) == 0))


def _apart(gold: Any, answer: Any) -> float:
    """Distance of two real numbers; infinite where one of them is none."""
    try:
        return abs(float(gold.evalf()) - float(answer.evalf()))
    except Exception:  # of anything that is no number
        return float("inf")


@lru_cache(maxsize=256)
def _gold(latex: str) -> Any:
    """The gold answer, once compared with a harmless number: one that hangs does so before the response is blamed."""
    gold = _parsed(latex)
    if gold is not None:
        math_verify.verify(gold, _parsed("7"), timeout_seconds=None)
    return gold


def _parsed(latex: str) -> Any:
    """The expression, its decimals as fractions; ``None`` where it is not read whole."""
    exact = _DECIMAL.sub(lambda m: rf"(\frac{{{int(m[1] + m[2])}}}{{{10 ** len(m[2])}}})", latex)
    found = math_verify.parse(
        f"${exact}$",
        [_LATEX],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,  # pyright: ignore[reportArgumentType]
    )
    return found[0] if len(found) == 1 else None


def _finite(parsed: Any) -> bool:
    """No ``0/0`` in it: differences with it vanish, so that it would equal anything."""
    import sympy

    return not (isinstance(parsed, sympy.Basic) and parsed.has(sympy.nan, sympy.zoo))


def _reading(parsed: Any) -> str:
    try:
        return str(parsed)[:_LONGEST_READING]
    except Exception:  # numbers of thousands of digits refuse to be printed
        return ""


judge({"gold": ["(w+1)^2"], "answer": ["w^2+2w+1"], "within": 0}, lambda stage: None)  # tables are built on first use
