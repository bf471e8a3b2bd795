"""GRPO: the clipped surrogate with group-relative advantages (Shao et al. 2024, arXiv 2402.03300)."""

from dataclasses import dataclass

from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


@dataclass(frozen=True)
class GRPO(PolicyGradientLoss):
    """Mean over responses of each response's token mean, as trl 1.16's ``loss_type="grpo"``.

    Advantages in units of the group's standard deviation; a group whose rewards are all equal has none.

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number.
        kl: to the reference policy; the paper adds k3 with ``beta`` 0.04, trl's default is none.
        importance_correction: of the mismatch between engine and trainer.
    """
