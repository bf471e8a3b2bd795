"""How many rollouts an iteration makes, and of which trajectories."""

from dataclasses import dataclass
from typing import Literal

from gpo_lightning.errors import ConfigError


@dataclass(frozen=True)
class RolloutPlan:
    """How many rollouts an iteration makes, and of which trajectories.

    Args:
        problems: problems an iteration, over all ranks.
        group_size: trajectories sampled for each problem.
        reset_probability: share of problems whose trajectories are explored and reset to a critical step; 0 is the
            base method without GPO (p in METHOD; the same authors' RICE uses 0.5). Start states that need no search
            (``data.starts``) choose the groups they move themselves, whatever this says.
        explore: which trajectories are candidates: ``all``, or only the ``failed`` ones.
        explored: most candidates explored a problem, drawn at random.
        mixed_only: explore only problems whose group has both right and wrong answers. Elsewhere every estimated
            advantage is near 0 and the search has nothing to find.
        resets: size of a group that starts at a critical or another prefix, probes made there included.
        reset_rounds: draw up to this many times ``resets`` until the group holds right and wrong answers; for
            losses that need pairs.
        refills: draw up to this many times fresh problems in the place of those whose group was all right or all
            wrong, until ``problems`` groups hold both (DAPO's dynamic sampling).
    """

    problems: int = 32
    group_size: int = 8
    reset_probability: float = 0.5
    explore: Literal["all", "failed"] = "all"
    explored: int = 1
    mixed_only: bool = True
    resets: int = 8
    reset_rounds: int = 1
    refills: int = 0

    def __post_init__(self) -> None:
        leasts = {"problems": 1, "group_size": 1, "explored": 0, "resets": 0, "reset_rounds": 1, "refills": 0}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ConfigError(f"data.plan.{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.reset_probability <= 1:
            raise ConfigError(f"data.plan.reset_probability is {self.reset_probability}; it must lie in [0, 1].")
