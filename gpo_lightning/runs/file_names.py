"""The one way from a name that somebody gave to the name of a file."""

import re
from hashlib import sha256

_LONGEST = 80
_PLAIN = re.compile(r"[A-Za-z0-9_@=+,-][A-Za-z0-9_.@=+,-]*")
_OTHER = re.compile(r"[^A-Za-z0-9_@=+,-]+")


def file_name(name: str) -> str:
    """A name that stays in its folder, and differs where the given ones differ.

    >>> file_name("mmlu_pro-0.5B")
    'mmlu_pro-0.5B'
    >>> file_name("../../x").startswith("_x-")
    True

    Args:
        name: any text; slashes, blanks, lone surrogates and a thousand characters included.
    """
    if len(name) <= _LONGEST and _PLAIN.fullmatch(name):
        return name
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{_OTHER.sub('_', name)[:40]}-{digest}"
