"""Whether two answers that were read can be equal by their form, and what math-verify is asked where they can."""

import re
from dataclasses import dataclass
from typing import Any

from gpo_lightning.rewards.reading import FUNCTIONS, Reading, split_items

_GREEK = "alpha|beta|gamma|delta|epsilon|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega"
_NAME = re.compile(rf"\\(?P<greek>{_GREEK}|ell)(?![a-zA-Z])|\\[a-zA-Z]+|\\.|(?P<letters>[a-zA-Z]+)", re.DOTALL)
_LAYOUT_NAMES = re.compile(r"\\(?:begin|end|operatorname\*?)\s?\{[^{}]*\}|\\mathbb\s?\{?\w\}?")
_CONSTANTS = frozenset("ei")
_EITHER = re.compile(r"\\(?:pm|mp|cup|cap|infty|mathbb|emptyset|varnothing|begin|setminus|langle)(?![a-zA-Z])|^\{")
"""Signs of what may be many values or one."""


@dataclass(frozen=True, slots=True)
class Question:
    """What math-verify is asked: whether each side of an answer is one of the gold's.

    Args:
        gold: LaTeX of the gold answer's sides.
        answer: LaTeX of the answer's sides.
        within: the difference that a rounded gold answer leaves open, or 0.
    """

    gold: tuple[str, ...]
    answer: tuple[str, ...]
    within: float = 0.0

    @property
    def job(self) -> dict[str, Any]:
        """The question as JSON."""
        return {"gold": self.gold, "answer": self.answer, "within": self.within}


def compared(gold: Reading, given: Reading, within: float = 0.0) -> Question | None:
    """What is left to ask of two readings; ``None`` where they differ already by their form.

    They do where they have other units, names, letters or brackets, or where one is a value and the other says how
    values compare; only an inequality may mean an interval, and an equation may be solved for a name or not.
    """
    if not gold.unit.agrees(given.unit) or gold.unit.over(given.unit) != 1:
        return None
    gold, given = _alike(gold, given)
    if gold.kind != given.kind and {gold.kind, given.kind} != {"value", "inequality"}:
        return None
    if gold.names and given.names and gold.names != given.names:
        return None
    if gold.kind == given.kind:
        if _letters(gold) != _letters(given) or not _shaped(gold.sides[0], given.sides[0]):
            return None
    elif not _is_interval((gold if gold.kind == "value" else given).sides[0]):
        return None
    return Question(gold.sides, given.sides, within)


def _alike(gold: Reading, given: Reading) -> tuple[Reading, Reading]:
    """Both as equations, where one is and the other is solved for a name; tuples for several named values."""
    if gold.kind == "value" and given.kind == "equation":
        gold = _as_equation(gold)
    elif gold.kind == "equation" and given.kind == "value":
        given = _as_equation(given)
    elif _brackets(gold.sides[0]) == "()" and len(given.names) > 1:
        given = _as_tuple(given, gold.names)
    elif _brackets(given.sides[0]) == "()" and len(gold.names) > 1:
        gold = _as_tuple(gold, given.names)
    return gold, given


def _as_equation(reading: Reading) -> Reading:
    """``y = 2x``, not what is a value alone (``x = 5``) or has no name."""
    name, (side, *more) = next(iter(reading.names), ""), reading.sides
    if not name or more or not _letters(reading):
        return reading
    return Reading((f"{name} = {side}",), "equation", unit=reading.unit)


def _as_tuple(reading: Reading, names: tuple[str, ...]) -> Reading:
    return Reading(tuple(f"({side})" for side in reading.sides), "value", names, reading.unit)


# ---- form -----------------------------------------------------------------------------------------------------------


def _letters(reading: Reading) -> frozenset[str]:
    r"""Variables in it: letters and Greek letters, without functions, *e*, *i* and :math:`\pi`."""
    found: set[str] = set()
    for side in reading.sides:
        for match in _NAME.finditer(_LAYOUT_NAMES.sub(" ", side)):
            letters = match["letters"] or ""
            found |= {match["greek"]} if match["greek"] else set() if letters in FUNCTIONS else set(letters)
    return frozenset(found - _CONSTANTS)


def _shaped(gold: str, given: str) -> bool:
    """Not surely of another shape: a list or set, brackets of one kind, or one value."""
    first, second = _shape(gold), _shape(given)
    return None in (first, second) or first == second


def _shape(side: str) -> str | None:
    """``list`` (or set), the two brackets, ``one``; ``None`` of what may be either."""
    items = split_items(side)
    if len(items) > 1:
        return "list"
    text = side.strip()
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return "list" if len(split_items(text[2:-2])) > 1 else None
    return _brackets(text) or (None if _EITHER.search(text) else "one")


def _brackets(side: str) -> str:
    """The outermost pair of brackets, where there is a comma between the two."""
    text = side.strip()
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]" or len(split_items(text)) > 1:
        return ""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0 and place < len(text) - 1:
            return ""
    return text[0] + text[-1] if len(split_items(text[1:-1])) > 1 else ""


def _is_interval(text: str) -> bool:
    return bool(re.search(r"\\cup|\\infty", text) or _brackets(text))
