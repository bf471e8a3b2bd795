"""RAFT: supervised learning of the policy's own right responses (Dong et al. 2023, arXiv 2304.06767)."""

from dataclasses import dataclass
from typing import ClassVar

from gpo_lightning.experience import ExperienceBuilder, RightResponses
from gpo_lightning.losses.sft import SFT


@dataclass(frozen=True)
class RAFT(SFT):
    """Rejection sampling: likelihood of the responses that were right, or best (``data.experience.keep``)."""

    experience: ClassVar[type[ExperienceBuilder]] = RightResponses
