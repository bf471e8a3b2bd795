r"""Wrong answers made from right ones, and right answers written otherwise: what graders are measured with.

Every mutation makes an answer that is wrong whatever the question was, and every rewriting one that is right. A kind is
a function of the gold answer that yields texts; one that a gold answer gives no room for yields none.

>>> sorted({kind for kind, _ in mutated("42")})[:3]
['digit', 'list', 'negation']
>>> dict(rewritten("\\frac{1}{2}"))["fraction"]
'\\dfrac{1}{2}'
"""

import re
from collections.abc import Callable, Iterator

Kind = Callable[[str], Iterator[str]]

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FRACTION = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}")
_TEXT = re.compile(r"\\(?:text|mbox|textbf)\s?\{")
_LIST = re.compile(r"[^,()\[\]{}]+(?:, ?[^,()\[\]{}]+)+")
_THOUSANDS = re.compile(r"\d,(?:\\!|\s)*\d{3}")
_UNIT = re.compile(r"(.*\d)\s*\\(?:text|mbox)\s?\{\s*([a-z. /]+)\}(?:\^\d)?")
_LETTER = re.compile(r"\(?([A-Z])\)?")
_RELATION = re.compile(r"(?<![a-z\\])(?:<|>|\\leq?(?![a-z])|\\geq?(?![a-z]))")
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\leq": r"\geq", r"\ge": r"\le", r"\geq": r"\leq"}
_OTHER_UNIT = {"cm": "m", "inches": "feet", "feet": "inches", "degrees": "radians", "dollars": "cents"}


def is_formula(gold: str) -> bool:
    """A single expression: no words, no list, no relation."""
    return not re.search(r"\\text|\\mbox|,(?!\d{3})|\\pm|[<>=]|\\[lg]e|\\in(?![a-z])|\\cup|matrix|[\\]\{", gold)


# ---- wrong whatever the question was --------------------------------------------------------------------------------


def sign(gold: str) -> Iterator[str]:
    """The other sign, of the whole and of one term."""
    if not is_formula(gold) or re.fullmatch(r"0+(\.0*)?", gold):
        return
    yield gold.removeprefix("-").strip() if _is_negative(gold) else f"-({gold})"
    if _is_negative(gold) is False and re.fullmatch(r"[\w.\\{}]+", gold):
        yield f"-{gold}"
    inner = re.search(r"(?<=[\w)}]) ?([+-]) ?(?=[\w\\(])", gold)
    if inner and _depth(gold, inner.start()) == 0:
        other = "-" if inner[1] == "+" else "+"
        yield gold[: inner.start()] + other + gold[inner.end() :]


def relation(gold: str) -> Iterator[str]:
    """A relation instead of a value; another relation instead of the one; a closed interval for an open one."""
    if is_formula(gold):
        for each in (">", "<", r"\le", r"\geq", r"\neq", r"\not="):
            yield f"{each} {gold}"
        yield f"x > {gold}"
        yield rf"x \ne {gold}"
        yield rf"x \leq {gold}"
    found = _RELATION.search(gold)
    if found:
        yield gold[: found.start()] + _FLIPPED[found[0]] + " " + gold[found.end() :].lstrip()
        yield gold[: found.start()] + "= " + gold[found.end() :].lstrip()
    if re.fullmatch(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]", gold):
        if gold[0] == "[" or gold[-1] == "]":
            yield "(" + gold[1:-1] + ")"
        elif r"\infty" not in gold and "[" not in gold:
            yield "[" + gold[1:-1] + "]"


def items(gold: str) -> Iterator[str]:
    """More answers than the one, or fewer."""
    other = another(gold)
    if is_formula(gold):
        yield f"{gold}, {other}"
        yield f"{other}, {gold}"
        yield rf"\{{{gold}, {other}\}}"
        yield f"({other}, {gold})"
        yield rf"1, 2, \ldots, {gold}"
        yield rf"{gold}, \ldots"
        yield rf"\{{{gold}, \dots, {other}\}}"
    if _LIST.fullmatch(gold) and not re.fullmatch(r"\d{1,3}(,\d{3})+", gold):
        parts = [part.strip() for part in gold.split(",")]
        if len(set(parts)) == len(parts):
            yield ", ".join(parts[1:])
            yield ", ".join(parts[:-1])
            yield f"{gold}, {other}"


