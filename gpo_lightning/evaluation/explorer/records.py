"""Rollout trees as the page wants them: plain data, each text once, and only as many continuations as one looks at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import TurnReader
from gpo_lightning.critical.turn import Reading, Turn
from gpo_lightning.evaluation.explorer.texts import Texts, shared
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.rollouts.tree import ValueCurve

Record = dict[str, Any]

_AT_A_TURN = 12
"""Right ones, and as many wrong ones, whose text is kept where a turn begins or ends, or a reset group starts."""
_ELSEWHERE = 2


@dataclass(frozen=True)
class Valued:
    """A trajectory whose steps were valued, and what that says.

    Args:
        tree: where it lives.
        index: of its sample there.
        curve: its steps.
        nodes: ``[n + 1]`` indices of the samples that are fair draws from before each step, and from its end.
        reading: values, band and turns.
    """

    tree: RolloutTree
    index: int
    curve: ValueCurve
    nodes: tuple[tuple[int, ...], ...]
    reading: Reading

    @property
    def turning_points(self) -> set[int]:
        """Places that one looks at first: before and after both turns, and where the reset group starts."""
        turns = (self.reading.turn.step, self.reading.other.step)
        return {place for step in turns for place in (step, step + 1)} | {self.curve.critical}


def read_turns(trees: Sequence[RolloutTree], reader: TurnReader) -> list[list[Valued]]:
    """For each tree its valued trajectories."""
    found = [(tree, index, curve) for tree in trees for index, curve in zip(_indices(tree), tree.curves, strict=True)]
    nodes = [_nodes(tree, index, curve) for tree, index, curve in found]
    rewards = [
        [[success for i in places if (success := tree.samples[i].success) is not None] for places in node[:-1]]
        for (tree, _, _), node in zip(found, nodes, strict=True)
    ]
    readings = iter(reader.read(rewards, [curve.values[-1] for _, _, curve in found]))
    by_tree: dict[int, list[Valued]] = {id(tree): [] for tree in trees}
    for (tree, index, curve), places in zip(found, nodes, strict=True):
        by_tree[id(tree)].append(Valued(tree, index, curve, places, next(readings)))
    return [by_tree[id(tree)] for tree in trees]


def _indices(tree: RolloutTree) -> list[int]:
    """The sample of each curve; the same response may have been drawn, and valued, twice."""
    taken: list[int] = []
    for curve in tree.curves:
        same = (i for i in sorted(tree.through(curve.tokens)) if tree.samples[i].tokens == curve.tokens)
        taken.append(next(i for i in same if i not in taken))
    return taken


def _nodes(tree: RolloutTree, index: int, curve: ValueCurve) -> tuple[tuple[int, ...], ...]:
    def fair(prefix: tuple[int, ...]) -> tuple[int, ...]:
        through = ((i, tree.samples[i]) for i in sorted(tree.through(prefix)) if i != index)
        return tuple(i for i, sample in through if sample.start <= len(prefix) and sample.drawn)

    return tuple(fair(curve.tokens[:boundary]) for boundary in curve.boundaries)


class ProblemRecord:
    """What the page knows of one problem: its question, every sample, and its valued trajectories.

    Args:
        tree: of the problem.
        valued: its trajectories with values.
        tokenizer: for rollouts that hold no texts.
    """

    def __init__(self, tree: RolloutTree, valued: Sequence[Valued], tokenizer: Tokenizer | None = None) -> None:
        self.tree, self.valued = tree, valued
        self._texts = Texts(tokenizer)
        self._steps = {its.index: self._texts.steps(its.curve) for its in valued}
        self._responses = [self._text(i) for i in range(len(tree.samples))]

    def _text(self, index: int) -> str:
        # A trajectory's steps are cut out of its own text, so they must be of one piece with it.
        if index in self._steps:
            return "".join(self._steps[index])
        return self._texts.response(self.tree.samples[index])

    @property
    def iteration(self) -> int:
        """Of the weights that made it."""
        return max((sample.version for sample in self.tree.samples), default=0)

    @property
    def shown(self) -> list[int]:
        """Samples that stand in the list: those drawn from the prompt, and given ones that were valued."""
        return sorted({*self.tree.trajectories, *(its.index for its in self.valued)})

    def response(self, index: int) -> str:
        """Text of a sample's whole response."""
        return self._responses[index]

    def question(self) -> str:
        """The problem as plain text, for the list and its search."""
        problem = self.tree.problem
        if problem.prompt is not None:
            return problem.prompt.strip()
        return "\n".join(message.content for message in problem.messages if message.role != "system").strip()

    def record(self) -> Record:
        """As JSON wants it. Texts of samples are kept as what follows the first ``c`` characters of sample ``p``."""
        problem, kept = self.tree.problem, self._kept()
        return {
            "id": problem.id,
            "task": problem.task,
            "answer": problem.answer,
            "prompt": problem.prompt,
            "messages": [[message.role, message.content] for message in problem.messages],
            "metadata": {name: str(value) for name, value in problem.metadata.items()},
            "iteration": self.iteration,
            "samples": [self._sample(i, text=i in kept) for i in range(len(self.tree.samples))],
            "valued": {str(its.index): self._valued(its) for its in self.valued},
        }

    def _sample(self, index: int, text: bool) -> Record:
        sample = self.tree.samples[index]
        record: Record = {
            "r": sample.success,
            "w": sample.reason,
            "a": sample.answer,
            "k": str(sample.purpose),
            "n": len(sample.tokens) - sample.start,
        }
        if sample.truncated:
            record["x"] = 1
        if paid := rewards(sample):
            record["g"] = paid
        if text:
            parent = self._parent(index)
            response = self._responses[index]
            common = shared(self._responses[parent], response) if parent is not None else 0
            record |= {"p": parent, "c": units(response[:common]), "t": response[common:]}
            if sample.start:
                record["s"] = units(response[: self._texts.start(self.tree, sample)])
        return record

    def _parent(self, index: int) -> int | None:
        """A sample whose text begins as this one does, and which is kept whole."""
        sample = self.tree.samples[index]
        if not sample.start:
            return None
        whole = (i for i in self.tree.through(sample.prefix) if self.tree.samples[i].start == 0)
        return min(whole, default=None)

    def _kept(self) -> set[int]:
        """Samples whose text the page needs."""
        kept = {i for i, sample in enumerate(self.tree.samples) if sample.start == 0}
        for its in self.valued:
            for place, node in enumerate(its.nodes):
                most = _AT_A_TURN if place in its.turning_points else _ELSEWHERE
                right = [i for i in node if (self.tree.samples[i].success or 0) > 0.5]
                wrong = [i for i in node if (self.tree.samples[i].success or 0) <= 0.5]
                kept |= {*right[:most], *wrong[:most]}
        return kept

    def _valued(self, its: Valued) -> Record:
        steps, reading = self._steps[its.index], its.reading
        return {
            "cuts": [0, *accumulate(map(units, steps))],
            "v": _rounded(reading.values),
            "lo": _rounded(reading.low),
            "hi": _rounded(reading.high),
            "nodes": its.nodes,
            "reset": its.curve.critical,
            "turn": _turn(reading.turn),
            "other": _turn(reading.other),
        }


def rewards(sample: Sample) -> dict[str, float]:
    """What a response was paid, by part of the reward; empty where that is its success and nothing else."""
    parts = {name: round(value, 6) for name, value in sample.parts.items() if value is not None}
    if sample.reward is not None and (len(parts) > 1 or sample.reward != sample.success):
        parts["reward"] = round(sample.reward, 6)
    return parts


def _turn(turn: Turn) -> list[float]:
    return [turn.step, *_rounded((turn.before, turn.after, turn.probability))]


def units(text: str) -> int:
    """Length as JavaScript counts it.

    >>> units("naïve"), units("🙂")
    (5, 2)
    """
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) if isfinite(value) else 0.0 for value in values]
