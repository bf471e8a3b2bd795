"""Start states: the prefixes, beside the prompt, that groups of responses start from.

Where no response of a group succeeds, or all do, the group teaches nothing; from a prefix that is right about half of
the time it teaches most. Finding such a prefix costs no probes: the group's own success says how far one must go.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log
from random import Random
from typing import Literal

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts.earlier import Earlier
from gpo_lightning.rollouts.tree import Prefix, RolloutTree, Sample

Boundaries = Callable[[Sample], tuple[int, ...]]
Source = Literal["reference", "success", "failure", "earlier"]


@dataclass(frozen=True)
class Attempts:
    """What is known of one problem when its start states are chosen.

    Args:
        tree: the policy's graded responses, and critical steps where a search found some.
        boundaries: cuts a response into steps: ``[n + 1]`` token offsets.
        solution: gives the reference solution as a sample; ``None`` where there is none.
        first_wrong: token offset where the first wrong step of a response begins; ``None`` where all are right, or
            where the problem's steps cannot be checked.
        counts: of what happens here.
        earlier: a success of an earlier iteration at this problem.
        steps: text of each step of a response.
        answer: what the policy said to :meth:`StartStates.question`; ``None`` where nothing was asked or said.
    """

    tree: RolloutTree
    boundaries: Boundaries
    solution: Callable[[], Sample | None] = lambda: None
    first_wrong: Callable[[Sample], int | None] = lambda sample: None
    counts: Counter[str] = field(default_factory=Counter[str])
    earlier: Sample | None = None
    steps: Callable[[Sample], tuple[str, ...]] = lambda sample: ()
    answer: str | None = None

    @property
    def success(self) -> float | None:
        """Mean success of the responses from the prompt; ``None`` without a graded one."""
        successes = self.successes
        return sum(successes) / len(successes) if successes else None

    @property
    def successes(self) -> list[float]:
        """Success of the graded responses from the prompt."""
        outcomes = [self.tree.samples[index].success for index in self.tree.trajectories]
        return [success for success in outcomes if success is not None]

    def responses(self, right: bool) -> list[Sample]:
        """Graded responses from the prompt that are right, or those that are not."""
        drawn = [self.tree.samples[index] for index in self.tree.trajectories]
        return [sample for sample in drawn if sample.success is not None and (sample.success >= 0.5) == right]


class StartStates(ABC):
    """Chooses where groups start beside the prompt, once the group at the prompt is graded. Keeps no state."""

    @property
    def searches(self) -> bool:
        """Whether trajectories are searched for their critical step first."""
        return False

    @property
    def remembers(self) -> bool:
        """Whether groups start from own successes of earlier iterations, which are kept for it then."""
        return False

    @abstractmethod
    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        """Response prefixes to start a group from; none where the prompt is the best start.

        Args:
            attempts: at one problem.
            draw: random state of this problem and iteration.
        """

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer to :meth:`question`; 0 where nothing is asked."""
        return 0

    def question(self, attempts: Attempts, draw: Random) -> Problem | None:
        """What the policy is asked before starts are chosen, by the same ``draw`` as :meth:`prefixes` gets."""
        return None

    def elsewhere(
        self, places: int, earlier: Sequence[Earlier], boundaries: Boundaries, draw: Random
    ) -> list[tuple[Problem, list[Prefix]]]:
        """Starts in the place of groups that have none, at problems that the iteration does not ask.

        Args:
            places: groups that found no start (they were counted as ``place_lent``).
            earlier: successes of earlier iterations at such problems, oldest first.
            boundaries: cuts a response into steps.
            draw: random state of this iteration.
        """
        return []


@dataclass(frozen=True)
class PromptOnly(StartStates):
    """Every group starts at the prompt: the base method."""

    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        return []


@dataclass(frozen=True)
class Critical(StartStates):
    """Before the critical step of each trajectory that was searched: the paper's way."""

    @property
    def searches(self) -> bool:
        return True

    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        return [curve.critical_prefix for curve in attempts.tree.curves]


