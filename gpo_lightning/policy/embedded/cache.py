"""Model directories that are made once and found again."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from gpo_lightning.leftovers import own_folder


def make_once(name: str, write: Callable[[Path], None]) -> Path:
    """The directory ``name`` in the cache (``$GPO_CACHE`` or ``~/.cache/gpo_lightning``), written if absent.

    It is written beside its place and then renamed: readers see all of it or nothing, and of two processes that
    race the second finds the first one's.
    """
    directory = Path(os.environ.get("GPO_CACHE") or "~/.cache/gpo_lightning").expanduser() / name
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=own_folder(".drafts", str(directory.parent))))
    try:
        write(draft)
        draft.replace(directory)
    except OSError:
        if not directory.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return directory