def two_answers(gold: str) -> Iterator[str]:
    """Two answers, one of which is right."""
    if not is_formula(gold):
        return
    other = another(gold)
    yield rf"{gold} \text{{ or }} {other}"
    yield rf"{other} \text{{ or }} {gold}"
    yield rf"{gold} \lor {other}"
    yield rf"x = {gold} \lor x = {other}"
    yield rf"x = {other} \vee x = {gold}"
    yield f"{other}. {gold}"
    yield f"{gold}. {other}"
    yield f"{other}; {gold}"
    yield f"{gold} or {other}"
    yield f"{gold} and {other}"
    yield rf"{other} \quad {gold}"
    yield f"{other} = {gold}"
    yield rf"{gold} \text{{ (or }} {other}\text{{)}}"
    yield rf"\text{{either }} {gold} \text{{ or }} {other}"
    yield rf"{other} \to {gold}"


def unit(gold: str) -> Iterator[str]:
    """Another unit than the one that was asked for."""
    found = _UNIT.fullmatch(gold)
    if found and found[2].strip() in _OTHER_UNIT:
        yield rf"{found[1]}\text{{ {_OTHER_UNIT[found[2].strip()]}}}"
    # The powers and roots of numbers about 1 round to them: the root of 0.99 is .995.
    if _NUMBER.fullmatch(gold) and gold != "0" and not 0.98 <= abs(float(gold)) <= 1.02:
        yield rf"{gold}\text{{ dozen}}"
        yield rf"{gold}^2"
        yield rf"{gold} \times 10^3"
        yield rf"\sqrt{{{gold}}}" if not gold.startswith("-") else rf"{gold}^3"
        yield f"{gold}!" if abs(float(gold)) != 2 else f"{gold}^4"


def variable(gold: str) -> Iterator[str]:
    """A variable more, or all terms less that have one."""
    if not is_formula(gold) or re.fullmatch(r"0+(\.0*)?", gold):
        return
    body = gold if re.fullmatch(r"[\w.\\{}]+", gold) else f"({gold})"
    for letter in "xnikmhtac":
        yield f"{body}{letter}"
    yield f"{body} m"[:-2] + " y"
    yield f"{gold}-i" if "i" not in gold else f"{gold}-y"
    yield f"{gold} + x"
    yield f"{gold} - x"
    yield f"x{body}" if not body.startswith("-") else f"x({body})"
    yield rf"{body}\pi"
    yield rf"{body}_3"
    yield rf"\log {body}" if gold not in ("1",) else r"\log 2"
    terms = [at.start() for at in re.finditer(r"(?<=[\w)}]) ?[+-]", gold) if _depth(gold, at.start()) == 0]
    if terms and gold[: terms[0]].strip():
        yield gold[: terms[0]].strip()
    if terms and re.search(r"[a-z]", gold[terms[-1] :]) and gold[: terms[-1]].strip():
        yield gold[: terms[-1]].strip()


