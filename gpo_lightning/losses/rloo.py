"""RLOO: REINFORCE with the other responses as baseline (Ahmadian et al. 2024, arXiv 2402.14740)."""

from dataclasses import dataclass

from gpo_lightning.experience import ExperienceBuilder, PolicyGradient
from gpo_lightning.experience.advantages import LeaveOneOut
from gpo_lightning.losses.parts import KL, SequenceClip, Surrogate
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class RLOO(PolicyGradientLoss):
    """The response is one action: one ratio, one clip, its summed KL taken from its reward (trl 1.16's RLOOTrainer).

    Args:
        surrogate: ratio of the response's probabilities, and clip.
        aggregation: from tokens to one number; the loss of a response's tokens is the same for all of them.
        kl: to the reference policy, by default in the reward.
        importance_correction: of the mismatch between engine and trainer.
    """

    surrogate: Surrogate = SequenceClip(ratio_of="sum")
    kl: KL = KL(beta=0.05, estimator="k1", place="reward")

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        # With a KL in the reward, responses of equal outcome differ.
        return PolicyGradient(estimator=LeaveOneOut(), keep_uniform=True)
