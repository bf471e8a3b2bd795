"""The choice behind ``engine: auto``."""

from importlib.util import find_spec

import torch

from gpo_lightning.engines.engine import Engine
from gpo_lightning.engines.transformers import Transformers
from gpo_lightning.engines.vllm import VLLM


def choose_engine() -> Engine:
    """vLLM where there is a CUDA device and vLLM is installed, else the trainer's own weights through transformers.

    On a CPU the transformers engine is the faster of the two for the models one trains there, and starts at once
    (``benchmarks/rollouts.py`` compares them).
    """
    return VLLM() if torch.cuda.is_available() and find_spec("vllm") is not None else Transformers()
