"""Credit within a response: which of its tokens answer for the outcome, from what the tree knows for nothing."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import stdev

from gpo_lightning.experience.groups import Group
from gpo_lightning.rollouts import Sample


class Credit(ABC):
    """Spreads a response's advantage over its tokens."""

    @abstractmethod
    def by_token(self, group: Group, sample: Sample, advantage: float) -> tuple[float, ...]:
        """``[T]`` advantages of the tokens that were drawn.

        Args:
            group: the responses it was compared with.
            sample: the response.
            advantage: how it compares with them.
        """

    def teaches(self, group: Group) -> bool:
        """Whether a group whose rewards are all equal has credit to give nevertheless."""
        return False


@dataclass(frozen=True)
class Outcome(Credit):
    """Every token answers for the outcome alike (GRPO and its relatives)."""

    def by_token(self, group: Group, sample: Sample, advantage: float) -> tuple[float, ...]:
        return (advantage,) * (len(sample.tokens) - sample.start)


@dataclass(frozen=True)
class FromCriticalStep(Credit):
    """A failure whose critical step is known answers for it, and for what follows, and not for what went before.

    Successes, and failures that were not searched, answer as a whole.
    """

    def by_token(self, group: Group, sample: Sample, advantage: float) -> tuple[float, ...]:
        length = len(sample.tokens) - sample.start
        curve = next((curve for curve in group.tree.curves if curve.tokens == sample.tokens), None)
        if advantage >= 0 or curve is None:
            return (advantage,) * length
        spared = min(max(0, len(curve.critical_prefix) - sample.start), length)
        return (0.0,) * spared + (advantage,) * (length - spared)


@dataclass(frozen=True)
class Segments(Credit):
    """A response that groups were started from answers segment by segment: their means are values it passed through.

    Between the prompt (value: mean of the group), each prefix of the response that a group of at least ``least`` graded
    responses started from (value: their mean) and the end (value: the reward), a token's advantage is the difference of
    the values around it, in units of the standard deviation of all rewards involved. So one reset tells the parent for
    nothing whether what was kept was better than expected, and what was left was worse. Other responses answer as a
    whole.

    Args:
        least: fewest graded responses whose mean is taken for a value.
    """

    least: int = 4

    def by_token(self, group: Group, sample: Sample, advantage: float) -> tuple[float, ...]:
        places = self._places(group, sample)
        if not places or sample.reward is None:
            return (advantage,) * (len(sample.tokens) - sample.start)
        own = [its.reward for its in group.samples if its.reward is not None]
        involved = own + [reward for rewards in places.values() for reward in rewards]
        unit = stdev(involved) + 1e-4
        means = {place: sum(rewards) / len(rewards) for place, rewards in sorted(places.items())}
        values = {sample.start: sum(own) / len(own), **means, len(sample.tokens): sample.reward}
        return tuple(change / unit for change in changes(values))

    def teaches(self, group: Group) -> bool:
        means = [set(rewards) for sample in group.samples for rewards in self._places(group, sample).values()]
        outcomes = {sample.reward for sample in group.samples} - {None}
        return any(outcomes != rewards for rewards in means)

    def _places(self, group: Group, sample: Sample) -> dict[int, list[float]]:
        """Graded rewards of the groups that started within a response, by the offset where they did."""
        places: dict[int, list[float]] = {}
        for start in dict.fromkeys(its.start for its in group.tree.samples if its.start > len(group.prefix)):
            if start >= len(sample.tokens):
                continue
            members = (group.tree.samples[i].reward for i in group.tree.group(sample.tokens[:start]))
            rewards = [reward for reward in members if reward is not None]
            if len(rewards) >= self.least:
                places[start] = rewards
        return places


@dataclass(frozen=True)
class Siblings(Credit):
    """Responses of a group that pass through the same state share their outcomes, which value it (GiGPO, 2505.10978).

    A token's advantage is the difference of the values around it, in units of the group's standard deviation. States
    are those that the problem source tells at the ends of lines (``ProblemSource.state_key``); where it tells none,
    responses are in the same state as long as their tokens are the same.

    Args:
        outcome: weight of the response's own advantage, added to every token; 0 leaves step credit alone.
    """

    outcome: float = 0.0

    def by_token(self, group: Group, sample: Sample, advantage: float) -> tuple[float, ...]:
        graded = [its for its in group.samples if its.reward is not None]
        if sample.reward is None or not advantage:
            return (advantage,) * (len(sample.tokens) - sample.start)
        outcomes = [its.reward or 0.0 for its in graded]
        rewards: defaultdict[Hashable, list[float]] = defaultdict(list)
        for other, outcome in zip(graded, outcomes, strict=True):
            for state in dict.fromkeys(states(other, graded).values()):
                rewards[state].append(outcome)
        passed = {place: sum(rewards[key]) / len(rewards[key]) for place, key in states(sample, graded).items()}
        mean, unit = sum(outcomes) / len(outcomes), stdev(outcomes) + 1e-4
        values = {sample.start: mean, **passed, len(sample.tokens): sample.reward}
        return tuple(self.outcome * advantage + change / unit for change in changes(values))


def states(sample: Sample, siblings: Sequence[Sample]) -> dict[int, Hashable]:
    """The states a response passes through between its start and its end, by token offset, ascending.

    Args:
        sample: the response.
        siblings: responses from the same start.
    """
    inside = range(sample.start + 1, len(sample.tokens))
    if sample.states:
        return {offset: state for offset, state in sample.states if offset in inside}
    shared = {_shared(sample.tokens, other.tokens) for other in siblings if other is not sample}
    # Up to where two responses agree they are in one state, and after the token that parts them in two.
    places = sorted({place for common in shared for place in (common, common + 1)})
    return {place: sample.tokens[:place] for place in places if place in inside}


def changes(values: Mapping[int, float]) -> list[float]:
    """The change of value over each token.

    >>> changes({0: 0.5, 2: 0.75, 3: 0.0})
    [0.25, 0.25, -0.75]

    Args:
        values: by token offset, ascending, the first and the last offset among them.
    """
    return [after - before for (begin, before), (end, after) in pairwise(values.items()) for _ in range(begin, end)]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that two responses begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
