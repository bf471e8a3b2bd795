r"""Reads one number out of a short text: ``$1,204.50``, ``-3/4``, ``1\frac{4}{5}``, ``2.5 \times 10^{3}``, ``5 km/h``.

Only what is surely one number is read: two numbers, a negation, a variable or an operator left over make it none.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from gpo_lightning.rewards.units import NO_UNIT, Unit, denies, money, read_unit
from gpo_lightning.rewards.wrapping import unwrapped

_LONGEST = 200
_MOST_DIGITS = 300
"""Exponents beyond this are no answers to anything, and would take memory without end."""

_PLACES, _LARGEST_ROUNDED = 6, 1000
_PERCENT = Fraction(1, 100)
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FOREIGN_SCALES = {
    "万": 10**4,
    "萬": 10**4,
    "만": 10**4,
    "亿": 10**8,
    "億": 10**8,
    "억": 10**8,
    "千": 10**3,
    "百": 100,
} | {
    "लाख": 10**5,
    "करोड़": 10**7,
    "हज़ार": 10**3,
    "हजार": 10**3,
    "ألف": 10**3,
    "مليون": 10**6,
}
_NAMES = {_PERCENT: re.compile(r"%|percent|per cent|pct", re.IGNORECASE)} | {
    Fraction(scale): re.compile(name, re.IGNORECASE) for name, scale in _SCALES.items()
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the factor that was written beside it.

    Args:
        value: the number itself, 75 in ``75%``.
        factor: what the percent sign or scale word makes of it, 1/100 in ``75%``, else 1.
        unit: what it counts or measures.
        places: decimal places it was written with; ``None`` for a fraction.
    """

    value: Fraction
    factor: Fraction = Fraction(1)
    unit: Unit = NO_UNIT
    places: int | None = None

    def equals(self, other: "Quantity", tolerance: Fraction = Fraction(0), question: str = "") -> bool:
        """Same number, and not surely another unit.

        A factor that only one of the two has may also be a unit, where the question asks for it or is not known.
        """
        if not self.unit.agrees(other.unit):
            return False
        if self.value == other.value and self.factor == other.factor and self.unit == other.unit:
            return True
        over = Fraction(self.unit.over(other.unit)).limit_denominator(10**9)
        if abs(self.value * self.factor * over - other.value * other.factor) <= tolerance:
            return True
        bare = self if self.factor == 1 else other
        factor = other.factor if bare is self else self.factor
        if factor == 1 or bare.factor != 1 or bare.unit != NO_UNIT or over != 1 or not _may_be_unit(factor, question):
            return False
        return abs(self.value - other.value) <= tolerance

    def rounds_to(self, gold: "Quantity") -> bool:
        """Whether this is ``gold`` within the precision that ``gold`` was written with.

        A gold answer of 3.14 takes 3.14159; one of 0.5 is exact. So is one of 1/3, but six decimals of it are taken all
        the same, for they can be no other fraction of that size.
        """
        if not self.unit.agrees(gold.unit) or self.unit.over(gold.unit) != 1 or self.factor != gold.factor:
            return False
        if gold.places is not None and gold.places >= LEAST_ROUNDED:
            finer = self.places is None or self.places > gold.places
            return finer and abs(self.value - gold.value) < Fraction(1, 2 * 10**gold.places)
        exact = gold.places is None and gold.value.denominator < _LARGEST_ROUNDED
        return exact and (self.places or 0) >= _PLACES and abs(self.value - gold.value) <= Fraction(1, 10**_PLACES)

    @property
    def whole(self) -> bool:
        """An integer without any factor."""
        return self.factor == 1 and self.value.denominator == 1

    def __str__(self) -> str:
        return str(self.value if self.factor < 1 else self.value * self.factor)


LEAST_ROUNDED = 2
"""Decimal places from which on a gold answer may have been rounded."""


def _may_be_unit(factor: Fraction, question: str) -> bool:
    name = _NAMES.get(factor)
    usual = factor == _PERCENT or factor >= _SCALES["million"]
    return name is not None and (name.search(question) is not None if question else usual)


# ---- from LaTeX and Unicode to plain ASCII --------------------------------------------------------------------------

