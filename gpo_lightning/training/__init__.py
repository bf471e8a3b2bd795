"""One optimiser step: score, loss, backward pass, the split of micro-batches on out-of-memory, bad steps.

Nothing here knows Lightning, rollouts or engines; the module drives it.
"""

from gpo_lightning.training.batches import make_batches
from gpo_lightning.training.opaque_batch import OpaqueBatch
from gpo_lightning.training.scorer import Scorer
from gpo_lightning.training.step import TrainingStep

__all__ = [
    "OpaqueBatch",
    "Scorer",
    "TrainingStep",
    "make_batches",
]
