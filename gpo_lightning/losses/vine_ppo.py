"""VinePPO: PPO's clip with Monte Carlo step values for a critic (Kazemnejad et al. 2024, arXiv 2410.01679)."""

from dataclasses import dataclass

from gpo_lightning.experience import ExperienceBuilder, ValuedSteps
from gpo_lightning.losses.parts import Aggregation, TokenMean
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class VinePPO(PolicyGradientLoss):
    """Each token's advantage is that of its step, V(s_{t+1}) - V(s_t), from the probes in the same rollout tree.

    Which trajectories are valued, and by how many probes, is for ``data.plan`` and ``data.search`` to say.

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer.
    """

    aggregation: Aggregation = TokenMean()

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        return ValuedSteps()