@dataclass(frozen=True)
class Frontier(StartStates):
    """Where a group passes about half of the time, by the success of the group at the prompt.

    If every step succeeds alike, a right prefix of d of n steps has the value p^(1 - d/n), which is one half at
    d = n (1 - ln 1/2 / ln p). A group without a success counts as half of one in G. A group that nearly always
    succeeds starts from a failure's prefix instead, by the same rule with failures for successes: a handicap. Groups
    in between stay at the prompt. Simulated: this rule does as well as depths learnt from outcomes
    (METHOD, "Where resets pay").

    Args:
        sources: whose prefixes, the first there is for a group that rarely succeeds: the problem's reference solution,
            a success or a failure of the group itself, or an ``earlier`` success, of a past iteration. Where there is
            none at this problem, ``earlier`` lends the group's place to one at another problem.
        low: groups that succeed at most so often are moved.
        high: groups that succeed at least so often are given a handicap; above 1, none.
        target: success aimed at.
        groups: groups for each problem that is moved, of different depths around the rule's.
    """

    sources: Sequence[Source] = ("reference", "success")
    low: float = 0.125
    high: float = 0.875
    target: float = 0.5
    groups: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ConfigError(f"data.starts (Frontier): low is {self.low} and high {self.high}; low < high is needed.")
        if not 0 < self.target < 1:
            raise ConfigError(f"data.starts (Frontier): target is {self.target}; it must lie between 0 and 1.")
        if self.groups < 1 or not self.sources:
            raise ConfigError("data.starts (Frontier): at least one group and one source are needed.")

    @property
    def remembers(self) -> bool:
        return "earlier" in self.sources

    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        success, drawn = attempts.success, len(attempts.successes)
        if success is None or self.low < success < self.high:
            return []
        rare = success <= self.low
        rate = max(success if rare else 1 - success, 0.5 / drawn)
        chosen = self._choose(attempts, draw) if rare else _one(attempts.responses(right=False), draw)
        if chosen is None:
            attempts.counts["no_start_source"] += 1
            if rare and self.remembers:
                attempts.counts["place_lent"] += 1
            return []
        starts = self._inside(chosen, attempts.boundaries(chosen), rate)
        attempts.counts["no_start_inside"] += not starts
        return starts

    def elsewhere(
        self, places: int, earlier: Sequence[Earlier], boundaries: Boundaries, draw: Random
    ) -> list[tuple[Problem, list[Prefix]]]:
        rare = [its for its in earlier if its.rate <= self.low]
        taken = draw.sample(rare, min(places, len(rare)))
        found = [(its.problem, self._inside(its.sample, boundaries(its.sample), its.rate)) for its in taken]
        return [(problem, prefixes) for problem, prefixes in found if prefixes]

    def _inside(self, sample: Sample, boundaries: tuple[int, ...], rate: float) -> list[Prefix]:
        """Prefixes of a response around the depth of the rule, without the prompt and the whole."""
        depth = frontier_depth(len(boundaries) - 1, rate, self.target)
        depths = [depth + shift for shift in _around(self.groups)]
        return [sample.tokens[: boundaries[d]] for d in dict.fromkeys(depths) if 0 < d < len(boundaries) - 1]

    def _choose(self, attempts: Attempts, draw: Random) -> Sample | None:
        for source in self.sources:
            match source:
                case "reference":
                    found = attempts.solution()
                case "earlier":
                    found = attempts.earlier
                case _:
                    found = _one(attempts.responses(right=source == "success"), draw)
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class FirstMistake(StartStates):
    """Before the first wrong step of a failure, by exact step checks: an oracle that searches for nothing.

    For comparison on tasks whose steps can be checked; what finds mistakes without such checks can come near it, not
    above it. Problems without a failure, and tasks without step checks, stay at the prompt.
    """

    def prefixes(self, attempts: Attempts, draw: Random) -> list[Prefix]:
        failure = _one(attempts.responses(right=False), draw)
        place = None if failure is None else attempts.first_wrong(failure)
        return [] if failure is None or not place else [failure.tokens[:place]]


def frontier_depth(steps: int, success: float, target: float = 0.5) -> int:
    """Steps of a right prefix after which the rest succeeds with probability ``target``, if all are equally hard.

    >>> frontier_depth(16, success=0.25)
    8

    Args:
        steps: of the whole solution.
        success: from the prompt, above 0.
        target: wanted from the prefix.
    """
    if success >= target:
        return 0
    return min(steps - 1, round(steps * (1 - log(target) / log(success))))


def _around(count: int) -> list[int]:
    """0, 1, -1, 2, -2, ...: ``count`` of them."""
    return [(index + 1) // 2 * (1 if index % 2 else -1) for index in range(count)]


def _one(samples: Sequence[Sample], draw: Random) -> Sample | None:
    return draw.choice(samples) if samples else None
