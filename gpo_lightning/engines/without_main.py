"""Processes that start without running the user's script again."""

import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def without_main() -> Generator[None]:
    """Have ``multiprocessing`` spawn processes that do not import the main module.

    A spawned process first imports the script that started its parent. A script without
    ``if __name__ == "__main__":`` would then train again in every process of the engine, which needs nothing of it.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(hidden)
