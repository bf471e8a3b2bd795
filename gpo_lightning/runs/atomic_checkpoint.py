"""Checkpoints that are whole or absent.

Lightning writes to the system's temporary folder and moves the file: a copy, and so torn by a kill, wherever that
folder is on another disk.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.fabric.utilities.types import _PATH  # pyright: ignore[reportPrivateUsage]
from typing_extensions import override

from gpo_lightning.errors import StorageError
from gpo_lightning.runs.checkpoint import load_checkpoint
from gpo_lightning.runs.checksum import is_sealed, seal

_PARTIAL = ".partial"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, forces it to the disk, then renames it. Remote paths are left to Lightning."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        if not _is_local(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        partial = target.with_name(f".{target.name}{_PARTIAL}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w+b") as file:
                torch.save(checkpoint, file)
                seal(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _force_folder(target.parent)
        except (OSError, RuntimeError) as error:
            # torch says RuntimeError where the disk is full.
            partial.unlink(missing_ok=True)
            raise StorageError(
                f"{target}: the checkpoint cannot be written: {error}. The one before it, and the finished rollouts, "
                "are safe. Make room, then go on with --ckpt_path last."
            ) from error

    @override
    def load_checkpoint(
        self, path: _PATH, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        if not _is_local(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        return dict(load_checkpoint(Path(path)))

    @override
    def remove_checkpoint(self, path: _PATH) -> None:
        """Remove a file that was written here, whatever Lightning was told; folders and other files stay."""
        if not _is_local(path):
            super().remove_checkpoint(path)
        elif Path(path).is_file() and not Path(path).is_symlink() and is_sealed(Path(path)):
            Path(path).unlink()


def _is_local(path: _PATH) -> bool:
    return type(get_filesystem(path)).__name__ == "LocalFileSystem"


def _force_folder(folder: Path) -> None:
    """Make the new name outlive a machine that stops."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