def digit(gold: str) -> Iterator[str]:
    """One digit changed, one more, one less."""
    digits = [at.start() for at in re.finditer(r"\d", gold)]
    for place in {*digits[:1], *digits[-1:], *digits[len(digits) // 2 : len(digits) // 2 + 1]}:
        yield f"{gold[:place]}{(int(gold[place]) + 1) % 10 or 1}{gold[place + 1 :]}"
    if re.fullmatch(r"-?\d+", gold) and gold != "0":
        yield f"{gold}0"
        yield f"{gold}.5"
        yield f"{gold}{gold[-1]}"
        yield f"{gold}:30"
        yield f"{gold}%{gold}"


def negation(gold: str) -> Iterator[str]:
    """Words that take the answer back."""
    if not is_formula(gold):
        return
    for before in ("not ", "anything but ", "never ", "it is not "):
        yield rf"\text{{{before}}} {gold}"
    for behind in (
        "is wrong",
        "is incorrect",
        "?",
        "is not right",
        "would be a mistake",
        "minus one",
        "nope",
        "no",
        "fails",
        "instead",
        "is a guess",
        "or more",
        "at most",
    ):
        yield rf"{gold}\text{{ {behind}}}"
    yield rf"\neg {gold}"
    yield f"not {gold}"
    yield f"{gold} is wrong"


def plain_negation(gold: str) -> Iterator[str]:
    """Words that take back an answer in words or letters."""
    yield from (f"not {gold}", f"{gold} is wrong", f"{gold}?", f"anything but {gold}", f"never {gold}")
    yield from (f"{gold} is incorrect", f"probably not {gold}", f"{gold}, or maybe not", f"it isn't {gold}")


def plain_two_answers(gold: str) -> Iterator[str]:
    """Two letters, or two words."""
    letter = _LETTER.fullmatch(gold)
    other = gold.replace(letter[1], "A" if letter[1] != "A" else "B") if letter else "something else"
    yield from (f"{gold} or {other}", f"{other} or {gold}", f"{gold} and {other}", f"{other}, maybe {gold}")
    yield from (f"either {gold} or {other}", f"{gold}; {other}", f"{gold}, but possibly {other}", f"{other}/{gold}")


def plain_other(gold: str) -> Iterator[str]:
    """Another letter, or a letter of the word changed."""
    letter = _LETTER.fullmatch(gold)
    if letter:
        yield gold.replace(letter[1], "A" if letter[1] != "A" else "B")
        yield f"{letter[1]}{letter[1]}"
    else:
        yield gold[:-1] + ("x" if gold[-1] != "x" else "y")
        yield f"{gold}s {gold}"


MUTATIONS: dict[str, Kind] = {
    "sign": sign,
    "relation": relation,
    "list": items,
    "two answers": two_answers,
    "unit": unit,
    "variable": variable,
    "digit": digit,
    "negation": negation,
}
PLAIN_MUTATIONS: dict[str, Kind] = {
    "two answers": plain_two_answers,
    "digit": plain_other,
    "negation": plain_negation,
}


def mutated(gold: str) -> Iterator[tuple[str, str]]:
    """Wrong answers of every kind."""
    kinds = PLAIN_MUTATIONS if is_plain(gold) else MUTATIONS
    return ((name, text) for name, kind in kinds.items() for text in kind(gold) if text != gold)


def is_plain(gold: str) -> bool:
    """A letter of an option, or words; brackets of closing-bracket tasks too."""
    return bool(_LETTER.fullmatch(gold) or re.fullmatch(r"[A-Za-z][A-Za-z ,.&'-]+|[][(){}<> ]+", gold))


def another(gold: str) -> str:
    """A number that is not the gold answer."""
    return str(int(gold) + 1) if re.fullmatch(r"-?\d{1,15}", gold) else "17" if gold != "17" else "19"


def _is_negative(gold: str) -> bool | None:
    """Whether one minus sign stands before the whole; ``None`` where it stands before one of several terms."""
    if not gold.startswith("-"):
        return False
    return True if all(_depth(gold, at.start()) for at in re.finditer(r"(?<=.)[+-]", gold)) else None


def _depth(text: str, place: int) -> int:
    return len(re.findall(r"[({\[]", text[:place])) - len(re.findall(r"[)}\]]", text[:place]))


# ---- right, written otherwise ---------------------------------------------------------------------------------------


def dressed(gold: str) -> Iterator[str]:
    """Dollar signs, blanks, a full stop, thin spaces."""
    if "$" not in gold:
        yield f"${gold}$"
    yield f" {gold} "
    if not gold.endswith("."):
        yield f"{gold}."
    yield rf"\displaystyle {gold}"
    if re.fullmatch(r"\([^()]*\)", gold):
        yield rf"\left{gold[:-1]}\right)"
        yield gold.replace(",", r",\,")


def named(gold: str) -> Iterator[str]:
    """An equation that says what it is the value of."""
    if is_formula(gold):
        yield f"x = {gold}" if "x" not in gold else f"P = {gold}"
        yield f"f(3) = {gold}" if "f" not in gold.replace(r"\frac", "") else f"g(3) = {gold}"
        yield rf"\theta = {gold}"


def fraction(gold: str) -> Iterator[str]:
    """Other commands, a slash, a decimal that is exact."""
    if r"\frac" in gold:
        yield gold.replace(r"\frac", r"\dfrac")
        yield gold.replace(r"\frac", r"\tfrac")
    found = _FRACTION.fullmatch(gold)
    if found:
        yield f"{found[1]}{found[2]}/{found[3]}"
        value = int(found[2]) / int(found[3])
        if len(str(value)) < 8:
            yield f"{found[1]}{value}"
        yield rf"{found[1]}\frac{{{2 * int(found[2])}}}{{{2 * int(found[3])}}}"


def number(gold: str) -> Iterator[str]:
    """Thousands, decimals, leading signs."""
    if re.fullmatch(r"\d+", gold):
        if len(gold) > 4:
            yield f"{int(gold):,}"
            yield f"{int(gold):,}".replace(",", "{,}")
            yield f"{int(gold):,}".replace(",", r"\,")
        yield f"{gold}.0"
        yield f"+{gold}"
    if re.fullmatch(r"0?\.\d+", gold):
        yield f"{gold}0"
        yield "." + gold.partition(".")[2]


def with_unit(gold: str) -> Iterator[str]:
    """What the number counts, where the gold answer does not say."""
    if _NUMBER.fullmatch(gold):
        for what in ("times", "cm", "inches", "square units", "apples", "dollars", "degrees", "ways", "miles per hour"):
            yield rf"{gold}\text{{ {what}}}"
        yield f"{gold} apples"
        yield rf"{gold}\mbox{{ cm}}^2"
        yield rf"{gold}^\circ"
        yield rf"\${gold}"
        yield f"{gold} km/h"
    found = _UNIT.fullmatch(gold)
    if found:
        yield found[1]


def commuted(gold: str) -> Iterator[str]:
    """Terms or list items in another order; *and* between the last two."""
    terms = re.fullmatch(r"([\w\\{}]+) ?\+ ?([\w\\{}^]+)", gold)
    if terms and _depth(gold, terms.end(1)) == 0:
        yield f"{terms[2]} + {terms[1]}"
    if _LIST.fullmatch(gold) and not _THOUSANDS.search(gold) and not _TEXT.search(gold):
        parts = [part.strip() for part in gold.split(",")]
        yield ", ".join(reversed(parts))
        yield ", ".join(parts[:-1]) + rf" \text{{ and }} {parts[-1]}"
        yield ", ".join(parts[:-1]) + f" and {parts[-1]}"
        yield rf"\{{{', '.join(parts)}\}}"


def plainly(gold: str) -> Iterator[str]:
    """A letter or words, dressed."""
    yield from (f"**{gold}**", f"{gold}.", f" {gold} ", f'"{gold}"')
    letter = _LETTER.fullmatch(gold)
    if letter:
        yield from (letter[1], f"({letter[1]})", f"option {letter[1]}", rf"\text{{{letter[1]}}}")


REWRITINGS: dict[str, Kind] = {
    "dress": dressed,
    "name": named,
    "fraction": fraction,
    "number": number,
    "unit": with_unit,
    "order": commuted,
}


def rewritten(gold: str) -> Iterator[tuple[str, str]]:
    """Right answers of every kind."""
    kinds: dict[str, Kind] = {"dress": plainly} if is_plain(gold) else REWRITINGS
    return ((name, text) for name, kind in kinds.items() for text in kind(gold))
