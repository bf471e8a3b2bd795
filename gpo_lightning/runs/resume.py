"""Which run ``--ckpt_path last`` and ``--run`` go on with, and from which checkpoint.

``last`` means the latest run of *this* configuration that has not ended by itself. There must be one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.checkpoint import Checkpoint, newest_checkpoint
from gpo_lightning.runs.identity import check_same, differences
from gpo_lightning.runs.run import CHECKPOINTS, IDENTITY, Run, numbered

JOURNAL = "journal"


@dataclass(frozen=True)
class Resumption:
    """A run to go on with.

    Args:
        run: it.
        checkpoint: to go on from; ``None`` where there is none yet.
        complaints: why newer checkpoints were passed over.
    """

    run: Run
    checkpoint: Checkpoint | None
    complaints: tuple[str, ...]


def resumption(run: Run, elsewhere: Iterable[Path] = ()) -> Resumption:
    """Where a run goes on from.

    Args:
        run: it.
        elsewhere: folders besides its own in which its checkpoints may lie.
    """
    folders = [run.folder / CHECKPOINTS, *elsewhere]
    checkpoint, complaints = newest_checkpoint(folders, run.identity.id)
    return Resumption(run, checkpoint, tuple(complaints))


def find_last(root: Path, config: Mapping[str, Any], meant: Sequence[str], unfinished: Callable[[int], bool]) -> Run:
    """The latest run under ``root`` with this configuration that has something left to do.

    Args:
        root: folder of the runs' folders, or the folder of a run.
        config: what is to go on.
        meant: keys in which it may differ.
        unfinished: whether a run that ended after so many iterations has more to do now.

    Raises:
        ConfigError: there is none; where there is one of another configuration, the message says what differs.
    """
    runs = _runs(root)
    left = [run for run in runs if run.finished is None or unfinished(run.finished)]
    if not left:
        ended = f": {runs[0].folder} and all before it ended by themselves" if runs else ""
        raise ConfigError(
            f"--ckpt_path last: there is no run under {root} to go on with{ended}. Without --ckpt_path a new one "
            "begins."
        )
    for run in left:
        if not differences(run.identity.config, config, meant=meant):
            return run
    check_same(left[0].folder, left[0].identity.config, config, meant)
    raise AssertionError


def find_job(root: Path, job: str, config: Mapping[str, Any], meant: Sequence[str]) -> Run | None:
    """The run that a scheduler's job made before it was started again; ``None`` where it had not come so far.

    Raises:
        ConfigError: it was made with another configuration.
    """
    own = [run for run in _runs(root) if run.identity.job == job and run.finished is None]
    for run in own:
        if not differences(run.identity.config, config, meant=meant):
            return run
    for run in own:
        check_same(run.folder, run.identity.config, config, meant)
    return None


def _runs(root: Path) -> list[Run]:
    folders = [root] if (root / IDENTITY).exists() else [folder for folder, _ in numbered(root)]
    found: list[Run] = []
    for folder in folders:
        with suppress(ConfigError):  # one that cannot be known does not stand in the way of the others
            found.append(Run.read(folder))
    return found
