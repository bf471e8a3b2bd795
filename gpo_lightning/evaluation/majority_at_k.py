"""maj@k: how often the answer that most of k responses give is right."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import comb
from typing import Any

import torch

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.problem_mean import ProblemMean

Vote = tuple[str | None, float | None]
"""A response's canonical answer and its reward."""


def majority_at_k(votes: Sequence[Vote], k: int) -> float:
    """The expected reward of a majority vote among k of a problem's responses, chosen without replacement.

    With n > k responses it is the exact mean over all C(n, k) subsets, so that the estimate is unbiased for a vote
    of k fresh responses; with n = k it is that one vote. An answer is a canonical one (``Grade.answer``):

    * answers that tie for the most votes share the win equally;
    * a response without an answer casts no vote, but takes one of the k places; a vote nobody casts is lost;
    * an answer is worth the mean reward of its graded responses, 0 where none could be graded.

    >>> majority_at_k([("7", 1.0), ("7", 1.0), ("8", 0.0), (None, 0.0)], k=4)
    1.0
    >>> majority_at_k([("7", 1.0), ("8", 0.0)], k=2)
    0.5
    >>> majority_at_k([("7", 1.0), ("7", 1.0), ("8", 0.0)], k=2)    # two ties and a clear win
    0.6666666666666666

    Args:
        votes: answer and reward of each response.
        k: at least 1; of fewer responses all vote.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; maj@k needs at least one response.")
    size = min(k, len(votes))
    counts = Counter(answer for answer, _ in votes if answer is not None)
    expected = Fraction(0)
    for answer, worth in _worths(votes).items():
        if worth:
            expected += Fraction(worth) * Fraction(_wins(counts, answer, len(votes), size), comb(len(votes), size))
    return float(expected)


def _worths(votes: Sequence[Vote]) -> dict[str, float]:
    """Mean reward by answer."""
    rewards: dict[str, list[float]] = {}
    for answer, reward in votes:
        if answer is not None and reward is not None:
            rewards.setdefault(answer, []).append(reward)
    return {answer: sum(values) / len(values) for answer, values in rewards.items()}


def _wins(counts: Counter[str], answer: str, drawn: int, size: int) -> Fraction:
    """In how many subsets of ``size`` responses the answer wins, shared wins counted in part."""
    others = [count for other, count in counts.items() if other != answer]
    wins = Fraction(0)
    for votes in range(1, min(counts[answer], size) + 1):
        rivals = [count for count in others if count >= votes]
        harmless = drawn - counts[answer] - sum(rivals)
        ways = comb(counts[answer], votes)
        for ties, subsets in _tied(rivals, harmless, votes, size - votes).items():
            wins += Fraction(ways * subsets, ties + 1)
    return wins


def _tied(rivals: Sequence[int], harmless: int, most: int, size: int) -> Counter[int]:
    """Subsets of ``size`` other responses in which nobody has more than ``most`` votes, by how many have just that.

    Args:
        rivals: votes of the answers that could have ``most`` of them.
        harmless: responses that could not.
        most: votes of the answer in question.
        size: of the subset.
    """
    ways: Counter[tuple[int, int]] = Counter({(0, 0): 1})  # by (responses taken, ties)
    for count in rivals:
        grown: Counter[tuple[int, int]] = Counter()
        for (taken, ties), subsets in ways.items():
            for more in range(min(most, size - taken) + 1):
                grown[(taken + more, ties + (more == most))] += subsets * comb(count, more)
        ways = grown
    tied: Counter[int] = Counter()
    for (taken, ties), subsets in ways.items():
        tied[ties] += subsets * comb(harmless, size - taken)
    return tied


class MajorityAtK(ProblemMean):
    """Mean of :func:`majority_at_k` over problems, with a 95 % interval.

    The interval is never narrower than that of as many independent trials as there were disjoint groups of k.

    >>> metric = MajorityAtK(k=3)
    >>> metric.update([[("7", 1.0), ("7", 1.0), ("8", 0.0)], [("1", 0.0), ("2", 1.0), ("1", 0.0)]])
    >>> float(metric.compute()["maj@3"])
    0.5

    Args:
        k: responses that vote.
    """

    def __init__(self, k: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k, self.figure = k, f"maj@{k}"

    def update(self, problems: Sequence[Sequence[Vote]]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add problems.

        Args:
            problems: answer and reward of each response to each problem.
        """
        for votes in problems:
            value = torch.tensor([majority_at_k(votes, self.k)], dtype=torch.float64)
            super().update(value, trials=len(votes) // self.k)
