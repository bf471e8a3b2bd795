"""Lightning's launcher of local processes, with their watching left to us.

Lightning's own observer kills everything, the process it runs in included, without a word on the terminal.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed  # pyright: ignore[reportPrivateUsage]
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher  # pyright: ignore
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from typing_extensions import override

from gpo_lightning.loopback import on_loopback

_STARTED_BY = "GPO_STARTED_BY"
_FOLDER, _CHECKPOINT = "GPO_RUN_FOLDER", "GPO_RUN_CHECKPOINT"


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
            if self.num_nodes == 1:
                self._store = store_on_loopback(self.cluster_environment.main_port)
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)

    @property
    def first_rank(self) -> int:
        """Global rank of this process, which started those that follow."""
        return self.cluster_environment.node_rank() * self.num_processes


def hand_over(folder: Path, checkpoint: Path | None) -> None:
    """Tell the ranks that this process will start which run they work on, and where it goes on."""
    os.environ[_FOLDER], os.environ[_CHECKPOINT] = str(folder), str(checkpoint or "")


def handed_over() -> tuple[Path, Path | None] | None:
    """The run's folder and checkpoint, in a process that the first rank of this machine started."""
    if _FOLDER not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0":
        return None
    checkpoint = os.environ[_CHECKPOINT]
    return Path(os.environ[_FOLDER]), Path(checkpoint) if checkpoint else None


def take_back() -> None:
    """End what :func:`hand_over` began."""
    for name in (_FOLDER, _CHECKPOINT):
        os.environ.pop(name, None)


def store_on_loopback(port: int) -> TCPStore:
    """Where the ranks of one machine find each other, which torch would open to every network the machine is in.

    torch takes a server that listens on the port already for its own. Those for tensors are kept to loopback as well,
    unless the environment says otherwise.
    """
    os.environ.update(on_loopback())
    listener = socket.create_server(("127.0.0.1", port))
    return TCPStore(
        "127.0.0.1",
        listener.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listener.detach(),
    )


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
