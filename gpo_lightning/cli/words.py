"""Words that help who mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 60


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean group_size?``, with a space before it; empty where nothing is near.

    >>> did_you_mean("grup", ["group_size", "problems", "resets"])
    ' Did you mean group_size?'
    >>> did_you_mean("zzz", ["group_size"])
    ''
    """
    near = nearest(word, known)
    return f" Did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most likely meant."""
    words = list(known)
    lower = {each.lower(): each for each in words}
    if word.lower() in lower:
        return lower[word.lower()]
    found = get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    if not found:
        # Of a longer name people often know the beginning, or one of its words.
        parts = {part: each for each in words for part in each.lower().split("_") if len(part) > 2}
        part = get_close_matches(word.lower(), parts, n=1, cutoff=0.6)
        return parts[part[0]] if part else None
    return lower[found[0]]


def listed(words: Iterable[str]) -> str:
    """Names in a row, cut off where there are very many."""
    names = list(words)
    return ", ".join(names[:_MOST]) + (", ..." if len(names) > _MOST else "")
