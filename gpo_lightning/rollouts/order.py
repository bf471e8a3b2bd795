"""Which problems an iteration asks: the next slice of an endless series of permutations of them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from gpo_lightning.problems import Problem
from gpo_lightning.rollouts.plan import RolloutPlan
from gpo_lightning.rollouts.seeds import derive_seed, derived_random


@dataclass(frozen=True)
class ProblemOrder:
    """One rank's problems, iteration by iteration.

    Args:
        problems: all there are, of which there must be some.
        plan: how many an iteration asks.
        seed: of the run.
        rank: of this process.
        ranks: how many there are.
    """

    problems: Sequence[Problem]
    plan: RolloutPlan
    seed: int = 0
    rank: int = 0
    ranks: int = 1

    def iteration(self, number: int) -> list[Problem]:
        """This rank's share of an iteration's problems."""
        wanted = range(number * self.plan.problems, (number + 1) * self.plan.problems)
        return _permuted(self.problems, self.seed, wanted)[self.rank :: self.ranks]

    def reserve(self, number: int) -> list[Problem]:
        """Fresh problems, of this rank alone, for those whose group turns out all right or all wrong."""
        own = self.iteration(number)
        used = {problem.id for problem in own}
        fresh = [problem for problem in self.problems[self.rank :: self.ranks] if problem.id not in used]
        draw = derived_random(self.seed, "reserve", number, self.rank)
        return draw.sample(fresh, min(len(fresh), self.plan.refills * len(own)))


def _permuted(problems: Sequence[Problem], seed: int, places: range) -> list[Problem]:
    """Problems at some places of an endless series of permutations of all of them."""
    orders: dict[int, list[int]] = {}
    for place in places:
        round_ = place // len(problems)
        if round_ not in orders:
            orders[round_] = list(range(len(problems)))
            Random(derive_seed(seed, "order", round_)).shuffle(orders[round_])
    return [problems[orders[place // len(problems)][place % len(problems)]] for place in places]
