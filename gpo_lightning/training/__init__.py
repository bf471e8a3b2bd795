"""One optimiser step: score, loss, backward pass, the split of micro-batches on out-of-memory, bad steps.

Nothing here knows Lightning, rollouts or engines; the module drives it.
"""

from gpo_lightning.training.bad_steps import BadSteps
from gpo_lightning.training.batches import make_batches
from gpo_lightning.training.oom_split import NoSplit, OOMSplit, StepResult
from gpo_lightning.training.opaque_batch import OpaqueBatch
from gpo_lightning.training.schedule import Schedule
from gpo_lightning.training.scorer import Scorer
from gpo_lightning.training.step import TrainingStep

__all__ = [
    "BadSteps",
    "NoSplit",
    "OOMSplit",
    "OpaqueBatch",
    "Schedule",
    "Scorer",
    "StepResult",
    "TrainingStep",
    "make_batches",
]
