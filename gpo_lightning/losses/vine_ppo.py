"""VinePPO: PPO's clip with Monte Carlo step values for a critic (Kazemnejad et al. 2024, arXiv 2410.01679).

    A_t = V(s_(k+1)) - V(s_k)                                          for every token t of step k
    l_t = -min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t)
    L   = 1/(sum_i T_i) sum (l_t + beta r_t k3_t)

V(s_k) is the share of right answers among the continuations of the prefix before step k, the trajectory itself left
out; after the last step it is the trajectory's own reward.

Reads `ValuedSteps`: the explored trajectories, whose values the probes of the same rollout tree tell. No value head.

**What differs elsewhere.**

* None of trl, verl and OpenRLHF has it, so only its surrogate is compared with theirs.
* The paper values every trajectory. Here only the explored ones are learnt from, because probes are dear.
* With `mixed_only` (the default) only groups with right and wrong answers are explored.
* Advantages are used as they are; they are not whitened.

**When to use it.** Where you pay for probes anyway and want their values in the gradient. Advantages of few probes
are noisy: with four probes most of a step's advantage may be chance, see [Critical
steps](../concepts/critical-steps.md#search-where-are-probes-spent).

**With resets.** It does not need them: every step is credited, not only what follows the critical one. Reset groups
are not read, so they are not drawn.
"""

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
