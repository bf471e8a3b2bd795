r"""What may stand behind a number: a unit of measure, money, or what is counted. Anything else is no part of an answer.

Units of measure and their prefixes are those of pint's registry. What is counted is told by its form: a plural, or a
word of the question. Words that take an answer back, hedge it or go on computing are neither.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_LONGEST = 80
_MOST_WORDS = 8


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts or measures.

    Args:
        size: of a unit of measure, in SI units; else 1.
        measure: the SI units of a unit of measure: ``meter ** 2``.
        words: of anything else, in the singular.
    """

    size: float = 1.0
    measure: str = ""
    words: frozenset[str] = frozenset()

    def agrees(self, other: "Unit") -> bool:
        """Not surely another thing: one side does not say, the same dimension, or a word in common."""
        if NO_UNIT in (self, other) or "unit" in self.words | other.words:
            return True
        if self.measure or other.measure:
            return self.measure == other.measure
        return bool(self.words & other.words)

    def over(self, other: "Unit") -> float:
        """How many of the other unit are in this one, where both are of one dimension; else 1."""
        return self.size / other.size if self.measure and self.measure == other.measure else 1.0


NO_UNIT = Unit()


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# ---- the words ------------------------------------------------------------------------------------------------------

_DENIALS = words(
    "not no nope nor never none neither isn't aren't wasn't don't doesn't didn't can't cannot won't ain't wrong "
    "wrongly incorrect incorrectly false falsely untrue mistaken mistake mistakes error errors invalid impossible "
    "maybe perhaps possibly probably supposedly allegedly guess guesses guessing unsure uncertain doubtful hmm wait "
    "oops sorry actually instead rather except excluding excluded without but although unless otherwise or either "
    "anything everything nothing something "
)
_NEVER = _DENIALS | words(
    # other values
    "and if else to through until till between versus vs least most more less fewer greater smaller larger above "
    "below over under beyond up down almost nearly exceeding minimum maximum hundred hundreds "
    # sentences
    "is are was were be been being am has have had do does did will would could should might may must can it its "
    "it's this that these those they he she we you i his hers ours yours theirs her their our your my which who "
    "what why how because since as so then than us thus yes always sometimes besides afterwards perchance indeed "
    "fails fail misses lacks lies loses works means says gives makes takes goes seems looks sounds feels appears "
    "becomes remains equals exceeds needs sucks stinks differs contradicts violates disagrees contains includes "
    "excludes cheats varies depends ends begins starts stops tops matters "
    # computing
    "plus minus mod modulo sqrt pi pow factorial squared cubed root log dozen dozens half halves third thirds "
    "quarters fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths twice thrice double "
    "triple infinity thousand million billion trillion percent mille factor th st nd rd "
)
_COUNTABLE = words(
    "works lies ends stops tops starts means halves thirds quarters fourths fifths sixths sevenths eighths tenths"
)
"""Of the words that are never counted, those that are where the question has them."""
_TAILS = words("total altogether left each apiece remaining long tall wide high deep old away apart off")
_MONEY = {"usd": "dollar", "eur": "euro", "gbp": "pound", "inr": "rupee", "cny": "yuan", "rmb": "yuan", "jpy": "yen"}
_IRREGULAR = words("people children men women feet teeth geese mice dice fish sheep deer cattle money")
_LEADING = words("in of per a an the for from each every with on by at")
_NOT_PLURAL = ("ss", "us", "is")
_SQUARE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_FOREIGN = re.compile(r"[\s/.²³a-zA-Z\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\u0620-\u0652\u0900-\u0963]+")
"""Scripts whose words of denial and doubt are known."""
_LONGEST_FOREIGN = 20
_FOREIGN_DENIAL = re.compile(
    "[不没沒非错錯误誤或和与與及吗嗎么余餘多打超半几幾是為]|可能|也许|也許|大概|以上|以下|以内|左右|恐怕|应该|好像|除外|"
    "なく|ない|ません|または|かも|でしょう|でな|違|より|未満|だろう|と思|"
    "아니|아닌|아닙|아님|않|또는|혹은|아마|틀|이상|이하|미만|초과|정도|오답|"
    r"(?<!\w)(?:لا|ليس|ليست|أو|و|غير|ربما|خطأ|تقريبا|نہیں|नहीं|या|और|न|शायद|गलत|से|लगभग)(?!\w)"
)
_LETTER = r"(?:[^\W\d_]|[\u0900-\u0903\u093a-\u094f\u064b-\u0652])"
_WORD = re.compile(rf"{_LETTER}+(?:['’-]{_LETTER}+)*")
_POWER = re.compile(r"(?<=[^\W\d_])\.?\s?(?:(?:\^|\*\*)\s?\{?\s?([23])\s?\}?|([23²³]))(?![0-9])")
_POWERS = {"²": 2, "³": 3}
_PER = re.compile(r"\s*/\s*|\s+(?:per|a|an|each|every)\s+(?=\w)|^per\s+(?=\w)")
_SHAPE = re.compile(rf"{_LETTER}*(?:[ ./',()’$€£¥^-]{{1,3}}{_LETTER}+|\s?\^\s?\{{?[23]\}}?|[23²³])*[ .,)]{{0,3}}")


