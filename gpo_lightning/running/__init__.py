"""What keeps a run going: its folder, its checkpoints, its random state, and what happens when it is stopped.

Nothing here knows what is learnt.
"""

from gpo_lightning.running.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.running.bad_steps import BadSteps
from gpo_lightning.running.checkpoint import Checkpoint, newest_checkpoint, read_checkpoint
from gpo_lightning.running.fit_loop import ResumableFitLoop
from gpo_lightning.running.kept_rollouts import KeptRollouts
from gpo_lightning.running.last_run import SPOOL, LastRun, find_last_run
from gpo_lightning.running.launcher import Launcher, started_by
from gpo_lightning.running.parts import Learnt, Parts, Whole, mean_metrics
from gpo_lightning.running.random_state import random_state, restore_random_state
from gpo_lightning.running.rank_states import rank_states, restore_rank_state
from gpo_lightning.running.ranks import gather, reduced
from gpo_lightning.running.run_directory import run_directory
from gpo_lightning.running.sharing import Dealt, Queued, sharing
from gpo_lightning.running.signals import EXIT_CODE, StopSignals
from gpo_lightning.running.strategy import check_origin, check_strategy
from gpo_lightning.running.watch import Watch

__all__ = [
    "EXIT_CODE",
    "SPOOL",
    "AtomicCheckpointIO",
    "BadSteps",
    "Checkpoint",
    "Dealt",
    "KeptRollouts",
    "LastRun",
    "Launcher",
    "Learnt",
    "Parts",
    "Queued",
    "ResumableFitLoop",
    "StopSignals",
    "Watch",
    "Whole",
    "check_origin",
    "check_strategy",
    "find_last_run",
    "gather",
    "mean_metrics",
    "newest_checkpoint",
    "random_state",
    "rank_states",
    "read_checkpoint",
    "reduced",
    "restore_random_state",
    "restore_rank_state",
    "run_directory",
    "sharing",
    "started_by",
]
