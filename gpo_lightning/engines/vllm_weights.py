"""How new weights reach vLLM: as an adapter where it can serve one, else folded into the base; and where they lie."""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpo_lightning.errors import ConfigError
from gpo_lightning.leftovers import own_folder
from gpo_lightning.policy.adapters import largest_rank, only_merged, unmergeable

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy, PolicyConfig

Sync = Literal["auto", "adapter", "merged"]
Form = Literal["adapter", "merged"]

_LOG = logging.getLogger(__name__)
_SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_MEMORY = Path("/dev/shm")
_VERSIONS = 2  # the one that is served is there while the next one is written


def choose_form(config: "PolicyConfig", sync: Sync) -> Form:
    """In which form weights travel. Nothing is loaded.

    Args:
        config: of the policy.
        sync: what the user asked for.

    Raises:
        ConfigError: they cannot travel so, or not at all.
    """
    lora = config.adapter_settings
    if lora is None:
        if sync == "adapter":
            raise ConfigError("data.engine.sync is adapter, but model.policy.lora is null. Set it to auto.")
        return "merged"
    if refused := unmergeable(lora):
        raise ConfigError(
            f"model.policy.lora.{refused[0]}: vLLM serves no such adapter, and it cannot be folded into the base "
            "weights. Leave it out, or choose `--data.engine gpo_lightning.engines.Transformers`."
        )
    if sync == "merged":
        return "merged"
    reasons = only_merged(config) + (["r"] if largest_rank(lora) > _SERVED_RANKS[-1] else [])
    if sync == "adapter":
        refuse_adapter(reasons)
    if reasons:
        _LOG.info("vLLM is given whole models, for it serves no adapter with %s.", ", ".join(reasons))
    return "merged" if reasons else "adapter"


def refuse_adapter(reasons: Sequence[str]) -> None:
    """Say what keeps vLLM from serving an adapter, if anything does.

    Raises:
        ConfigError: something does.
    """
    if reasons:
        raise ConfigError(
            f"model.policy.lora.{reasons[0]}: vLLM cannot serve this as an adapter"
            + (f" (nor {', '.join(reasons[1:])})" if reasons[1:] else "")
            + ". Leave it out, or choose `--data.engine gpo_lightning.engines.VLLM` with `sync: auto`, which hands "
            "over whole models."
        )


def served_rank(rank: int) -> int:
    """The smallest LoRA rank vLLM serves that holds ``rank``.

    >>> served_rank(12)
    16
    """
    for served in _SERVED_RANKS:
        if rank <= served:
            return served
    raise ConfigError(f"model.policy.lora.r is {rank}; vLLM serves ranks up to {_SERVED_RANKS[-1]}.")


def serves_adapters(architectures: Sequence[str]) -> bool:
    """Whether vLLM's own class for a model takes adapters; true where vLLM is left to say so itself."""
    from vllm.model_executor.models import ModelRegistry
    from vllm.model_executor.models.interfaces import supports_lora

    for name in architectures:
        entry: Any = ModelRegistry.models.get(name)
        if entry is not None:
            try:
                return bool(supports_lora(entry.load_model_cls()))
            except Exception:  # of a class that needs what is not installed; vLLM will say it better
                return True
    return True


class WeightFolders:
    """Folders for the versions of the weights: in memory if two versions fit there, else among temporary files."""

    def __init__(self) -> None:
        self._parent: Path | None = None
        self._known = False
        self._folder: Path | None = None

    def fresh(self, size: int) -> tuple[Path, Path | None]:
        """A new folder, and the one before it.

        Args:
            size: bytes that will be written.
        """
        if not self._known:
            self._parent, self._known = _roomy(size), True
        before = self._folder
        own = own_folder("gpo-weights", None if self._parent is None else str(self._parent))
        self._folder = Path(tempfile.mkdtemp(dir=own))
        return self._folder, before

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def weight_bytes(policy: "Policy", form: Form) -> int:
    """Size of one version of the weights."""
    weights = policy.trainable_state().values() if form == "adapter" else policy.causal_lm.parameters()
    # A quantised weight is written in the precision it is computed in.
    width = policy.config.torch_dtype.itemsize
    return sum(weight.numel() * max(weight.element_size(), width) for weight in weights)


def _roomy(size: int) -> Path | None:
    """Shared memory if it holds all versions there are at once; ``None`` for the usual place of temporary files."""
    if not os.access(_MEMORY, os.W_OK):
        return None
    free = shutil.disk_usage(_MEMORY).free
    if free >= _VERSIONS * size:
        return _MEMORY
    _LOG.warning(
        "%s has %.0f MB free, and two versions of the weights take %.0f MB: they are handed over in %s instead, which "
        "may be slower. In a container, --shm-size gives more.",
        *(_MEMORY, free / 1e6, _VERSIONS * size / 1e6, tempfile.gettempdir()),
    )
    return None
