"""Numbers that are written in parts and compared part by part: clock times, ratios, dates, numerals of a base."""

import re
from dataclasses import dataclass

from gpo_lightning.rewards.wrapping import unwrapped

_LONGEST = 60
_DRESS = re.compile(r"\\(?:text(?:rm|bf|it|normal)?|math(?:rm|bf|it)|mbox)\s?\{([^{}]*)\}|\\[!,;: ]|\$|\{:\}|~")
_NAME = re.compile(r"^(?!\\n)(?:\\?[a-zA-Z]+(?:_\{?\w\}?|\(\w{1,3}\))?|[a-zA-Z ]{1,40})\s?=\s?")
_COLONS = re.compile(
    r"(?P<parts>\d{1,9}(?:\.\d+)?(?:\s?(?::|\\colon|∶|\bto\b)\s?\d{1,9}(?:\.\d+)?)+)\s*(?P<half>[ap]\s?\.?\s?m\s?\.?)?",
    re.IGNORECASE,
)
_HOUR = re.compile(r"(?P<parts>\d{1,2})\s*(?P<half>[ap]\s?\.?\s?m\s?\.?)", re.IGNORECASE)
_BETWEEN = re.compile(r"\s?(?::|\\colon|∶|to)\s?", re.IGNORECASE)
_DATE = re.compile(r"(\d{1,4})\s?([/.-])\s?(\d{1,2})\s?\2\s?(\d{1,4})")
_BASED = re.compile(r"(-?[0-9A-Z]+(?:\.[0-9A-Z]+)?)\s?_\s?(?:\{\s?(\d{1,2}|[a-z]+)\s?\}|(\d))")
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "twelve": 12}


@dataclass(frozen=True, slots=True)
class Notation:
    """A number in parts.

    Args:
        kind: ``parts`` (a clock time or a ratio), ``date`` or ``base``.
        parts: in their order, without leading zeros.
        mark: what else belongs to it: ``pm``, the base, the separator of a date.
    """

    kind: str
    parts: tuple[str, ...]
    mark: str = ""

    def equals(self, other: "Notation | None") -> bool:
        """The same parts; only one of two clock times may leave out its half of the day.

        >>> read_notation("8:34 pm").equals(read_notation("8:34")), read_notation("8:34 pm").equals(read_notation("8"))
        (True, False)
        """
        if other is None or (self.kind, self.parts) != (other.kind, other.parts):
            return False
        return self.mark == other.mark or (self.kind == "parts" and "" in (self.mark, other.mark))


def read_notation(text: str) -> Notation | None:
    r"""The clock time, ratio, date or numeral of a base that a text is.

    >>> read_notation(r"8\!:\!34 \text{ p.m.}") == read_notation("8:34 PM")
    True
    >>> read_notation("2516_8") == read_notation("2516")
    False
    """
    if len(text) > _LONGEST:
        return None
    bare = _DRESS.sub(lambda m: m[1] or "", unwrapped(text)).strip()
    bare = _NAME.sub("", bare)
    colons = _COLONS.fullmatch(bare) or _HOUR.fullmatch(bare)
    if colons:
        parts = tuple(_plain(part) for part in _BETWEEN.split(colons["parts"]))
        return Notation("parts", parts, re.sub(r"[^apm]", "", (colons["half"] or "").casefold()))
    date = _DATE.fullmatch(bare)
    if date:
        return Notation("date", (_plain(date[1]), _plain(date[3]), _plain(date[4])), date[2])
    based = _BASED.fullmatch(bare)
    if based is None:
        return None
    base = based[2] or based[3]
    return Notation("base", (_plain(based[1]),), str(_BASES.get(base, base)))


def _plain(part: str) -> str:
    return part.lstrip("0") or "0"
