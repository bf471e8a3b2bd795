r"""What an answer in LaTeX says: its formula, its unit, and the names of values. What is not read whole is not read.

Words stay out of formulas: a unit, *and* and *or* between answers and names before an equals sign are understood, any
other word makes the answer unreadable, for it may take the answer back.
"""

import re
from dataclasses import dataclass
from typing import Literal

from gpo_lightning.rewards.units import NO_UNIT, Unit, denies, read_unit, words
from gpo_lightning.rewards.wrapping import closing_brace, unwrapped

Kind = Literal["value", "equation", "inequality", "unequal"]


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer that was read whole.

    Args:
        sides: LaTeX of what it says; several are said to be equal.
        kind: a value (a list, set or interval too), an equation to be compared as one, inequalities, or what it is not.
        names: what the values are called, ``("x",)`` in ``x = 5``.
        unit: behind the formula.
    """

    sides: tuple[str, ...]
    kind: Kind = "value"
    names: tuple[str, ...] = ()
    unit: Unit = NO_UNIT


# ---- words and formulas ---------------------------------------------------------------------------------------------

_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\])+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mathrm|textnormal|mbox|hbox)\s?\{")
_COMMAND_OR_WORD = re.compile(
    r"\\(?:begin|end|operatorname\*?)\s?\{[^{}]*\}|\\[a-zA-Z]+|\\.|(?P<word>[A-Za-z]{2,}(?:[ '’-]+[A-Za-z]{2,})*"
    r"|[\u0620-\u0652\u0900-\u0963\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+)",
    re.DOTALL,
)
FUNCTIONS = words(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min gcd lcm mod sqrt deg det dim"
)
_TWO_LETTER_WORDS = words("or is no if to in of at as an be by so we it on up")
_CONNECTOR = re.compile(
    r"\\text\{\s*,?\s*(?:and|or|&|oder|et|y|和|或|与|と|または|와|과|또는|و|أو|और|या)\s*,?\s*\}"
    r"|\\(?:lor|vee)(?![a-zA-Z])|;|\\q?quad"
)
_LAYOUT = [
    (re.compile(r"\{,\}(?=\s*\d{3})|(?<=\d),(?:\\[!,:]\s*)+(?=\d{3})|(?<=\d)(?:\\[!,]\s*)+(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])\.?|\\[bB]igg?[lr]?(?![a-zA-Z])"), ""),
    (re.compile(r"\\(?:displaystyle|textstyle|limits)(?![a-zA-Z])|(?<!\\)\\(?:[,!;:>]|(?=\s))|~"), " "),
    (re.compile(r"(?<![\d}\s])\\(?:text|math)(?:rm|bf|it|normal)?\{([A-Za-z])\}"), r"\1"),
    (re.compile(r"!=|\\not\s*(?:=|\\eq)|\\ne(?![a-zA-Z])|≠"), r"\\neq "),
    (re.compile(r"<=|≤|⩽"), r"\\le "),
    (re.compile(r">=|≥|⩾"), r"\\ge "),
    (re.compile(r"√\s?(\d+)"), r"\\sqrt{\1}"),
    (re.compile(r"\\[hv]?phantom\s*(?:\{[^{}]*\}|-)"), ""),
]
_SIGNS = str.maketrans(
    {"π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "∅": r"\emptyset ", "±": r"\pm ", "×": r"\times ", "·": r"\cdot "}
    | {"⋅": r"\cdot ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "÷": "/", "−": "-", "–": "-", "²": "^2", "³": "^3"}
)
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s?(\\pi|[0-9a-z])\s?(\\pi|[0-9a-z])")
_OPAQUE = re.compile(
    r"\\(?:text|mbox|mathrm)|\\[lcdv]?dots[bcmio]?(?![a-zA-Z])|\.\.|…|\\(?:not|neg|lnot|nleq|ngeq|land|wedge|to|mapsto"
    r"|implies|iff|gets|approx|sim|simeq|cong|equiv|propto|nsim|ncong|x?cancel|bcancel|sout|phantom|hphantom|square|Box"
    r"|perp|parallel|because|therefore|checkmark|setminus|prime|times\s*$)(?![a-zA-Z])"
    r"|\\[a-zA-Z]*(?:arrow|prec|succ|triangle)[a-zA-Z]*|[?:\"#&@']|\d\.(?:\s|$)|<>|[-=]>|=="
    r"|\\\\|[≈→∨∧¬≡√]|\d\s+\d|\^\s?\{?T\b|%(?!\s*(?:$|[,)\]}]))|[\d}]\s?_"
)
_MATRIX = re.compile(r"\\begin\{(?P<name>[pbvBV]?matrix|array)\}.*?\\end\{(?P=name)\}", re.DOTALL)
_INEQUALITY = re.compile(r"[<>]|\\[lg](?:eq?|eqslant|t)(?![a-zA-Z])")
_UNEQUAL = re.compile(r"\\neq(?![a-zA-Z])")
_DEGREES = re.compile(r"\s*(?:\^\s?\{?\s?\\circ\s?\}?|\\degree(?![a-zA-Z])|°)")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_CURRENCY = re.compile(r"^(-?)\s*(?:\\\$|[$€£¥])\s*(?=[\d.\\(])")


def read_expression(answer: str, question: str = "", gold: str = "") -> Reading | None:
    r"""What an answer says; ``None`` where a part of it is not understood.

    >>> read_expression(r"x = 3\sqrt{2}\text{ cm}").sides
    ('3\\sqrt{2}',)
    >>> read_expression(r"42\text{ is wrong}") is None, read_expression(r"1, 2, \ldots, 42") is None
    (True, True)

    Args:
        answer: LaTeX, with or without dollar signs.
        question: what was asked; the left side of an equation may quote it.
        gold: the gold answer; its words may stand in the answer.
    """
    if ".." in answer or "…" in answer:
        return None
    text = _CURRENCY.sub(r"\1", unwrapped(answer).strip(" .,"))
    text = _spelled(text).translate(_SIGNS).strip(" .,")
    for pattern, by in _LAYOUT:
        text = pattern.sub(by, text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text).strip(" .,")
    text, unit = _without_unit(text, f"{question}\n{gold}")
    text = re.sub(r"(?:\s*,\s*)+", ", ", _CONNECTOR.sub(",", text)).strip(" .,")
    reading = _read(text, question)
    if reading is None or any(not side.strip() or _opaque(side) for side in reading.sides):
        return None
    return Reading(reading.sides, reading.kind, reading.names, unit)


def _opaque(side: str) -> bool:
    """Whether it has a sign that math-verify drops or misreads; between the cells of a matrix there may be any."""
    cells = _MATRIX.sub(lambda match: re.sub(r"\\\\|&", " , ", match[0]), side)
    return _OPAQUE.search(cells) is not None


def _spelled(text: str) -> str:
    r"""One formula whose words stand in ``\text{...}``, from formulas among words."""
    text = text.replace("\n", " ")
    if _FORMULA.search(text):
        parts, position = list[str](), 0
        for formula in _FORMULA.finditer(text):
            parts += [_outside(text[position : formula.start()]), next(filter(None, formula.groups()))]
            position = formula.end()
        text = "".join([*parts, _outside(text[position:])])
    kept, position = list[str](), 0
    for begin, inner_begin, end in _texts(text):
        kept += [_words_spelled(text[position:begin]), rf"\text{{{text[inner_begin:end]}}}"]
        position = end + 1
    return "".join([*kept, _words_spelled(text[position:])])


def _outside(text: str) -> str:
    return text if not re.search(r"[^\W\d_]", text) else rf"\text{{{text.strip('*_')}}}"


def _texts(text: str) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    position = 0
    while match := _TEXT.search(text, position):
        end = closing_brace(text, match.end())
        if end < 0:
            break
        found.append((match.start(), match.end(), end))
        position = end + 1
    return found


def _words_spelled(text: str) -> str:
    def spelled(match: re.Match[str]) -> str:
        word = match["word"]
        if word is None or word in FUNCTIONS or (len(word) == 2 and word not in _TWO_LETTER_WORDS) or word.isupper():
            return match[0]
        return rf"\text{{ {word} }}"

    return _COMMAND_OR_WORD.sub(spelled, text)


def _without_unit(text: str, question: str) -> tuple[str, Unit]:
    r"""The formula and the unit in the last ``\text{...}``, or degrees."""
    texts = _texts(text)
    if texts:
        begin, inner, end = texts[-1]
        power = text[end + 1 :].strip(" .,")
        if begin and re.fullmatch(r"(?:\^\s?\{?\s?[23]\s?\}?|[²³])?", power):
            unit = read_unit(f" {text[inner:end].strip()}{power}", question)
            if unit is not None and unit != NO_UNIT:
                return text[:begin].rstrip(" .,"), unit
    word = re.search(r"(?<=[\d})])\s+([a-z]{1,2})(\^\{?[23]\}?)?$", text)
    unit = read_unit(f" {word[1]}{word[2] or ''}", question) if word else None
    if word and unit is not None and unit.measure:
        return text[: word.start()], unit
    if _DEGREES.search(text) and not _TRIGONOMETRY.search(text):
        return _DEGREES.sub("", text), read_unit(" degrees") or NO_UNIT
    return text, NO_UNIT


# ---- names, equations, inequalities ---------------------------------------------------------------------------------

_EQUALS = re.compile(r"(?<![!<>:=])=(?!=)")
_SYMBOL = re.compile(
    r"(?:\\angle\s?|\\triangle\s?|\|)?(?:\\(?:theta|alpha|beta|gamma|phi|varphi|lambda|mu|omega|sigma|delta|rho|ell|overline\{\w+\}"
    r"|mathbf\{\w\}|vec\{\w\}|hat\{\w\})|[a-zA-Z]|[A-Z]{2,4})(?:_\{?\w{1,3}\}?)?'{0,2}(?:\^\{-1\}|\^\{\(\d\)\})?"
    r"(?:\s?\([a-zA-Z0-9, -]{1,9}\))?\|?|\[[A-Z]{3,5}\]|\\text\{[^{}]{1,60}\}"
)
_NAMED_TUPLE = re.compile(r"\(\s*[a-zA-Z](?:_\{?\w{1,3}\}?)?(?:\s*,\s*[a-zA-Z](?:_\{?\w{1,3}\}?)?)+\s*\)")
_MEMBER = re.compile(rf"(?:{_SYMBOL.pattern})\s*\\in(?![a-zA-Z])\s*(?=[\[({{\\]|[A-Z]\b)")
_COMPUTATION = re.compile(r"[-(\s]*\d[\d.,]*(?:[\s()]*(?:[-+*/]|\\times|\\cdot)[\s()]*\d[\d.,]*[\s()]*)+")
_LETTER = re.compile(r"(?<!\\)(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])")
_CONSTANT = re.compile(r"\\[a-zA-Z]+|(?<![a-zA-Z])[ei](?![a-zA-Z])")


def _read(text: str, question: str) -> Reading | None:
    member = _MEMBER.match(text)
    if member:
        text = text[member.end() :]
    relation = next((each for each in (_INEQUALITY, _UNEQUAL) if each.search(text)), None)
    if relation:
        whole = all(end.strip(" (\\") for end in relation.split(text)) and not _EQUALS.search(text)
        return Reading((text,), "inequality" if relation is _INEQUALITY else "unequal") if whole else None
    items = split_items(text)
    if len(items) > 1:
        return _read_items(items, question)
    sides, names = _named(text, question)
    if len(sides) > 1 and any(_has_letters(side) for side in sides):
        return Reading((" = ".join(sides),), "equation", names) if len(sides) == 2 else None
    return Reading(tuple(sides), "value", names)


def _read_items(items: list[str], question: str) -> Reading | None:
    """A bare list; its items may have names."""
    read = [_named(item, question) for item in items]
    if any(len(sides) > 1 for sides, _ in read):
        equations = all(len(sides) == 2 and not names for sides, names in read)
        return Reading((", ".join(items),), "equation") if equations else None
    names = tuple(each for _, each in read for each in each[:1])
    values = [sides[0] for sides, _ in read]
    if names and len(names) != len(values):
        return None if len(names) > 1 or not read[0][1] else Reading((", ".join(values),), "value", names)
    group = next((size for size in range(2, len(names)) if names == names[:size] * (len(names) // size)), 0)
    if group and len(set(names[:group])) == group:
        tuples = [f"({', '.join(values[at : at + group])})" for at in range(0, len(values), group)]
        return Reading((", ".join(tuples),), "value", (f"({','.join(names[:group])})",))
    if len(set(names)) == len(names) > 1:
        pairs = sorted(zip(names, values, strict=True))
        return Reading((", ".join(value for _, value in pairs),), "value", tuple(name for name, _ in pairs))
    return Reading((", ".join(values),), "value", names[:1])


def _named(text: str, question: str) -> tuple[list[str], tuple[str, ...]]:
    """The sides of an equation behind those that only say what is computed, and these."""
    sides = [_exact(side.strip()) for side in _EQUALS.split(text)]
    if len(sides) == 2 and _LETTER.fullmatch(sides[1]) and not _has_letters(sides[0]):
        sides.reverse()
    names: list[str] = []
    while len(sides) > 1 and ((computed := _COMPUTATION.fullmatch(sides[0])) or _is_name(sides[0], question)):
        side = sides.pop(0)
        names += [] if computed else ["".join(side.split())]
    return sides, tuple(names[-1:])


def _is_name(side: str, question: str) -> bool:
    if _SYMBOL.fullmatch(side) or _NAMED_TUPLE.fullmatch(side):
        return not denies(side)
    bare = "".join(side.split())
    return len(bare) > 2 and _has_letters(side) and bare in "".join(question.split())


def _exact(side: str) -> str:
    r"""What stands before ``\approx``, unless it is a name or nothing; an integer has no approximation."""
    exact, mark, rough = re.sub(r"≈", r"\\approx ", side).partition(r"\approx")
    exact, rough = exact.strip(), rough.strip()
    if not mark or re.fullmatch(r"[-+]?[\d,]+", exact):
        return side
    return rough if not exact or _SYMBOL.fullmatch(exact) else exact


def _has_letters(side: str) -> bool:
    return bool(_LETTER.search(_CONSTANT.sub(" ", side)))


def split_items(text: str) -> list[str]:
    r"""Items of a list without brackets; a comma between thousands divides nothing.

    >>> split_items("1, (2, 3), 4,000")
    ['1', '(2, 3)', '4,000']
    """
    items, depth, begin = list[str](), 0, 0
    for i, sign in enumerate(text):
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif sign == "," and depth == 0 and not re.match(r"\d,\d{3}(?!\d)", text[max(0, i - 1) : i + 5]):
            items.append(text[begin:i].strip())
            begin = i + 1
    items.append(text[begin:].strip())
    return [item for item in items if item]
