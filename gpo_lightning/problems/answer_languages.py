r"""What an answer to a task of reasoning-gym may look like at all: an allow-list by pattern, one a task.

Some of the library's scorers evaluate an answer as a program, others are content with text that is no answer (``nan``,
any word). What is not in the task's language is wrong, and no scorer is shown it. A task that has none here (new ones
of the library, those whose answer is one text and no other) takes the gold answer literally, and nothing else.

The patterns are matched where nothing can kill them, against text that a policy may make as bad as it likes: each reads
a text in one way only, so that a near miss takes no longer than a match.

>>> LANGUAGES["polynomial_multiplication"]("12*x**2 - 3*x")
True
>>> LANGUAGES["polynomial_multiplication"]("__import__('os').system('touch x')")
False
"""

import json
import re
from collections.abc import Callable, Mapping

Language = Callable[[str], bool]
_LONGEST = 1000


def _pattern(pattern: str) -> Language:
    compiled = re.compile(pattern)
    return lambda text: len(text) <= _LONGEST and compiled.fullmatch(text) is not None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} compares with nothing as numbers do")


def is_json(text: str) -> bool:
    """A JSON object or list of finite numbers, in double quotes or single ones.

    >>> is_json("['1.5', '2']"), is_json("[NaN]"), is_json("exit()")
    (True, False, False)
    """
    if len(text) > _LONGEST or not text.startswith(("[", "{")):
        return False
    try:
        json.loads(text.replace("'", '"'), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


_DIGITS = r"[0-9]{1,40}"
# Without possessive quantifiers, which Python 3.11.2 gets wrong: what follows tells how to read on.
_FRACTION = rf"(?:\.{_DIGITS})?(?:[eE][+-]?[0-9]{{1,3}})?"
_DECIMAL = rf"[+-]?{_DIGITS}(?:,{_DIGITS})*{_FRACTION}"
_PLAIN = rf"[+-]?{_DIGITS}{_FRACTION}"
_FUNCTIONS = "sin|cos|tan|sec|csc|cot|sinh|cosh|tanh|asin|acos|atan|asinh|acosh|atanh|exp|log|sqrt|erf|Ei|Si|Ci|pi"
_ALONE = r"(?<![\w.])(?:{})(?![\w.])"
_NAME = _ALONE.format(f"{_FUNCTIONS}|[a-zA-Z]")
_COEFFICIENT = _ALONE.format(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")

number = _pattern(_DECIMAL)
whole = _pattern(rf"[+-]?{_DIGITS}")
fraction = _pattern(rf"{_DECIMAL}(?:\s?/\s?{_DIGITS})?")
numbers = _pattern(rf"{_PLAIN}(?:,\s{{0,3}}{_PLAIN})*")
complex_number = _pattern(r"[+-]?[0-9.]{1,20}[ij]?(?:\s?[+-]\s?[0-9.]{1,20}[ij]?)?|[+-]?[ij]")
point = _pattern(r"\(?\s?[+-]?[0-9.]{1,20}\s?(?:,\s?[+-]?[0-9.]{1,20}\s?)?\)?\s?°?")
arithmetic = _pattern(r"(?:[0-9 ().+-]|\*(?!\s*\*)|/){1,100}")
_EXPONENT = r"(?:[0-9]{1,2}(?![0-9.])|\(-?[0-9]{1,2}(?:/[0-9]{1,2})?\))"
_POWER = rf"\*\*\s?{_EXPONENT}(?!\s*\*\s*\*)"  # no towers
expression = _pattern(rf"(?:{_NAME}|{_POWER}|{_COEFFICIENT}|\*(?!\s*\*)|[-+/() ])+")
words = _pattern(r"(?:[^\W_]|[ ,.'’;:!?-])+")
names = _pattern(r"[^\W_]+(?:, ?[^\W_]+)*")
latex_fraction = _pattern(rf"\$?(?:{_DIGITS}\s?/\s?{_DIGITS}|\\[dt]?frac{{{_DIGITS}}}{{{_DIGITS}}})\$?")
duration = _pattern(r"[0-9]{1,8}(?: days?)?(?:, )?(?:[0-9]{1,2}:[0-9]{2}(?::[0-9.]{2,9})?)?|[0-9:.]{4,12}")
factors = _pattern(r"[0-9]{1,20}(?:\s?[×x*]\s?[0-9]{1,20})*")

_TASKS: tuple[tuple[Language, str], ...] = (
    (
        number,
        "chain_sum products decimal_arithmetic decimal_chain_sum number_format power_function gsm_symbolic "
        "advanced_geometry",
    ),
    (whole, "rectangle_count"),
    (fraction, "coin_flip dice"),
    (numbers, "polynomial_equations"),
    (complex_number, "complex_arithmetic"),
    (point, "advanced_geometry"),
    (_pattern(r"-?0x[0-9a-fA-F]{1,32}"), "bitwise_arithmetic"),
    (
        _pattern(rf"\$?(?:{_DIGITS}\s?/\s?{_DIGITS}|\\[dt]?frac{{{_DIGITS}}}{{{_DIGITS}}})\$?"),
        "fraction_simplification",
    ),
    (
        _pattern(r"[0-9]{1,8}(?: days?)?(?:, )?(?:[0-9]{1,2}:[0-9]{2}(?::[0-9.]{2,9})?)?|[0-9:.]{4,12}"),
        "time_intervals",
    ),
    (arithmetic, "countdown puzzle24"),
    (expression, "polynomial_multiplication simple_integration intermediate_integration"),
    (factors, "prime_factorization"),
    (_pattern(r"[A-Z]\s?=\s?[0-9](?:\s?,\s?[A-Z]\s?=\s?[0-9])*"), "cryptarithm"),
    (_pattern(r"[A-Z¬∧∨→↔() ]{1,200}"), "propositional_logic"),
    (is_json, "boxnet codeio game_of_life graph_color group_anagrams jugs knight_swap number_sorting"),
    (is_json, "palindrome_partitioning"),
    (
        words,
        "calendar_arithmetic color_cube_rotation family_relationships knights_knaves letter_jumble needle_haystack "
        "sentence_reordering spell_backward zebra_puzzles",
    ),
    (names, "word_ladder word_sorting"),
    (_pattern(r"[a-zA-Z]{1,200}"), "palindrome_generation"),
    (_pattern(r"[0-9]+(?:\s[0-9]+)*"), "path_star"),
    (_pattern(r"(?:up|down|left|right)(?: (?:up|down|left|right))*"), "shortest_path"),
    (_pattern(r"[A-Za-z][0-9]{1,2}"), "tsumego"),
    (_pattern(r"[UDLR]{1,500}"), "sokoban"),
    (_pattern(r"[A-Z][+-][0-9]{1,2}(?:\s[A-Z][+-][0-9]{1,2})*"), "rush_hour"),
    (_pattern(r"(?:[A-Za-z][2-3]?['’]?\s?)+"), "rubiks_cube"),
    (_pattern(r"[A-Ca-c](?:\s?(?:(?:→|->|,)\s?)?[A-Ca-c])*"), "quantum_lock"),
)


def _any_of(languages: list[Language]) -> Language:
    return lambda text: any(language(text) for language in languages)


LANGUAGES: Mapping[str, Language] = {
    task: _any_of([language for language, tasks in _TASKS if task in tasks.split()])
    for _, named in _TASKS
    for task in named.split()
}
"""By the task's name in reasoning-gym."""
