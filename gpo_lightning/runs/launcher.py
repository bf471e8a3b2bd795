"""Lightning's launcher of local processes, with their watching left to us.

Lightning's own observer kills everything, the process it runs in included, without a word on the terminal.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher  # pyright: ignore
from typing_extensions import override

_STARTED_BY = "GPO_STARTED_BY"


class Launcher(_SubprocessScriptLauncher):
    """Starts the other local ranks, and tells them who started them."""

    @classmethod
    def instead_of(cls, launcher: _SubprocessScriptLauncher) -> "Launcher":
        return cls(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)

    @override
    def launch(
        self, function: Callable[..., Any], *args: Any, trainer: "pl.Trainer | None" = None, **kwargs: Any
    ) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[_STARTED_BY] = str(os.getpid())
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    @property
    def first_rank(self) -> int:
        """Global rank of this process, which started those that follow."""
        return self.cluster_environment.node_rank() * self.num_processes


@dataclass(frozen=True)
class Starter:
    """The process that started this one as a rank, and without which this one has no business.

    Args:
        name: for people.
        pid: its id.
    """

    name: str
    pid: int

    @property
    def gone(self) -> bool:
        return os.getppid() != self.pid


def started_by() -> Starter | None:
    """Who started this process as a rank; ``None`` where a person or a scheduler did."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Starter("torchrun", os.getppid())
    if os.environ.get("LOCAL_RANK", "0") != "0" and _STARTED_BY in os.environ:
        return Starter("The first rank of this machine", int(os.environ[_STARTED_BY]))
    return None