def denies(text: str) -> bool:
    """Whether a word of the text takes something back, or doubts it.

    >>> denies("number of apples"), denies("it's not"), denies("maybe")
    (False, True, True)
    """
    return any(word.casefold().replace("’", "'") in _DENIALS for word in _WORD.findall(text))


def read_unit(text: str, question: str = "") -> Unit | None:
    """The unit a text is, the empty one where there is no text; ``None`` where it is something else.

    >>> read_unit(" km"), read_unit(" is wrong")
    (Unit(size=1000.0, measure='meter', words=frozenset()), None)
    >>> read_unit(" miles per hour") == read_unit(" mph")
    True
    >>> read_unit(" red apples").words == {"red", "apple"}
    True

    Args:
        text: all that stands behind a number, its blanks included: a letter that touches the number is no unit.
        question: what was asked; its words may be counted, its variables are no units.
    """
    bare = text.strip(" .,")
    if bare.startswith("(") and bare.endswith(")") and bare.count("(") == 1:
        bare = bare[1:-1].strip()
    if ".." in text or "…" in text:
        return None
    if not bare:
        return NO_UNIT
    if bare in _CURRENCIES:
        return Unit(words=frozenset([money(bare)]))
    if len(bare) > _LONGEST or not _SHAPE.fullmatch(bare):
        return None
    return _read(bare, not text[:1].isalpha(), question)


@lru_cache(maxsize=4096)
def _read(bare: str, apart: bool, question: str) -> Unit | None:
    measured = _measure(bare, apart, question)
    if measured is not None:
        return measured
    powerless = _POWER.sub("", bare)
    named = [word.casefold().replace("’", "'") for word in _WORD.findall(powerless)]
    if not named or len(named) > _MOST_WORDS or not bare[0].isalpha() or any(map(str.isnumeric, powerless)):
        return None
    if not all(word.isascii() for word in named):
        short = len(bare) <= _LONGEST_FOREIGN and _FOREIGN.fullmatch(bare)
        return Unit(words=frozenset(named)) if short and not _FOREIGN_DENIAL.search(bare) else None
    return _counted(named, bare, question) if apart or len(named[0]) > 2 else None


def _counted(named: list[str], bare: str, question: str) -> Unit | None:
    asked = _words_of(question)
    if any(word in _NEVER and not (word in asked and word in _COUNTABLE) for word in named):
        return None
    if any(len(word) == 1 and word != "a" for word in named) and not re.search(r"(?:a|p)\s?\.\s?m\b", bare):
        return None
    anchors = [word for word in named if len(word) > 1 and word not in _LEADING]
    known = _TAILS | _MONEY.keys()
    if not any(_is_plural(word) or word in known or singular(word) in asked or is_measure(word) for word in anchors):
        return None
    return Unit(words=frozenset(_MONEY.get(word, singular(word)) for word in anchors))


