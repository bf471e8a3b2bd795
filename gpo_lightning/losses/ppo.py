"""PPO with a value head: clipped surrogate, GAE, clipped value loss (Schulman et al. 2017, arXiv 1707.06347)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import ActionBatch, Batch, Example, ExperienceBuilder, PolicyGradient, ReduceSum, Scores
from gpo_lightning.experience.advantages import NoBaseline, generalised_advantages, whiten
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
    def needs_old_logprobs(self) -> bool:
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
