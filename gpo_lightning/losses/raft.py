"""RAFT: supervised learning of the policy's own right responses (Dong et al. 2023, arXiv 2304.06767).

Rejection sampling: supervised learning of the policy's own right responses. Dong et al. 2023, [arXiv
2304.06767](https://arxiv.org/abs/2304.06767); with a restart from the base model in every round it is STaR.

    L = 1/(sum_i T_i) sum_i sum_t -lp_t                                over right responses

Reads `RightResponses`: the distinct right responses of each group.

The loss itself has no settings.

**What differs elsewhere.**

* trl, verl and OpenRLHF have no trainer of that name that could be compared; the loss is that of [SFT](sft.md), which
  is.
* The paper keeps the best response of a group: `keep: best`. With rewards of 0 and 1 `right` keeps more of the data.
* RAFT++ clips the ratio of right responses: `GRPO` with `data.experience.estimator: NoBaseline` gives wrong ones an
  advantage of 0.

**When to use it.** As a simple and stable baseline. Wrong responses teach nothing, easy problems give most of the
data, and entropy falls. A group without a right response is counted (`group_without_right`).

**With resets.** The continuation is imitated, the kept prefix is not, unless `data.experience.prefix_loss` is set. So
a right end to a solution that began badly can be learnt without learning its beginning.
"""

from dataclasses import dataclass
from typing import ClassVar

from gpo_lightning.experience import ExperienceBuilder, RightResponses
from gpo_lightning.losses.sft import SFT


@dataclass(frozen=True)
class RAFT(SFT):
    """Rejection sampling: likelihood of the responses that were right, or best (``data.experience.keep``)."""

    experience: ClassVar[type[ExperienceBuilder]] = RightResponses
