"""The rollout tree: the single store of what the policy did for one problem.

A node is a token prefix of the response. Samples, probes and resets are all *samples* here: continuations that
started at some node. Everything else (values, groups, duplicates, rows for the loss, the report) is read from them.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, nan

from gpo_lightning.critical.state import Node
from gpo_lightning.engines import Purpose
from gpo_lightning.problems import Problem
from gpo_lightning.rewards.grader import success_of

Tokens = tuple[int, ...]
Prefix = Tokens
"""Of a response: what continuations are drawn from."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished response: a prefix that was given, and the continuation the policy drew.

    Args:
        tokens: the whole response, without the prompt; ends with end-of-sequence unless truncated.
        start: ``tokens[:start]`` was given, ``tokens[start:]`` was drawn.
        logprobs: rollout log-probs of ``tokens[start:]``.
        reward: any finite number, or ``None`` where the grader could not judge.
        reason: the grader's word for the verdict.
        truncated: ended by the token limit.
        purpose: why it was drawn.
        version: weights it was drawn with.
        answer: what the grader took the response to answer; ``None`` where it found nothing.
        text: of the whole response, for people; ``None`` where nobody decoded it.
        success: in [0, 1]: what values of steps, accuracy and pass@k are made of; where it is not given, the reward
            if that lies in [0, 1].
        parts: what each reward function gave, by name.
        states: token offsets and the problem source's name for the state there (``ProblemSource.state_key``).
    """

    tokens: Tokens
    start: int
    logprobs: tuple[float, ...]
    reward: float | None
    reason: str
    truncated: bool
    purpose: Purpose
    version: int
    answer: str | None = None
    text: str | None = None
    success: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    states: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "success", success_of(self.reward, self.success))

    @property
    def right(self) -> bool:
        """Whether it is a full success."""
        return self.success is not None and self.success >= 1

    @property
    def prefix(self) -> Tokens:
        return self.tokens[: self.start]

    @property
    def drawn(self) -> bool:
        """Whether the policy drew it; a reference solution was given."""
        return self.purpose is not Purpose.SOLUTION


@dataclass(frozen=True, slots=True)
class ValueCurve:
    """The explored steps of one trajectory.

    Args:
        tokens: the trajectory's response.
        boundaries: ``[n + 1]`` token offsets; step t is ``tokens[boundaries[t]:boundaries[t + 1]]``.
        values: ``[n + 1]`` V(s_t) before step t; the last is the trajectory's own success.
        critical: index of the critical step: the policy is reset to ``tokens[:boundaries[critical]]``.
        trials: ``[n]`` continuations behind each value when it was estimated.
        steps: ``[n]`` text of each step, for people; joined, they are the response's. Empty where nobody decoded it.
    """

    tokens: Tokens
    boundaries: tuple[int, ...]
    values: tuple[float, ...]
    critical: int
    trials: tuple[int, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def advantages(self) -> tuple[float, ...]:
        """``[n]`` A_t = V(s_{t+1}) - V(s_t)."""
        return tuple(after - before for before, after in zip(self.values, self.values[1:], strict=False))

    @property
    def critical_prefix(self) -> Tokens:
        return self.tokens[: self.boundaries[self.critical]]


class RolloutTree:
    """A trie of responses to one problem.

    The trie is a sorted list of token sequences: all that share a prefix stand side by side, so every node is a
    run of that list.

    Args:
        problem: the question.
        prompt: its token ids.
    """

    def __init__(self, problem: Problem, prompt: Tokens) -> None:
        self.problem, self.prompt = problem, prompt
        self.samples: list[Sample] = []
        self.curves: list[ValueCurve] = []
        self._sorted: list[tuple[Tokens, int]] = []
        self._groups: dict[Tokens, list[int]] = {}

    def add(self, sample: Sample) -> int:
        """Store a sample; returns its index in :attr:`samples`."""
        index = len(self.samples)
        self.samples.append(sample)
        insort(self._sorted, (sample.tokens, index))
        if sample.drawn:
            self._groups.setdefault(sample.tokens[: sample.start], []).append(index)
        return index

    @property
    def trajectories(self) -> list[int]:
        """Indices of the samples that were drawn from the prompt."""
        return [index for index, sample in enumerate(self.samples) if sample.start == 0 and sample.drawn]

    def through(self, prefix: Tokens) -> Iterator[int]:
        """Indices of the samples whose response begins with ``prefix``, wherever they started."""
        first = bisect_left(self._sorted, (prefix, -1))
        last = bisect_left(self._sorted, ((*prefix, inf), -1)) if prefix else len(self._sorted)  # pyright: ignore[reportArgumentType]
        return (index for _, index in self._sorted[first:last])

    def group(self, prefix: Tokens) -> list[int]:
        """Indices of the samples that were drawn from exactly ``prefix``, oldest first."""
        return [*self._groups.get(prefix, ())]

    def drawn(self, prefix: Tokens, purpose: Purpose) -> int:
        """Samples drawn from exactly ``prefix`` for a purpose."""
        return sum(self.samples[index].purpose is purpose for index in self.group(prefix))

    def spent(self, prefix: Tokens, purpose: Purpose) -> int:
        """Tokens drawn from exactly ``prefix`` for a purpose."""
        drawn = (self.samples[index] for index in self.group(prefix))
        return sum(len(sample.tokens) - sample.start for sample in drawn if sample.purpose is purpose)

    def rollout_logprobs(self, prefix: Tokens) -> tuple[float, ...]:
        """Rollout log-probs of a prefix, by the samples it was taken from; NaN where nobody drew it."""
        known = [nan] * len(prefix)
        for index in sorted(self.through(prefix), reverse=True):
            sample = self.samples[index]
            if sample.drawn and sample.start < len(prefix):
                known[sample.start :] = sample.logprobs[: len(prefix) - sample.start]
        return tuple(known)

    def node(self, prefix: Tokens, without: int | None = None) -> Node:
        """What is known at ``prefix``.

        A sample that started earlier and happened to pass through ``prefix`` is a fair draw from it too, and counts.
        Ungraded samples are only numbered.

        Args:
            prefix: response tokens so far.
            without: a sample left out: the trajectory under study, whose outcome would bias its own values.
        """
        outcomes = [
            self.samples[index].success
            for index in sorted(self.through(prefix))
            if index != without and self.samples[index].start <= len(prefix) and self.samples[index].drawn
        ]
        graded = tuple(success for success in outcomes if success is not None)
        return Node(prefix, graded, ungraded=len(outcomes) - len(graded))
