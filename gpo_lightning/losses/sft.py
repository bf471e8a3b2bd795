"""RestartingEngine fine-tuning: the likelihood of given responses."""

from dataclasses import dataclass
from typing import ClassVar

from gpo_lightning.experience import Batch, Demonstrations, Example, ExperienceBuilder, Scores
from gpo_lightning.losses.loss import Loss, LossTerms, masked_mean


@dataclass(frozen=True)
class SFT(Loss):
    """Negative log-likelihood, averaged over the tokens of the whole optimiser step (trl 1.16's ``nll``)."""

    experience: ClassVar[type[ExperienceBuilder]] = Demonstrations

    def weights(self, example: Example) -> tuple[float, ...]:
        return (float(example.tokens),)

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        mask = batch.rows.loss_mask
        return LossTerms(
            (-(scores.logprobs * mask).sum(),),
            {"token_probability": masked_mean(scores.logprobs.detach().exp(), mask)},
        )
