"""What is minimised: one file a loss, each a pure function of per-token log-probabilities with frozen settings.

Losses see neither logits nor trees nor Lightning.
"""

from gpo_lightning.losses.dpo import DPO
from gpo_lightning.losses.grpo import GRPO
from gpo_lightning.losses.loss import Loss, LossTerms, Scores
from gpo_lightning.losses.sft import SFT

__all__ = ["DPO", "GRPO", "SFT", "Loss", "LossTerms", "Scores"]
