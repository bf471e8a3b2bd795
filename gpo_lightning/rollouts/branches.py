"""Tree sampling: responses branch at step boundaries, and what branches share is drawn once (cf. 2509.21240)."""

from dataclasses import dataclass
from random import Random

from gpo_lightning.errors import ConfigError
from gpo_lightning.rollouts.starts import Attempts, StartStates
from gpo_lightning.rollouts.tree import Prefix


@dataclass(frozen=True)
class Branches(StartStates):
    """At a random step boundary of some responses of every group, whatever their outcome.

    A branching response and what branches off it have the trunk in common, which is drawn and learnt once. With
    :class:`.Segments` as credit the trunk answers for the value of the place where it branches, measured by the
    branches, and every part after it for what it makes of that value.

    The place is drawn without a look at the outcome, so the branches are fair draws of what follows. Responses of one
    step have no place to branch at (counted as ``no_start_inside``).

    Args:
        parents: responses of a group that branch.
    """

    parents: int = 2

    def __post_init__(self) -> None:
        if self.parents < 1:
            raise ConfigError(f"data.starts (Branches): parents is {self.parents}; at least 1 is needed.")

    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        graded = [i for i in attempts.tree.trajectories if attempts.tree.samples[i].success is not None]
        chosen = [attempts.tree.samples[i] for i in draw.sample(graded, min(self.parents, len(graded)))]
        prefixes: list[Prefix] = []
        for parent in chosen:
            inside = attempts.boundaries(parent)[1:-1]
            attempts.counts["no_start_inside"] += not inside
            if inside:
                prefixes.append(parent.tokens[: draw.choice(inside)])
        return prefixes
