r"""Reads one number out of a short text: ``$1,204.50``, ``-3/4``, ``1\frac{4}{5}``, ``2.5 \times 10^{3}``, ``5 km/h``.

Only what is surely one number is read: two numbers, a negation, a variable or an operator left over make it none.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from gpo_lightning.rewards.wrapping import unwrapped

_LONGEST = 200
_MOST_DIGITS = 300
"""Exponents beyond this are no answers to anything, and would take memory without end."""

_PERCENT = Fraction(1, 100)
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the factor that was written beside it.

    Args:
        value: the number itself, 75 in ``75%``.
        factor: what the percent sign or scale word makes of it, 1/100 in ``75%``, else 1.
    """

    value: Fraction
    factor: Fraction = Fraction(1)

    def equals(self, other: "Quantity", tolerance: Fraction = Fraction(0)) -> bool:
        """Same number; a factor that only one of the two has may also be a unit."""
        if abs(self.value * self.factor - other.value * other.factor) <= tolerance:
            return True
        one_sided = self.factor != other.factor and 1 in (self.factor, other.factor)
        return one_sided and abs(self.value - other.value) <= tolerance

    @property
    def whole(self) -> bool:
        """An integer without any factor."""
        return self.factor == 1 and self.value.denominator == 1

    def __str__(self) -> str:
        return str(self.value if self.factor < 1 else self.value * self.factor)


# ---- from LaTeX and Unicode to plain ASCII --------------------------------------------------------------------------

