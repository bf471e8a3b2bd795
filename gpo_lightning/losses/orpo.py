"""ORPO: imitation of the chosen response and an odds ratio, in one go (Hong et al. 2024, arXiv 2403.07691).

Imitation of the chosen response and an odds ratio against the rejected one, in one go, without a reference.

    c, w    = mean_t lp_t of the chosen, of the rejected
    odds(x) = x - log(1 - exp(x))                                      x at most -eps of its type, so that it is finite
    L       = 1/P sum -beta log sigmoid(odds(c) - odds(w)) + NLL

    likelihood: response             NLL = 1/P sum -c
    likelihood: prompt_and_response  NLL = mean of -lp over all tokens of prompt and chosen response but the first

Reads `PreferencePairs`; no reference policy.

**What differs elsewhere.**

* The paper and LLaMA-Factory imitate the response alone, each pair's token mean. We follow them.
* trl 1.16 imitates prompt and response, a mean over the batch's tokens: `likelihood: prompt_and_response`.
* trl computes the odds ratio in float32; here it has the type of the log-probabilities.

**When to use it.** Where one stage should both teach the form and prefer right answers. The chosen responses are the
policy's own, so what is imitated is what it can say already; where it can say nothing right yet, begin with
[SFT](sft.md).

**With resets.** The shared prefix does not cancel. It is masked by default (`data.experience.prefix_loss`). With
`prompt_and_response` prompt *and* kept prefix are imitated, whatever `prefix_loss` says.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gpo_lightning.experience import Batch, Scores
from gpo_lightning.experience.example import Example
from gpo_lightning.losses.loss import LossTerms
from gpo_lightning.losses.preference import PreferenceLoss, Side, require_positive_beta


def log_odds(mean_logprobs: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(mean log-probability); a p of 1 is taken as the float below."""
    below = mean_logprobs.clamp(max=-torch.finfo(mean_logprobs.dtype).eps)
    return below - torch.log(-torch.expm1(below))


@dataclass(frozen=True)
class ORPO(PreferenceLoss):
    """NLL(chosen) - beta log sigmoid(log odds ratio), without a reference.

    References differ in the NLL. The paper and LLaMA-Factory take the response alone, each pair's token mean; trl 1.16
    takes prompt and response, the mean over the batch's tokens. We follow the paper, because the state of a reset is
    no action to be imitated, and offer trl's.

    Args:
        beta: weight of the odds ratio (the paper's lambda).
        likelihood: what is imitated: the ``response``, or ``prompt_and_response`` as trl has it.
    """

    beta: float = 0.1
    likelihood: Literal["response", "prompt_and_response"] = "response"

    def __post_init__(self) -> None:
        require_positive_beta(self, self.beta)

    @property
    def reads_context(self) -> bool:
        return self.likelihood == "prompt_and_response"

    def pair_losses(self, chosen: Side, rejected: Side) -> Tensor:
        return -self.beta * logsigmoid(log_odds(chosen.mean_logprobs) - log_odds(rejected.mean_logprobs))

    def pair_rewards(self, side: Side) -> Tensor:
        return self.beta * side.mean_logprobs

    def weights(self, example: Example) -> tuple[float, ...]:
        if not self.reads_context:
            return (1.0, 1.0)
        chosen, _ = example.rows
        # The first token is predicted by nothing. A pair that only pads a batch has no loss, and so no weight.
        return (1.0, float(len(chosen) - 1) if chosen.actions else 0.0)

    def __call__(self, scores: Scores, batch: Batch) -> LossTerms:
        terms = super().__call__(scores, batch)
        if self.reads_context:
            rows = batch.rows
            real = (rows.loss_mask.sum(-1, keepdim=True) > 0) * rows.attention_mask
            likelihood = (scores.logprobs * real).chunk(2)[0].sum()
        else:
            likelihood = self.sides(scores, batch)[0].mean_logprobs.sum()
        return replace(terms, sums=(*terms.sums, -likelihood))
