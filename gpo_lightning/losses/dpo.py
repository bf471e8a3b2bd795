"""DPO: the policy's own log-ratio as an implicit reward (Rafailov et al. 2023, arXiv 2305.18290)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from gpo_lightning.losses.preference import PreferenceLoss, Side, require_positive_beta, require_smoothing


def dpo_loss(margins: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-(1 - e) log sigmoid(beta margin) - e log sigmoid(-beta margin), per pair; e > 0 is the conservative form.

    Args:
        margins: ``[P]`` (log pi - log ref) of the chosen response less that of the rejected one.
        beta: inverse temperature of the implicit reward.
        label_smoothing: chance e that a label is flipped.
    """
    logits = beta * margins
    return -(1 - label_smoothing) * logsigmoid(logits) - label_smoothing * logsigmoid(-logits)


@dataclass(frozen=True)
class ReferencedPreferenceLoss(PreferenceLoss):
    """A loss of log-ratios to the reference policy.

    Args:
        beta: inverse temperature of the implicit reward.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        require_positive_beta(self, self.beta)

    @property
    def needs_reference(self) -> bool:
        return True

    def pair_rewards(self, side: Side) -> Tensor:
        return self.beta * side.drift


@dataclass(frozen=True)
class DPO(ReferencedPreferenceLoss):
    """Sigmoid loss on summed log-probabilities, as trl 1.16's ``sigmoid``; with ``label_smoothing``, cDPO.

    On pairs that share a critical prefix the prefix cancels, and the loss is equivalent to advantage-weighted
    reinforcement learning (GPO, theorem 5.3). trl 1.16 ignores label smoothing here; this is the form of
    Mitchell 2023 and of OpenRLHF.

    Args:
        beta: inverse temperature of the implicit reward.
        label_smoothing: chance that a label is flipped.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_positive_beta(self, self.beta)
        require_smoothing(self, self.label_smoothing)

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        return dpo_loss(chosen.drift - rejected.drift, self.beta, self.label_smoothing)
