"""What keeps a run going: its folder, its checkpoints, its random state, and what happens when it is stopped.

Nothing here knows what is learnt.
"""

from gpo_lightning.runs.run_directory import run_directory

__all__ = [
    "run_directory",
]
