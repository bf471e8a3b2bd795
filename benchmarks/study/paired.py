"""Figures of learning curves, and comparisons of arms that are paired by seed."""

from collections.abc import Sequence
from itertools import pairwise, product
from math import log

import numpy as np

from runs import Point

Curve = Sequence[Point]


def success_at(curve: Curve, tokens: float) -> float:
    """Success when so many tokens were generated, on the line between the measurements around."""
    return float(np.interp(tokens, [p.generated for p in curve], [p.success for p in curve]))


def tokens_to(curve: Curve, threshold: float) -> float | None:
    """Generated tokens until success first reaches a threshold, on the line between measurements."""
    for before, after in pairwise(curve):
        if before.success < threshold <= after.success:
            share = (threshold - before.success) / (after.success - before.success)
            return before.generated + share * (after.generated - before.generated)
    return None


def spent(base: Curve, other: Curve, threshold: float) -> tuple[float, float]:
    """Tokens that two paired runs need to a threshold, so that what is not known speaks against the other.

    A run that does not reach it counts with all the tokens it generated: what it needs is more. Where it is the other
    one, the base counts with no more than that: nobody can say by how much it would have been ahead.
    """
    needed = tokens_to(other, threshold)
    whole = other[-1].generated
    of_base = tokens_to(base, threshold) or base[-1].generated
    return (min(of_base, whole), whole) if needed is None else (of_base, needed)


def area(curve: Curve, tokens: float) -> float:
    """Mean success over the logarithm of generated tokens, from a tenth of the budget to all of it."""
    places = np.geomspace(tokens / 10, tokens, 50)
    return float(np.mean([success_at(curve, place) for place in places]))


def ratio(base: Sequence[float], other: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Geometric mean of base / other over paired seeds, and its 95 % bootstrap interval."""
    logs = np.array([log(a / b) for a, b in zip(base, other, strict=True)])
    draw = np.random.default_rng(seed)
    means = logs[draw.integers(0, len(logs), (2000, len(logs)))].mean(-1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def p_value(differences: Sequence[float]) -> float:
    """Two-sided exact sign-flip test of paired differences; 2^(1-n) is the least it can give for n of them."""
    observed = abs(sum(differences))
    flips = product((1, -1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
    return sum(its >= observed - 1e-12 for its in sums) / len(sums)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several comparisons."""
    order = np.argsort(p_values)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
