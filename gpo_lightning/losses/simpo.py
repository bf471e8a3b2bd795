"""SimPO: the mean log-probability as reward, a margin, and no reference (Meng et al. 2024, arXiv 2405.14734).

Preference learning without a reference: the mean log-probability of a response is its reward.

    c, w = mean_t lp_t of the chosen, of the rejected
    l    = -log sigmoid(beta (c - w) - gamma)
    L    = 1/P sum l

Reads `PreferencePairs`; no reference policy.

**What differs elsewhere.**

* trl's is CPOTrainer with `loss_type="simpo"` and `cpo_alpha=0`. Its default `cpo_alpha` of 1 adds a likelihood term:
  not offered here.
* trl's default `beta` is 0.1; the paper takes 2 and more, and so do we. `gamma` stands outside of `beta` in both.
* trl's label smoothing of SimPO is not offered.

**When to use it.** Where memory or time for a reference is lacking, or `model.policy.lora` is null. Nothing holds the
policy near where it began, so use a small learning rate and watch `train/chosen_logprob`.

**With resets.** The shared prefix does not cancel: in a mean over all tokens it would dilute the difference that the
continuations make. It carries no loss by default; `data.experience.prefix_loss: true` gives the paper's whole
responses.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from gpo_lightning.errors import ConfigError
from gpo_lightning.losses.preference import PreferenceLoss, Side, require_positive_beta


@dataclass(frozen=True)
class SimPO(PreferenceLoss):
    """-log sigmoid(beta (chosen - rejected) - gamma) on length means (trl 1.16's ``simpo`` with ``cpo_alpha=0``).

    The shared prefix of a pair does not cancel here; it carries no loss unless ``data.experience`` asks for it.

    Args:
        beta: scale of the reward; the paper takes 2 and more, trl 0.1.
        gamma: margin that the chosen response should win by.
    """

    beta: float = 2.0
    gamma: float = 0.5

    def __post_init__(self) -> None:
        require_positive_beta(self, self.beta)
        if not 0 <= self.gamma < float("inf"):
            raise ConfigError(f"model.loss (SimPO): gamma is {self.gamma}; a margin must not be negative.")

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        return -logsigmoid(self.beta * (chosen.mean_logprobs - rejected.mean_logprobs) - self.gamma)

    def pair_rewards(self, side: Side) -> Tensor:
        return self.beta * side.mean_logprobs
