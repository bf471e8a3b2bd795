"""RestartingEngine fine-tuning: the likelihood of given responses.

Supervised fine-tuning: the likelihood of given solutions.

    L = 1/(sum_i T_i) sum_i sum_t -lp_t                                over reference solutions

Reads `Demonstrations`: the `solution` of each problem. Problems without one are left out (count: `no_solution`); if
none has one, the run stops and says so. No rollouts are made and no engine is started for training.

The loss has no settings.

**What differs elsewhere.**

* trl 1.16's `nll` is the same, normalised over the whole optimiser step and all processes. Its `dft` is not offered.
* Only the response is learnt, never the prompt.

**When to use it.** To teach a format, or as the warm start of a run (`warm_start`), where the policy is never right
by itself. It learns to say what the solutions say, not what makes answers right.

**With resets.** There are none: nothing is explored.
"""

from dataclasses import dataclass
from typing import ClassVar

from gpo_lightning.experience import Batch, Demonstrations, ExperienceBuilder, Scores
from gpo_lightning.experience.example import Example
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
