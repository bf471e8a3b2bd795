"""What is trained: base model, LoRA adapter, quantisation, per-token log-probabilities.

Nothing here knows rewards, losses or Lightning.
"""

from gpo_lightning.policy.config import PolicyConfig
from gpo_lightning.policy.policy import Policy

__all__ = ["Policy", "PolicyConfig"]
