"""Critical-step learning for reasoning language models, on PyTorch Lightning (GPO, arXiv 2509.16456)."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpo_lightning.cli import GPOCLI
    from gpo_lightning.datamodule import RolloutDataModule
    from gpo_lightning.module import GPOModule
    from gpo_lightning.trainer import GPOTrainer

__version__ = "0.1.0"
__all__ = ["GPOCLI", "GPOModule", "GPOTrainer", "RolloutDataModule", "__version__"]

_HOMES = {"GPOCLI": "cli", "GPOModule": "module", "GPOTrainer": "trainer", "RolloutDataModule": "datamodule"}

# On some processors bitsandbytes recommends another package whenever it is imported, be it needed or not.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """Import Lightning only for those who need it: losses, trees and search work without."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
