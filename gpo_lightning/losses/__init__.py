"""What is minimised: one file a loss, each a pure function of per-token log-probabilities with frozen settings.

Losses see neither logits nor trees nor Lightning.
"""

from gpo_lightning.losses.apo import APODown, APOZero, APOZeroUnpaired
from gpo_lightning.losses.cispo import CISPO
from gpo_lightning.losses.cpo import CPO
from gpo_lightning.losses.dapo import DAPO
from gpo_lightning.losses.dpo import DPO
from gpo_lightning.losses.dr_grpo import DrGRPO
from gpo_lightning.losses.grpo import GRPO
from gpo_lightning.losses.gspo import GSPO
from gpo_lightning.losses.hinge_dpo import HingeDPO
from gpo_lightning.losses.ipo import IPO
from gpo_lightning.losses.kto import KTO
from gpo_lightning.losses.loss import Loss, LossTerms
from gpo_lightning.losses.orpo import ORPO
from gpo_lightning.losses.parts import (
    KL,
    ClippedWeight,
    FixedLengthMean,
    MaskedWeights,
    ResponseMean,
    ResponseSum,
    SequenceClip,
    TokenClip,
    TokenMean,
    TruncatedWeights,
)
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss
from gpo_lightning.losses.ppo import PPO
from gpo_lightning.losses.preference import PreferenceLoss, Side
from gpo_lightning.losses.raft import RAFT
from gpo_lightning.losses.reinforce_plus_plus import ReinforcePlusPlus, ReinforcePlusPlusBaseline
from gpo_lightning.losses.rloo import RLOO
from gpo_lightning.losses.robust_dpo import RobustDPO
from gpo_lightning.losses.sft import SFT
from gpo_lightning.losses.simpo import SimPO
from gpo_lightning.losses.vine_ppo import VinePPO

__all__ = [
    "CISPO",
    "CPO",
    "DAPO",
    "DPO",
    "GRPO",
    "GSPO",
    "IPO",
    "KL",
    "KTO",
    "ORPO",
    "PPO",
    "RAFT",
    "RLOO",
    "SFT",
    "APODown",
    "APOZero",
    "APOZeroUnpaired",
    "ClippedWeight",
    "DrGRPO",
    "FixedLengthMean",
    "HingeDPO",
    "Loss",
    "LossTerms",
    "MaskedWeights",
    "PolicyGradientLoss",
    "PreferenceLoss",
    "ReinforcePlusPlus",
    "ReinforcePlusPlusBaseline",
    "ResponseMean",
    "ResponseSum",
    "RobustDPO",
    "SequenceClip",
    "Side",
    "SimPO",
    "TokenClip",
    "TokenMean",
    "TruncatedWeights",
    "VinePPO",
]
