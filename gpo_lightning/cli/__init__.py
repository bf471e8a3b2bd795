"""The command line: ``gpo new | configs | fit | validate | test | predict | explore | diagnose | report | export``.

What is asked, and whether it can work, is found out from source files, in a fraction of a second; only then are
Lightning and torch imported. ``GPOCLI`` is LightningCLI with the classes of this package.
"""

from typing import TYPE_CHECKING, Any

from gpo_lightning.cli.entry import main

if TYPE_CHECKING:
    from gpo_lightning.cli.gpo_cli import GPOCLI, WarmStart

__all__ = ["GPOCLI", "WarmStart", "main"]


def __getattr__(name: str) -> Any:
    """Import Lightning only for those who need it."""
    if name in ("GPOCLI", "WarmStart"):
        from gpo_lightning.cli import gpo_cli

        return getattr(gpo_cli, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
