"""What is known of a trajectory whose steps are being valued: the argument of every search strategy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """What is known at one prefix.

    >>> node = Node((5, 7), successes=(1.0, 0.0, 1.0, 1.0))
    >>> node.value, node.posterior
    (0.75, (3.5, 1.5))

    Args:
        prefix: response tokens so far.
        successes: in [0, 1], of the graded continuations that are fair draws of the policy from here.
        ungraded: number of continuations whose outcome no grader could judge.
    """

    prefix: Tokens
    successes: tuple[float, ...]
    ungraded: int = 0

    @property
    def drawn(self) -> int:
        return len(self.successes) + self.ungraded

    @property
    def trials(self) -> int:
        return len(self.successes)

    @property
    def value(self) -> float | None:
        """Mean success: the Monte Carlo estimate of V(prefix); ``None`` without a trial."""
        return sum(self.successes) / len(self.successes) if self.successes else None

    @property
    def posterior(self) -> tuple[float, float]:
        """Parameters of the Beta posterior of V(prefix) under Jeffreys' prior."""
        gained = sum(self.successes)
        return 0.5 + gained, 0.5 + self.trials - gained


@dataclass(frozen=True, slots=True)
class TrajectoryState:
    """What is known of a trajectory of n steps.

    Args:
        boundaries: ``[n + 1]`` token offsets of the steps.
        nodes: ``[n]`` what the tree knows before each step.
        pending: ``[n]`` continuations in flight from before each step.
        probed: ``[n]`` finished probes from before each step; the nodes count other continuations too.
        success: the trajectory's own, in [0, 1], V(s_n).
        spent: tokens of the finished probes.
        surprisals: ``[n]`` how unlikely each step was to the policy, in nats; empty where its log-probs are
            not known, because somebody else wrote it.
    """

    boundaries: tuple[int, ...]
    nodes: tuple[Node, ...]
    pending: tuple[int, ...]
    probed: tuple[int, ...]
    success: float
    spent: int = 0
    surprisals: tuple[float, ...] = ()

    @property
    def steps(self) -> int:
        return len(self.nodes)

    @property
    def tokens(self) -> int:
        """Length of the trajectory in tokens."""
        return self.boundaries[-1]

    def sweep(self, count: float) -> float:
        """Tokens of the probes that bring ``count`` continuations before every step but the first together.

        Continuations that cost nothing, because siblings or other probes passed through the prefix, need no probe.
        """
        given = [node.drawn - probed for node, probed in zip(self.nodes, self.probed, strict=True)]
        return sum(max(0.0, count - given[step]) * self.remaining(step) for step in range(1, self.steps))

    def remaining(self, step: int) -> int:
        """Tokens that the trajectory itself took from before ``step`` to its end."""
        return self.boundaries[-1] - self.boundaries[step]


def surprisals(boundaries: Sequence[int], logprobs: Sequence[float]) -> tuple[float, ...]:
    """``[n]`` minus the log-prob of each step; empty where not every token has one.

    >>> surprisals((0, 2, 3), (-1.0, -0.5, -0.25))
    (1.5, 0.25)

    Args:
        boundaries: ``[n + 1]`` token offsets of the steps.
        logprobs: ``[T]`` rollout log-probs of the trajectory's tokens.
    """
    if len(logprobs) != boundaries[-1]:
        return ()
    return tuple(-sum(logprobs[begin:end]) for begin, end in pairwise(boundaries))
