"""SimPO: the mean log-probability as reward, a margin, and no reference (Meng et al. 2024, arXiv 2405.14734)."""

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