def _is_plural(word: str) -> bool:
    return word in _IRREGULAR or (len(word) > 2 and word.endswith("s") and not word.endswith(_NOT_PLURAL))


def singular(word: str) -> str:
    """A word without the ending of a plural.

    >>> [singular(word) for word in ("apples", "boxes", "berries", "glass")]
    ['apple', 'box', 'berry', 'glass']
    """
    if not _is_plural(word) or word in _IRREGULAR:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]


@lru_cache(maxsize=1024)
def _words_of(question: str) -> frozenset[str]:
    said = [word.casefold() for word in _WORD.findall(question) if len(word) > 1]
    return frozenset(said) | frozenset(map(singular, said))


# ---- units of measure -----------------------------------------------------------------------------------------------


def _measure(text: str, apart: bool, question: str) -> Unit | None:
    """A unit of measure, of its factors; ``None`` where one of them is none."""
    product: Any = 1.0
    for place, part in enumerate(_PER.split(text)):
        for name, power in _factors(part):
            known = is_measure(name) if place else _known(name, apart, question)
            if known is None:
                return None
            size, units = _registry().get_root_units(known)
            product *= _registry().Quantity(size, units) ** (power if place == 0 else -power)
    return Unit(float(f"{product.magnitude:.9g}"), str(product.units))


def _factors(part: str) -> list[tuple[str, int]]:
    """Names and powers in ``sq. ft`` or ``kg m^2``; an unknown sign gives a name that no unit has."""
    names: list[tuple[str, int]] = []
    ahead = 1
    for piece in re.findall(r"[^\s.]+(?:\s?(?:\^|\*\*)\s?\{?[23]\}?)?", part):
        power = _POWER.search(piece)
        name = _POWER.sub("", piece).strip("() ,")
        if name.casefold() in _SQUARE and power is None:
            ahead = _SQUARE[name.casefold()]
            continue
        raised = (_POWERS.get(power[2]) or int(power[1] or power[2])) if power else ahead
        names.append((name, raised))
        ahead = 1
    return names or [("", 1)]


def _known(name: str, apart: bool, question: str) -> str | None:
    if len(name) == 1 and (not apart or _is_variable(name, question)):
        return None
    if len(name) == 2 and not apart and not _is_common(name) and name.casefold() not in _words_of(question):
        return None
    return is_measure(name)


@lru_cache(maxsize=4096)
def is_measure(name: str) -> str | None:
    """The full name of a unit of measure, prefix and all; ``None`` where pint knows none.

    >>> is_measure("km"), is_measure("feet"), is_measure("x")
    ('kilometer', 'foot', None)
    """
    if not name.isalpha() or name.casefold() in _NEVER or name in ("pi", "a", "units", "unit"):
        return None
    registry = _registry()
    for each in dict.fromkeys((name, name.casefold())):
        for prefix, unit, _ in registry.parse_unit_name(each):
            constant = "_" in unit or (not registry.get_dimensionality(unit) and unit not in ("degree", "radian"))
            if (len(each) > 1 and not prefix) or not constant:
                return f"{prefix}{unit}"
    return None


def _is_common(name: str) -> bool:
    return any(prefix in ("kilo", "centi", "milli", "mega") for prefix, _, _ in _registry().parse_unit_name(name))


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint  # here, for it takes a third of a second that a run without units does without

    return pint.UnitRegistry()


@lru_cache(maxsize=1024)
def _is_variable(letter: str, question: str) -> bool:
    """A letter that stands in the question by itself, though not behind a number."""
    return any(
        not re.search(r"\d\s?(?:\\(?:text|mbox|mathrm)\s?\{)?\s?$", question[max(0, at.start() - 12) : at.start()])
        for at in re.finditer(rf"(?<![A-Za-z\\]){re.escape(letter)}(?![A-Za-z])", question)
    )


_CURRENCIES = frozenset("$€£¥₹₩¢元円원")


def money(sign: str) -> str:
    """The name of a currency sign.

    >>> money("$"), money("€")
    ('dollar', 'euro')
    """
    return unicodedata.name(sign, "").casefold().removesuffix(" sign").rpartition(" ")[2]
