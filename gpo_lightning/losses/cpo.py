"""CPO: DPO without a reference, held to the chosen responses by their likelihood (Xu et al. 2024, arXiv 2401.08417).

DPO without a reference, held to the chosen responses by their likelihood.

    D   = sum_t lp_t of the chosen - sum_t lp_t of the rejected
    l   = -(1 - e) log sigmoid(beta D) - e log sigmoid(-beta D)        e = label_smoothing
    NLL = mean of -lp over all tokens of all chosen responses
    L   = 1/P sum l + alpha NLL

Reads `PreferencePairs`; no reference policy.

**What differs elsewhere.**

* We follow trl 1.16's CPOTrainer (`cpo_alpha` is `alpha`). Its other losses, `hinge` and `ipo`, are not offered; for
  `simpo` see [SimPO](simpo.md).
* The NLL is a mean over the tokens of the whole optimiser step, trl's one over the micro-batch.

**When to use it.** Where there is no reference, and the likelihood of right responses should not fall. Summed
log-probabilities grow with length, so pairs of unequal length are partly told apart by it.

**With resets.** The shared prefix cancels in D and not in the NLL. It carries no loss by default; with
`data.experience.prefix_loss: true` the likelihood imitates it too.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, Scores
from gpo_lightning.experience.example import Example
from gpo_lightning.losses.dpo import dpo_loss
from gpo_lightning.losses.loss import LossTerms
from gpo_lightning.losses.preference import PreferenceLoss, Side, require_positive_beta, require_smoothing


@dataclass(frozen=True)
class CPO(PreferenceLoss):
    """-log sigmoid(beta (chosen - rejected)) + alpha NLL(chosen), the NLL a mean over tokens (trl 1.16's CPOTrainer).

    Args:
        beta: inverse temperature of the implicit reward.
        label_smoothing: chance that a label is flipped.
        alpha: weight of the chosen responses' negative log-likelihood.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        require_positive_beta(self, self.beta)
        require_smoothing(self, self.label_smoothing)
        if not 0 <= self.alpha < float("inf"):
            raise ConfigError(f"model.loss (CPO): alpha is {self.alpha}; it must not be negative.")

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        return dpo_loss(chosen.logprobs - rejected.logprobs, self.beta, self.label_smoothing)

    def pair_rewards(self, side: Side) -> Tensor:
        return self.beta * side.logprobs

    def weights(self, example: Example) -> tuple[float, ...]:
        chosen, _ = example.rows
        return (1.0, float(len(chosen.actions)))

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        terms = super().__call__(scores, batch)
        likelihood = self.sides(scores, batch)[0].logprobs.sum()
        return replace(terms, sums=(*terms.sums, -self.alpha * likelihood))
