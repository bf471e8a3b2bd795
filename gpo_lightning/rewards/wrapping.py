r"""What may stand around an answer without changing it: ``**42**``, ``$42$``, ``\boxed{42}``, ``\text{Paris}``."""

import re
import unicodedata

_PAIRS = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("`", "`"),
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ('"', '"'),
    ("“", "”"),
    ("„", "“"),
    ("«", "»"),
    ("「", "」"),
    ("『", "』"),
    ("《", "》"),
    ("〈", "〉"),
    ("【", "】"),
    ("〔", "〕"),
    ("'", "'"),
    ("‘", "’"),
    ("‘", "'"),
)
_COMMAND = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|tt|sf|normal)?|math(?:rm|bf|it|sf|tt)|mbox|bm|boldsymbol)\s{0,3}\{"
)
_MOST_LAYERS = 8
_WIDE = re.compile("[\uff01-\uffee\u3000]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_SIGNS = str.maketrans(
    {
        "、": ",",
        "،": ",",
        "؛": ";",
        "؟": "?",
        "٪": "%",
        "٫": ".",
        "٬": ",",
        "。": ".",
        "।": ".",
        "॥": ".",
        "۔": ".",
        "∶": ":",
    }
)


def unwrapped(text: str) -> str:
    r"""The answer without what only dresses it, closing punctuation included.

    >>> unwrapped(r"**\boxed{\text{Paris}}**.")
    'Paris'
    >>> unwrapped("$1$ and $2$")
    '$1$ and $2$'
    """
    text = plain_signs(text).strip().removeprefix(r"\displaystyle")
    for _ in range(_MOST_LAYERS):
        bare = _without_command(_without_pair(_without_stop(text.strip())))
        if bare == text:
            break
        text = bare
    return text


def plain_signs(text: str) -> str:
    """Full-width forms and the punctuation of other scripts as ASCII; digits and letters of other scripts stay.

    >>> plain_signs("（Ｂ）、４２％。")
    '(B),42%.'
    """
    if text.isascii():
        return text
    text = _WIDE.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return _INVISIBLE.sub("", text).translate(_SIGNS)


def closing_brace(text: str, begin: int) -> int:
    """Offset of the brace that closes the group whose content begins at ``begin``; -1 where none does."""
    depth, escaped = 1, False
    for i in range(begin, len(text)):
        sign = text[i]
        if escaped:
            escaped = False
        elif sign == "\\":
            escaped = True
        elif sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                return i
    return -1


def _without_stop(text: str) -> str:
    return text[:-1].rstrip() if text.endswith((".", ",", ";")) and not text.endswith("..") else text


def _without_pair(text: str) -> str:
    if text[-1:].isalnum():
        return text
    for left, right in _PAIRS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            inner = text[len(left) : -len(right)]
            if left not in inner and right not in inner and not inner.endswith("\\"):
                return inner.strip()
    return text


def _without_command(text: str) -> str:
    match = _COMMAND.match(text)
    if match and closing_brace(text, match.end()) == len(text) - 1:
        return text[match.end() : -1].strip()
    return text