_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "\u2011": "-", "﹣": "-", "－": "-", "＋": "+", "⁄": "/", "×": "*", "·": "*"}
)
_REPLACED = [
    (re.compile(r"(?<![\\\w])\$\s?([-+]?[0-9][0-9.,/]{0,40})\s?\$(?![0-9])"), r"\1"),
    (re.compile(r"百分之\s?([0-9.]+)"), r"\1%"),
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
    (re.compile(r"\\[dtc]?frac\s?\{\s?(-?[\d.,]+)\s?\}\s?\{\s?([\d.,]+)\s?\}"), r" (\1/\2)"),
    (re.compile(r"\\[dtc]?frac\s?\{\s?(-?\d+)\s?\}\s?(\d)"), r" (\1/\2)"),
    (re.compile(r"\\[dtc]?frac\s?(\d)\s?(?:\{\s?(\d+)\s?\}|(\d))"), lambda m: f" ({m[1]}/{m[2] or m[3]})"),
    (re.compile(r"\(\s?(-?[\d.,]+/[\d.,]+)\s?\)(?=[a-zA-Z])"), r" \1"),
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

_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]{1,3}(?: [0-9]{3})+(?![0-9/])|[0-9]+"
_DECIMAL = rf"(?:(?:{_WHOLE})(?:\.[0-9]*)?|\.[0-9]+)"
_POWER = r"\s?[*x]\s?10\s?(?:\^|\*\*)\s?[{(]?\s?(?P<power>[+-]?[0-9]{1,4})(?:\s?[)}])?"
_NUMBER = re.compile(
    r"(?:(?:it|that|this|which|is|are|equals?|equal to|about|approximately|approx\.?|around|roughly|exactly|only|just"
    r"|a total of|to|of|a|an|value)\s+){0,6}"
    r"(?:(?:约|約|大约|大約|共|一共|总共|總共|等于|等於|合計|약|총|हैं?|लगभग|कुल|هو|هي|حوالي|يساوي)\s*)?"
    r"(?P<sign>[+-])?\s?(?:(?P<currency>(?:US)?[$€£¥₹])|(?:USD|EUR|GBP|Rs\.?|INR)\s)?\s?(?P<inner>[+-](?!\s))?"
    rf"(?:(?P<mixed>[0-9]+)\s(?P<part>[0-9]+/[0-9]+)|(?P<over>{_DECIMAL})\s?/\s?(?P<under>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?:[eE](?P<exponent>[+-]?[0-9]{{1,4}})(?![0-9])|{_POWER})?"
    r")(?![0-9])(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RAISED = re.compile(r"10\s?(?:\^|\*\*)\s?(?:\{\s?(-?[0-9]{1,3})\s?\}|([0-9]{1,3})(?![0-9.]))(?P<rest>.*)", re.DOTALL)
_FACTOR = re.compile(
    r"\s*(?:(?P<percent>%|(?:percent(?:age)?(?: points?)?|per cent|pct)\b|パーセント|퍼센트|प्रतिशत"
    r"|(?:بال|في ال)(?:مئة|مائة))"
    r"|(?P<scale>hundred|thousand|million|billion|trillion)\b|(?P<foreign>" + "|".join(_FOREIGN_SCALES) + "))",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?<![!<>=:\\])=(?!=)")
_SYMBOL = re.compile(
    r"(?:\\(?:alpha|beta|gamma|delta|theta|lambda|mu|omega|phi|rho|sigma|ell)|[a-zA-Z])(?:_\{?\w{1,3}\}?|\([a-zA-Z0-9]\))?"
    r"|(?:[^\W\d_]|[ \u0900-\u0963]){1,60}"
)
_COMPUTATION = re.compile(r"[0-9 .,+*/()$%^-]{1,100}")
_PLAIN = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_IN_BRACKETS = re.compile(r"\([^(),]*\)")
_ONE_NUMBER = re.compile(r"[ (]*[+-]?[ $]*[0-9.,]+[ %)]*")


def read_quantity(text: str, question: str = "", gold: str = "") -> Quantity | None:
    r"""The one number a text names; ``None`` where it names none, several, or something that is not a number.

    >>> str(read_quantity(r"\$1{,}204.50")), str(read_quantity(r"x = 1\frac{4}{5}"))
    ('2409/2', '9/5')
    >>> read_quantity("not 42"), read_quantity("41 or 42"), read_quantity("5x")
    (None, None, None)

    Args:
        text: an answer.
        question: what was asked: its variables are no units.
        gold: the gold answer; its words may stand beside the number.
    """
    if len(text) > _LONGEST:
        return None
    if _PLAIN.fullmatch(text):
        whole, _, places = text.partition(".")
        return Quantity(Fraction(text) if places else Fraction(int(whole)), places=len(places))
    told = _told(_ascii(unwrapped(text)), question)
    if told is None:
        return None
    if _IN_BRACKETS.fullmatch(told):
        told = told[1:-1].strip()
    question = f"{question}\n{gold}"
    raised = _RAISED.fullmatch(told)
    if raised:
        return _quantity("1", raised[1] or raised[2], raised["rest"], question)
    match = _NUMBER.fullmatch(told)
    if match is None or (match["sign"] and match["inner"]):
        return None
    sign = -1 if "-" in (match["sign"], match["inner"]) else 1
    if match["decimal"]:
        read = _quantity(match["decimal"], match["exponent"] or match["power"] or "0", match["rest"], question)
    else:
        read = _ratio(match, question)
    if read is None:
        return None
    currency = Unit(words=frozenset([money(match["currency"][-1])])) if match["currency"] else NO_UNIT
    if not read.unit.agrees(currency):
        return None
    unit = read.unit if read.unit != NO_UNIT else currency
    return Quantity(sign * read.value, read.factor, unit, read.places)


def _told(text: str, question: str) -> str | None:
    """What an equation says of its left side; of an exact value and its approximation, the exact one."""
    sides = [side.strip() for side in _EQUALS.split(text)]
    if not all(_tells(side, question) for side in sides[:-1]):
        return None
    exact, *rough = [each.strip() for each in sides[-1].split("≈")]
    if not rough or (exact and not _SYMBOL.fullmatch(exact) and _near(exact, rough)):
        return unwrapped(exact)
    return unwrapped(rough[0]) if len(rough) == 1 and (not exact or _SYMBOL.fullmatch(exact)) else None


def _near(exact: str, rough: list[str]) -> bool:
    """Whether the approximations are no other answers; what an integer approximates to must be itself."""
    value = read_quantity(exact)
    told = [read_quantity(each) for each in rough]
    return value is not None and all(
        each is not None and (not value.whole or abs(each.value - value.value) < 1) for each in told
    )


def _tells(side: str, question: str) -> bool:
    """Whether the left side of an equation only says what is computed: a name, a computation, words of the question.

    It is none where it is one number (``17 = 16``) or an equation to be solved (``2x + z``).
    """
    if _ONE_NUMBER.fullmatch(side) or denies(side):
        return False
    asked = len(side) > 2 and "".join(side.split()) in "".join(question.split())
    return bool(_SYMBOL.fullmatch(side) or _COMPUTATION.fullmatch(side)) or asked


def _ratio(match: re.Match[str], question: str) -> Quantity | None:
    if match["mixed"]:
        over, under = match["part"].split("/")
        base = Fraction(int(match["mixed"]))
    else:
        over, under, base = match["over"], match["under"], Fraction(0)
    below = _value(under)
    return _with_rest(base + _value(over) / below, match["rest"], question, None) if below else None


def _quantity(decimal: str, exponent: str, rest: str, question: str) -> Quantity | None:
    power = int(exponent)
    if abs(power) > _MOST_DIGITS:
        return None
    places = max(0, len(decimal.partition(".")[2]) - power)
    return _with_rest(_value(decimal) * Fraction(10) ** power, rest, question, places)


def _value(decimal: str) -> Fraction:
    return Fraction(decimal.replace(",", "").replace(" ", "").rstrip(".") or "0")


# ---- what stands behind the number ----------------------------------------------------------------------------------


def _with_rest(value: Fraction, rest: str, question: str, places: int | None) -> Quantity | None:
    factor = Fraction(1)
    match = _FACTOR.match(rest)
    if match:
        scale = _SCALES[match["scale"].casefold()] if match["scale"] else _FOREIGN_SCALES.get(match["foreign"], 1)
        factor = _PERCENT if match["percent"] else Fraction(scale)
        rest = rest[match.end() :]
    unit = read_unit(rest, question)
    return None if unit is None else Quantity(value, factor, unit, places)
