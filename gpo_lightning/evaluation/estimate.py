"""Means over problems with honest intervals: the arithmetic behind every metric of this folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over ``n`` problems and its 95 % interval.

    >>> print(Estimate(0.5, 0.404, 0.596, 100))
    50.0 % (40.4 to 59.6, n = 100)
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}, n = {self.n})"


@dataclass(frozen=True, slots=True)
class Sums:
    """What a mean over problems is made of; sums of several ranks, or of several categories, add up.

    Args:
        total: sum of the problems' values.
        squares: sum of their squares.
        problems: how many there are.
        trials: most independent trials behind the values, ``inf`` where that is not known.
    """

    total: float
    squares: float
    problems: float
    trials: float = inf

    @property
    def mean(self) -> float:
        return self.total / self.problems if self.problems else 0.0

    @property
    def variance(self) -> float:
        """Between problems."""
        return max(0.0, self.squares / self.problems - self.mean**2) if self.problems else 0.0


def wilson_interval(rate: float, trials: float, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a success rate; sound at 0, at 1 and for few trials.

    >>> low, high = wilson_interval(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if trials <= 0:
        return 0.0, 1.0
    shrink = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrink
    half = z * sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def rate_estimate(sums: Sums) -> Estimate:
    """The estimate of a mean of values in [0, 1].

    The interval is Wilson's at the number of independent trials that would have the same standard error, which for
    values of 0 and 1 is the number of problems. By luck a few problems may differ less than their draws allow; so no
    more trials are taken than were made (``sums.trials``), and no fewer than there are problems.

    >>> print(rate_estimate(Sums(total=8, squares=8, problems=10)))
    80.0 % (49.0 to 94.3, n = 10)
    """
    n, rate, variance = sums.problems, sums.mean, sums.variance
    trials = n * rate * (1 - rate) / variance if variance > 1e-12 else n
    low, high = wilson_interval(rate, max(n, min(trials, sums.trials)))
    return Estimate(rate, low, high, int(n))


def mean_estimate(sums: Sums, largest: float = inf) -> Estimate:
    """The estimate of a mean of values in [0, ``largest``], such as lengths, with Student's interval.

    One problem tells nothing of the spread: its interval is everything there is.

    >>> found = mean_estimate(Sums(total=60, squares=1400, problems=3), largest=40)    # 10, 20 and 30
    >>> found.mean, found.low, found.high
    (20.0, 0.0, 40.0)
    """
    n, mean = sums.problems, sums.mean
    half = _student_quantile(n - 1) * sqrt(sums.variance / (n - 1)) if n > 1 else inf
    return Estimate(mean, max(0.0, mean - half), min(float(largest), mean + half), int(n))


def macro_average(parts: Sequence[Estimate]) -> Estimate:
    """The mean over categories, each with the same weight however many problems it has.

    Its interval adds the categories' distances to their bounds in squares (Zou and Donner 2008, "MOVER"), which
    does not vanish where every category is all right or all wrong.

    >>> print(macro_average([Estimate(0.9, 0.8, 0.95, 90), Estimate(0.3, 0.1, 0.6, 10)]))
    60.0 % (48.8 to 75.2, n = 100)
    """
    if not parts:
        return Estimate(0.0, 0.0, 1.0, 0)
    mean = sum(part.mean for part in parts) / len(parts)
    below = sqrt(sum((part.mean - part.low) ** 2 for part in parts)) / len(parts)
    above = sqrt(sum((part.high - part.mean) ** 2 for part in parts)) / len(parts)
    return Estimate(mean, max(0.0, mean - below), mean + above, sum(part.n for part in parts))


def _student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t: exact for 1 and 2 degrees of freedom, else within 0.005.

    Cornish and Fisher's expansion in 1 / freedom (Abramowitz and Stegun 26.7.5).
    """
    if freedom <= 2:
        return 12.706204736 if freedom <= 1 else 4.3026527297
    z, v = _Z95, freedom
    terms = (
        z,
        (z**3 + z) / (4 * v),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4),
    )
    return sum(terms)