_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "\u2011": "-", "﹣": "-", "－": "-", "＋": "+", "⁄": "/", "×": "*", "·": "*"}
)
_REPLACED = [
    (re.compile(r"\\(?:left|right|displaystyle|limits)(?![a-zA-Z])"), ""),
    (re.compile(r"\\!\s?"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)(?:\\[,;: ]|~|[\u00a0\u2009\u202f])+(?=\d{3}(?!\d))"), " "),
    (re.compile(r"\\[,;: ]|\\q?quad(?![a-zA-Z])|[~\u00a0\u2009\u202f]"), " "),
    (re.compile(r"\\([$%&#])"), r"\1"),
    (re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![a-zA-Z])|°"), " degrees "),
    (re.compile(r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\approx(?![a-zA-Z])"), "≈"),
    (re.compile(r"\\[dtc]?frac\s?\{\s?(-?[\d.,]+)\s?\}\s?\{\s?([\d.,]+)\s?\}"), r" (\1/\2) "),
    (re.compile(r"\\[dtc]?frac\s?\{\s?(-?\d+)\s?\}\s?(\d)"), r" (\1/\2) "),
    (re.compile(r"\\[dtc]?frac\s?(\d)\s?(?:\{\s?(\d+)\s?\}|(\d))"), lambda m: f" ({m[1]}/{m[2] or m[3]}) "),
    (re.compile(r"\(\s?(-?[\d.,]+/[\d.,]+)\s?\)"), r" \1 "),
    (re.compile(r"(?<!\S)([+-])\s+(?=[\d.$])"), r"\1"),
]


def _ascii(text: str) -> str:
    signs = [_plain_sign(sign) if sign > "\x7f" else sign for sign in text.translate(_SIGNS)]
    plain = "".join(signs)
    for pattern, by in _REPLACED:
        plain = pattern.sub(by, plain)
    return " ".join(plain.split())


def _plain_sign(sign: str) -> str:
    digit = unicodedata.decimal(sign, None)
    if digit is not None:
        return str(digit)
    spelled = unicodedata.normalize("NFKC", sign) if unicodedata.category(sign) == "No" else ""
    return " " + spelled.replace("⁄", "/") if "⁄" in spelled else sign


# ---- the number itself ----------------------------------------------------------------------------------------------

_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+(?![0-9/])|[0-9]+"
_DECIMAL = rf"(?:(?:{_WHOLE})(?:\.[0-9]*)?|\.[0-9]+)"
_POWER = r"\s?[*x]\s?10\s?(?:\^|\*\*)\s?[{(]?\s?(?P<power>[+-]?[0-9]{1,4})\s?[)}]?"
_NUMBER = re.compile(
    r"(?:(?:it|that|this|which|is|are|equals?|equal to|about|approximately|approx\.?|around|roughly|exactly|only|just"
    r"|a total of|to|of|a|an|value)\s+){0,6}"
    r"(?P<sign>[+-])?\s?(?:(?:US)?[$€£¥₹]|(?:USD|EUR|GBP|Rs\.?|INR)\s)?\s?(?P<inner>[+-](?!\s))?"
    rf"(?:(?P<mixed>[0-9]+)\s(?P<part>[0-9]+/[0-9]+)|(?P<over>{_DECIMAL})\s?/\s?(?P<under>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?:[eE](?P<exponent>[+-]?[0-9]{{1,4}})(?![0-9])|{_POWER})?"
    r")(?![0-9])(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RAISED = re.compile(r"10\s?(?:\^|\*\*)\s?(?:\{\s?(-?[0-9]{1,3})\s?\}|([0-9]{1,3}))")
_FACTOR = re.compile(
    r"\s*(?:(?P<percent>%|(?:percent(?:age)?(?: points?)?|per cent|pct)\b)"
    r"|(?P<scale>hundred|thousand|million|billion|trillion)\b)",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?<![!<>=:\\])=(?!=)")
_TELLS = re.compile(
    r"(?:\\[a-zA-Z]+|[a-zA-Z])(?:_\{?\w{1,3}\}?|\([a-zA-Z]\))?|[a-zA-Z ]{1,60}|[0-9 .,+*/()$%^-]{1,100}"
)
"""What may stand before an equals sign: a name or a computation, but nothing like ``2x + z``."""
_SYMBOL = re.compile(r"(?:\\[a-zA-Z]+|[a-zA-Z])(?:_\{?\w{1,3}\}?|\([a-zA-Z]\))?|[a-zA-Z ]{1,60}")


def read_quantity(text: str) -> Quantity | None:
    r"""The one number a text names; ``None`` where it names none, several, or something that is not a number.

    >>> str(read_quantity(r"\$1{,}204.50")), str(read_quantity(r"x = 1\frac{4}{5}"))
    ('2409/2', '9/5')
    >>> read_quantity("not 42"), read_quantity("41 or 42"), read_quantity("5x")
    (None, None, None)
    """
    if len(text) > _LONGEST:
        return None
    told = _told(_ascii(unwrapped(text)))
    raised = _RAISED.fullmatch(told)
    if raised:
        return _quantity("1", raised[1] or raised[2], "")
    match = _NUMBER.fullmatch(told)
    if match is None or (match["sign"] and match["inner"]):
        return None
    sign = -1 if "-" in (match["sign"], match["inner"]) else 1
    if match["decimal"]:
        read = _quantity(match["decimal"], match["exponent"] or match["power"] or "0", match["rest"])
    else:
        read = _ratio(match)
    return None if read is None else Quantity(sign * read.value, read.factor)


def _told(text: str) -> str:
    """What an equation says of its left side; of an exact value and its approximation, the exact one."""
    sides = _EQUALS.split(text)
    if any(not _TELLS.fullmatch(side.strip()) for side in sides[:-1]):
        return text
    exact, *rough = sides[-1].split("≈")
    named = _SYMBOL.fullmatch(exact.strip()) and rough
    told = (rough[0] if named else exact).strip()
    return unwrapped(told)


def _ratio(match: re.Match[str]) -> Quantity | None:
    if match["mixed"]:
        over, under = match["part"].split("/")
        base = Fraction(int(match["mixed"]))
    else:
        over, under, base = match["over"], match["under"], Fraction(0)
    below = _value(under)
    return _with_rest(base + _value(over) / below, match["rest"]) if below else None


def _quantity(decimal: str, exponent: str, rest: str) -> Quantity | None:
    power = int(exponent)
    if abs(power) > _MOST_DIGITS:
        return None
    return _with_rest(_value(decimal) * Fraction(10) ** power, rest)


def _value(decimal: str) -> Fraction:
    return Fraction(decimal.replace(",", "").replace(" ", "").rstrip(".") or "0")


# ---- what stands behind the number ----------------------------------------------------------------------------------

_UNIT_POWER = re.compile(r"(?<=[a-zA-Z])(?:\s?(?:\^|\*\*)\s?\{?\s?[23]\s?\}?|[23²³])(?![0-9])")
_UNIT = re.compile(r"[^\W\d_]*(?:[ ./',()$€£¥-]{1,3}[^\W\d_]+)*[ .,)]{0,3}")
_NO_UNIT = re.compile(
    r"(?<!\w)(?:or|and|not|nor|but|if|no|never|isn'?t|aren'?t|wasn'?t|wrong|incorrect|false|minus|plus|times|more|less|fewer"
    r"|factorial|squared|cubed|to|through|mod|modulo|sqrt|pi|over|versus|vs|instead|maybe|perhaps|pow)(?!\w)"
)
_VARIABLES = frozenset("abceiknpqrtuvwxyzπ")


def _with_rest(value: Fraction, rest: str) -> Quantity | None:
    factor = Fraction(1)
    match = _FACTOR.match(rest)
    if match:
        factor = _PERCENT if match["percent"] else Fraction(_SCALES[match["scale"].casefold()])
        rest = rest[match.end() :]
    return Quantity(value, factor) if _is_unit(rest) else None


def _is_unit(rest: str) -> bool:
    bare = _UNIT_POWER.sub("", rest).strip()
    if not bare:
        return True
    if any(sign.isnumeric() for sign in bare):
        return False
    letter = bare.strip(" .,()").casefold()
    attached = rest[:1].isalpha()
    if letter in _VARIABLES and (attached or letter in "ixyzπ"):
        return False
    return bool(_UNIT.fullmatch(bare)) and not _NO_UNIT.search(bare.casefold())
