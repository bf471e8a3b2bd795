"""Are two LaTeX expressions the same? Asked of math-verify, inside a worker process and nowhere else.

math-verify's own timeouts are switched off: they are ``signal.alarm``, which fails in threads and does not interrupt a
long integer power. The worker's deadline stands in for them.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import math_verify

GOLD, ANSWER = "gold", "answer"
_LONGEST_READING = 200
_SEGMENT = re.compile(r"\$\$?([^$]+)\$\$?|\\\(((?:[^\\]|\\(?!\)))+)\\\)|\\\[((?:[^\\]|\\(?!\]))+)\\\]")


def judge(pair: list[str], at: Callable[[str], None]) -> dict[str, Any]:
    """Whether ``[gold, answer]`` are equivalent: ``{"verdict": "right", "reading": "1/2"}``."""
    at(GOLD)
    gold = _gold(pair[0])
    at(ANSWER)
    if not any(not isinstance(each, str) for each in gold):
        return {"verdict": "gold_unreadable", "reading": ""}
    answer = _parsed(pair[1])
    right = _finite(answer) and math_verify.verify(gold, answer, timeout_seconds=None)
    return {"verdict": "right" if right else "wrong", "reading": "" if right else _reading(answer)}


@lru_cache(maxsize=256)
def _gold(latex: str) -> list[Any]:
    """The gold answer, once compared with a harmless number: one that hangs does so before the response is blamed."""
    gold = _parsed(latex)
    math_verify.verify(gold, _parsed("7"), timeout_seconds=None)
    return gold


def _parsed(latex: str) -> list[Any]:
    text = latex if _SEGMENT.search(latex) else f"${latex}$"
    found: list[Any] = math_verify.parse(text, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    return found


def _finite(parsed: list[Any]) -> bool:
    """No ``0/0`` in it: differences with it vanish, so that it would equal anything."""
    import sympy

    undefined = (sympy.nan, sympy.zoo)
    return not any(isinstance(each, sympy.Basic) and each.has(*undefined) for each in parsed)


def _reading(parsed: list[Any]) -> str:
    try:
        return str(parsed[0])[:_LONGEST_READING] if parsed else ""
    except Exception:  # numbers of thousands of digits refuse to be printed
        return ""


judge(["(w+1)^2", "w^2+2w+1"], lambda stage: None)  # tables are built on first use, and no response pays for that
