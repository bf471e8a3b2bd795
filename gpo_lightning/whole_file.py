"""Files that are there whole or not at all, whenever the machine stops."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in the place of one that may be there, into a folder that is there.

    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "best.json"
    >>> write_whole(path, "{}")
    >>> path.read_text(), [each.name for each in path.parent.iterdir()]
    ('{}', ['best.json'])
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
