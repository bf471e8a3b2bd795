"""DPO: the policy's own log-ratio as an implicit reward (Rafailov et al. 2023, arXiv 2305.18290).

Learns from pairs without a reward model: the policy's own log-ratio to the reference is the reward.

    D = sum_t (lp_t - ref_t) of the chosen - sum_t (lp_t - ref_t) of the rejected
    l = -(1 - e) log sigmoid(beta D) - e log sigmoid(-beta D)          e = label_smoothing
    L = 1/P sum l

Reads `PreferencePairs`: a right and a wrong response from the same start state, and the reference policy.

**What differs elsewhere.**

* trl 1.16's `sigmoid` and OpenRLHF's DPOLoss agree with this in value and gradient.
* trl 1.16 ignores `label_smoothing` here; OpenRLHF does not. We follow OpenRLHF.

**cDPO.** Conservative DPO (Mitchell 2023) is the same class with `label_smoothing` above 0: for graders that err. The
loss of a pair then has its minimum at a finite margin. `robust_dpo.yaml` is the [unbiased form](robust_dpo.md).

**Step-DPO.** Step-DPO ([arXiv 2406.18629](https://arxiv.org/abs/2406.18629), as secondary notes give it) pairs a
right and a wrong next step behind a common prefix. A reset pair has the same form, with whole continuations in the
place of single steps. `step_dpo.yaml` learns from critical prefixes alone (`starts: [critical]`) and resets every
mixed problem.

**When to use it.** Where rollouts are dear and are to be learnt from more than once (`data.refresh_every`,
`data.saved`). It needs both outcomes behind a prefix; `data.plan.reset_rounds` above 1 goes on drawing for them. The
log-probability of the chosen response may fall too, so watch `train/chosen_logprob`.

**With resets.** The shared prefix cancels in D, so `prefix_loss` changes nothing but rounding. On such pairs GPO's
theorem 5.3 applies, see [Losses](index.md#what-gpo-does-to-a-loss).
"""

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
