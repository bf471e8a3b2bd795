"""What jsonargparse complains of, in few words: the key, what was given, what it takes."""

import re

_KEY = re.compile(r"^Parser key \"([^\"]+)\":\s*")
_NOISE = re.compile(
    r"^\s*(-\s*)?(Expected a path but .* either not accessible or invalid|Does not validate against any of the Union"
    r" subtypes|Subtypes:.*|Errors:|Given value type:.*|Given value:.*|Unable to load config.*|Parser key .*)\s*$"
)
_MOST_LINES = 6


def in_few_words(message: str) -> str:
    """A message whose first line says it.

    >>> print(in_few_words('Parser key "data.seed":\\n  Expected a <class \\'int\\'>. Got value: x'))
    data.seed: Expected a int. Got value: x
    """
    text = re.sub(r"<class '([\w.]+)'>", lambda found: found[1].rpartition(".")[2], message)
    key = _KEY.match(text)
    head = f"{key[1]}: " if key else ""
    body = text[key.end() :] if key else text
    lines = [line.strip().removeprefix("- ") for line in body.splitlines() if line.strip() and not _NOISE.match(line)]
    given = re.search(r"Given value: (.*)", body)
    kept = list(dict.fromkeys(lines)) or [body.strip().splitlines()[0]]
    if given is not None and len(kept) > 1:
        return f"{head}{given[1]!r:.80} fits nothing that it takes.\n  " + "\n  ".join(kept[:_MOST_LINES])
    return head + "\n  ".join(kept[:_MOST_LINES])
