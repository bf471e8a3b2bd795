"""The state of every library's random numbers, as tensors and primitives, which ``weights_only=True`` loads."""

import random
from typing import Any, cast

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """This process's."""
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
