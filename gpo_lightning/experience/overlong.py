"""What becomes of responses that come near the token limit, or are cut off by it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from gpo_lightning.errors import ConfigError
from gpo_lightning.rollouts import Sample


class Overlong(ABC):
    """A rule for long responses."""

    @abstractmethod
    def reward(self, sample: Sample) -> float | None:
        """The reward that the response counts with; ``None`` if it was not graded."""

    @abstractmethod
    def learns(self, sample: Sample) -> bool:
        """Whether its tokens carry loss."""


@dataclass(frozen=True)
class SoftPunishment(Overlong):
    """Takes up to 1 from the reward over the last ``cache`` tokens before the limit (DAPO, arXiv 2503.14476, eq. 13).

    >>> from gpo_lightning.experience.overlong import punishment
    >>> punishment(8, limit=10, cache=4)
    -0.5

    Args:
        limit: longest response in tokens, prefix included (``data.sampling.max_tokens``).
        cache: tokens before the limit over which the punishment grows.
    """

    limit: int
    cache: int

    def __post_init__(self) -> None:
        if not 0 < self.cache <= self.limit:
            raise ConfigError(
                f"data.experience.overlong (SoftPunishment): cache is {self.cache} and limit {self.limit}; "
                "0 < cache <= limit is needed."
            )

    def reward(self, sample: Sample) -> float | None:
        if sample.reward is None:
            return None
        return sample.reward + punishment(len(sample.tokens), self.limit, self.cache)

    def learns(self, sample: Sample) -> bool:
        return True


@dataclass(frozen=True)
class MaskTruncated(Overlong):
    """Responses cut off by the limit count in their group's baseline, but nothing is learnt from their tokens.

    trl's ``mask_truncated_completions``. Whether they would have been right is not known.
    """

    def reward(self, sample: Sample) -> float | None:
        return sample.reward

    def learns(self, sample: Sample) -> bool:
        return not sample.truncated


def punishment(length: int, limit: int, cache: int) -> float:
    """0 up to ``limit - cache`` tokens, falling to -1 at ``limit``."""
    return max(-1.0, min(0.0, (limit - cache - length) / cache))
