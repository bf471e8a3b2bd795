"""The policy-gradient family: advantages from the experience, and four parts that every algorithm is a choice of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder, PolicyGradient, Scores
from gpo_lightning.experience.actions import ActionBatch, ActionExperience
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.schedule import ReduceSum
from gpo_lightning.losses.loss import Loss, LossTerms, masked_mean
from gpo_lightning.losses.parts import KL, Aggregation, ImportanceCorrection, ResponseMean, Surrogate, TokenClip


@dataclass(frozen=True)
class PolicyGradientLoss(Loss):
    """A surrogate of probability ratios and advantages, averaged, and a KL to the reference.

    The named algorithms are this class with other defaults; every combination may be given in YAML. The advantages
    are made by ``data.experience`` (its ``estimator``) or, where they need the policy, by :meth:`prepare`.

    Args:
        surrogate: ratio and clip.
        aggregation: from tokens to one number.
        kl: to the reference policy.
        importance_correction: of the mismatch between engine and trainer; ``null`` takes ratios against the engine's
            log-probabilities directly, which costs no extra pass.
    """

    surrogate: Surrogate = TokenClip()
    aggregation: Aggregation = ResponseMean()
    kl: KL = KL()
    importance_correction: ImportanceCorrection | None = None
    experience: ClassVar[type[ExperienceBuilder]] = ActionExperience
    reads_rollout_logprobs: ClassVar[bool] = True

    @classmethod
    def default_experience(cls) -> ExperienceBuilder:
        return PolicyGradient()

    @property
    def needs_reference(self) -> bool:
        return self.kl.beta > 0

    @property
    def prepares_with_scores(self) -> bool:
        return self.kl.in_reward

    @property
    def needs_old_logprobs(self) -> bool:
        return self.importance_correction is not None or self.prepares_with_scores

    @property
    def corrects_sampling(self) -> bool:
        return self.importance_correction is not None

    def weights(self, example: Example) -> tuple[float, ...]:
        return (self.aggregation.weight(example),)

    def prepare(self, batches: Sequence[Batch], builder: ExperienceBuilder, total: ReduceSum) -> Sequence[Batch]:
        """The KL that is taken from a response's reward changes its advantage, and its group's baseline."""
        if not self.kl.in_reward:
            return batches
        if not isinstance(builder, PolicyGradient):
            raise ConfigError(
                f"model.loss.kl.place is reward, but data.experience is {type(builder).__name__}, whose advantages "
                "are not made of a response's reward. Set model.loss.kl.place to loss."
            )
        actions = cast(Sequence[ActionBatch], batches)
        return builder.reestimate(actions, [batch.rewards - self.penalties(batch).sum(-1) for batch in actions])

    def penalties(self, batch: ActionBatch) -> Tensor:
        """``[R, T]`` what the KL takes from each token's reward; 0 outside the mask, and where it is in the loss."""
        if not self.kl.in_reward or batch.old_scores is None or batch.old_scores.reference is None:
            return batch.advantages * 0
        return (
            self.kl.beta
            * self.kl.estimate(batch.old_scores.logprobs, batch.old_scores.reference)
            * batch.rows.loss_mask
        )

    def token_rewards(self, batch: ActionBatch) -> Tensor:
        """``[R, T]`` a response's reward on its last action, less what the KL takes from each."""
        mask = batch.rows.loss_mask.to(batch.rewards.dtype)
        last = (mask.cumsum(-1) == mask.sum(-1, keepdim=True)) & (mask > 0)
        return last * batch.rewards[:, None] - self.penalties(batch)

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        batch = cast(ActionBatch, batch)
        mask, engine = batch.rows.loss_mask, batch.rows.rollout_logprobs.to(scores.logprobs.dtype)
        advantages = batch.advantages.to(scores.logprobs.dtype)
        # Before the first step of an iteration, the policy is the one it began with.
        begun = scores.logprobs.detach() if batch.old_scores is None else batch.old_scores.logprobs
        trainer = begun.to(scores.logprobs.dtype)
        old = engine if self.importance_correction is None else trainer
        ratio = self.surrogate.ratio(scores.logprobs, old, mask)
        losses = self.surrogate.losses(ratio, scores.logprobs, advantages)
        drift = scores.logprobs.detach() - engine
        metrics = self.surrogate.metrics(ratio, advantages, mask) | {
            "rollout_kl": masked_mean(drift.expm1() - drift, mask),
            "advantage_size": masked_mean(advantages.abs(), mask),
        }
        if self.importance_correction is not None:
            losses = losses * self.importance_correction.weights(trainer, engine, mask)
            metrics |= self.importance_correction.statistics(trainer, engine, mask)
        if scores.reference is not None:
            divergence = self.kl.estimate(scores.logprobs, scores.reference)
            metrics["reference_kl"] = masked_mean(divergence.detach(), mask)
            if self.kl.in_loss:
                losses = losses + self.kl.beta * divergence * (ratio if self.kl.weighted else 1.0)
        return LossTerms((self.aggregation.sum(losses, mask),), metrics)


def with_advantages(batches: Sequence[ActionBatch], advantages: Sequence[Tensor]) -> list[ActionBatch]:
    """The same batches with other advantages."""
    return [replace(batch, advantages=made) for batch, made in zip(batches, advantages, strict=True)]
