"""The choice behind ``engine: auto``."""

from importlib.util import find_spec

from gpo_lightning.engines.engine import Engine
from gpo_lightning.engines.transformers import Transformers
from gpo_lightning.engines.vllm import VLLM


def choose_engine() -> Engine:
    """vLLM where it is installed, else the trainer's own weights through transformers."""
    return VLLM() if find_spec("vllm") is not None else Transformers()
