"""Who generates tokens: vLLM in its own process or behind a URL, transformers in ours, or a script of known values.

Engines take and give token ids. Text, rewards and trees are never seen here.
"""

from gpo_lightning.engines.engine import Capabilities, Completion, Engine, Ledger, Request
from gpo_lightning.engines.journaled import JournaledEngine
from gpo_lightning.engines.restarting import Recovery, RestartingEngine
from gpo_lightning.engines.sampling import Purpose, Sampling
from gpo_lightning.engines.scripted import Scripted
from gpo_lightning.engines.transformers import Transformers
from gpo_lightning.engines.vllm import VLLM
from gpo_lightning.engines.vllm_server import VLLMServer

__all__ = [
    "VLLM",
    "Capabilities",
    "Completion",
    "Engine",
    "JournaledEngine",
    "Ledger",
    "Purpose",
    "Recovery",
    "Request",
    "RestartingEngine",
    "Sampling",
    "Scripted",
    "Transformers",
    "VLLMServer",
]
