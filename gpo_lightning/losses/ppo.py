"""PPO with a value head: clipped surrogate, GAE, clipped value loss (Schulman et al. 2017, arXiv 1707.06347).

    R'_t    = [t is last] R - beta (lp0_t - ref_t)
    delta_t = R'_t + gamma V0_(t+1) - V0_t                             V0 as the iteration began; 0 after the last token
    A_t     = delta_t + gamma lam A_(t+1)
    G_t     = A_t + V0_t
    A'_t    = (A_t - mean) / sqrt(variance + 1e-8)                     over all tokens of the iteration, all processes
    l_t     = -min(r_t A'_t, clip(r_t, 1 - low, 1 + high) A'_t)
    v_t     = 1/2 max((V_t - G_t)^2, (clip(V_t, V0_t - value_clip, V0_t + value_clip) - G_t)^2)
    L       = 1/(sum_i T_i) sum (l_t + value_weight v_t)

Reads `PolicyGradient` responses (their rewards; groups are not compared), the reference policy, and a value head on
the policy's last hidden state, which is trained with it and starts at 0. One extra pass an iteration.

**What differs elsewhere.**

* The defaults are those of trl's PPOTrainer, which stood inside its training loop and cannot be called; the parts are
  compared with verl and OpenRLHF (surrogate, value loss) and verl (GAE, whitening).
* trl learns four epochs from one batch of rollouts. Here an iteration passes over it once; with `data.refresh_every`
  above 1 the rollouts are kept, and scored anew each iteration.
* verl has a dual clip of 3: `surrogate.dual: 3`.
* trl and verl keep a separate value model; here it is a head on the policy.

**When to use it.** Where advantages should differ from token to token and probes are too dear. The value head must be
learnt first, so early advantages are little more than the whitened rewards. With a reward at the end alone, group
baselines are simpler.

**With resets.** The value before the first new token is the value of the prefix, so a good prefix is not taken for a
good continuation, once the head has learnt it. GAE runs over the new tokens alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder, PolicyGradient, Scores
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.experience.advantages import NoBaseline, generalised_advantages, whiten
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.schedule import ReduceSum
from gpo_lightning.losses.loss import LossTerms, masked_mean
from gpo_lightning.losses.parts import KL, Aggregation, TokenMean
from gpo_lightning.losses.policy_gradient import PolicyGradientLoss


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half of max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2), per token.

    Args:
        values: ``[R, T]`` with gradient.
        old: ``[R, T]`` as the iteration began.
        returns: ``[R, T]``.
        clip: how far a value may move; ``None`` for as far as it likes.
    """
    squares = (values - returns) ** 2
    if clip is not None:
        near = torch.minimum(torch.maximum(values, old - clip), old + clip)
        squares = torch.maximum(squares, (near - returns) ** 2)
    return squares / 2


@dataclass(frozen=True)
class PPO(PolicyGradientLoss):
    """Advantages by GAE over a value head, whitened over the iteration, as trl's PPOTrainer and verl.

    The value head stands on the policy's own last hidden state and is trained with it. Rewards come on the last
    token, the KL on every one.

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number, of both terms.
        kl: to the reference policy, by default in the reward of each token.
        importance_correction: of the mismatch between engine and trainer.
        gamma: discount a token.
        lam: GAE's lambda.
        value_clip: how far a value may move in an iteration; ``null`` for as far as it likes.
        value_weight: of the value loss.
    """

    aggregation: Aggregation = TokenMean()
    kl: KL = KL(beta=0.05, estimator="k1", place="reward")
    gamma: float = 1.0
    lam: float = 0.95
    value_clip: float | None = 0.2
    value_weight: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1 or not 0 <= self.lam <= 1:
            raise ConfigError(
                f"model.loss (PPO): gamma is {self.gamma} and lam {self.lam}; they must lie in (0, 1] and [0, 1]."
            )
        if self.value_weight <= 0 or (self.value_clip is not None and self.value_clip <= 0):
            raise ConfigError(
                f"model.loss (PPO): value_weight is {self.value_weight} and value_clip {self.value_clip}; both must "
                "be positive (value_clip may be null)."
            )

    experience: ClassVar[type[ExperienceBuilder]] = PolicyGradient

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        return PolicyGradient(estimator=NoBaseline())

    @property
    def needs_values(self) -> bool:
        return True

    @property
    def prepares_with_scores(self) -> bool:
        return True

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        actions = cast(Sequence[ActionBatch], batches)
        made = [self._advantages(batch) for batch in actions]
        white = whiten([advantages for advantages, _ in made], [batch.rows.loss_mask for batch in actions], total)
        return [
            replace(batch, advantages=advantages, returns=returns)
            for batch, advantages, (_, returns) in zip(actions, white, made, strict=True)
        ]

    def _advantages(self, batch: ActionBatch) -> tuple[Tensor, Tensor]:
        rewards = self.token_rewards(batch)
        values = cast(Tensor, cast(Scores, batch.old_scores).values).to(rewards.dtype)
        return generalised_advantages(rewards, values, batch.rows.loss_mask, self.gamma, self.lam)

    def weights(self, example: Example) -> tuple[float, ...]:
        return (self.aggregation.weight(example),) * 2

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        batch = cast(ActionBatch, batch)
        old = batch.old_scores
        if scores.values is None or batch.returns is None or old is None or old.values is None:
            raise ConfigError("model.loss (PPO) reads a value head, and returns made with it (PPO.prepare).")
        terms = super().__call__(scores, batch)
        mask, dtype = batch.rows.loss_mask, scores.values.dtype
        returns = batch.returns.to(dtype)
        losses = value_loss(scores.values, old.values.to(dtype), returns, self.value_clip)
        left = (returns - scores.values.detach()) ** 2
        metrics = {"value_loss": masked_mean(left, mask), "return": masked_mean(returns, mask)}
        return LossTerms((*terms.sums, self.value_weight * self.aggregation.sum(losses, mask)), terms.metrics | metrics)
