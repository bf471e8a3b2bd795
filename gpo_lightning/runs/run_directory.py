"""The folder a run writes to."""

from pathlib import Path

from lightning import Trainer


def run_directory(trainer: Trainer) -> Path:
    """The run's own folder, whatever the logger. Every rank must call it."""
    return Path(trainer.log_dir or trainer.default_root_dir)
