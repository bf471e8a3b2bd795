"""What keeps a run going: its folder, its checkpoints, its random state, and what happens when it is stopped.

Nothing here knows what is learnt.
"""

from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.runs.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint, read_checkpoint
from gpo_lightning.runs.file_names import file_name
from gpo_lightning.runs.fit_loop import ResumableFitLoop
from gpo_lightning.runs.kept_rollouts import KeptRollouts
from gpo_lightning.runs.launcher import Launcher, started_by
from gpo_lightning.runs.random_state import random_state, restore_random_state
from gpo_lightning.runs.rank_states import rank_states, restore_rank_state
from gpo_lightning.runs.ranks import reduced
from gpo_lightning.runs.resume import CHECKPOINTS, JOURNAL, Resumption, find_job, find_last, resumption
from gpo_lightning.runs.run import Run
from gpo_lightning.runs.run_directory import run_directory
from gpo_lightning.runs.settings import settle
from gpo_lightning.runs.signals import EXIT_CODE, StopSignals
from gpo_lightning.runs.strategy import check_origin, check_strategy
from gpo_lightning.runs.watch import Watch

__all__ = [
    "CHECKPOINTS",
    "EXIT_CODE",
    "JOURNAL",
    "AtomicCheckpointIO",
    "Checkpoint",
    "KeptRollouts",
    "Launcher",
    "ResumableFitLoop",
    "Resumption",
    "Run",
    "StopSignals",
    "Watch",
    "check_origin",
    "check_strategy",
    "file_name",
    "find_job",
    "find_last",
    "load_checkpoint",
    "newest_checkpoint",
    "random_state",
    "rank_states",
    "read_checkpoint",
    "reduced",
    "restore_random_state",
    "restore_rank_state",
    "resumption",
    "run_directory",
    "settle",
    "started_by",
]
