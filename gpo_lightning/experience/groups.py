"""Which continuations of a tree are learnt from together: those that share a start state."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gpo_lightning.engines import Purpose
from gpo_lightning.experience.example import Row
from gpo_lightning.rollouts import RolloutTree, Sample

Start = Literal["critical", "frontier", "prompt", "probe"]
"""Start states: before a critical step, at another prefix that was reset to, at the prompt, or where a probe began."""


@dataclass(frozen=True, slots=True)
class Group:
    """Samples of one tree that started at the same prefix.

    Args:
        tree: where they live.
        prefix: their common start.
        samples: in the order they were drawn.
    """

    tree: RolloutTree
    prefix: tuple[int, ...]
    samples: tuple[Sample, ...]

    def row(self, sample: Sample, prefix_loss: bool = False) -> Row:
        """A sample's tokens as state and actions.

        Args:
            sample: one of the group.
            prefix_loss: whether the kept prefix is action too, as if the policy had drawn prefix and continuation in
                one go; otherwise it is state, like the prompt.
        """
        if not prefix_loss:
            return Row(self.tree.prompt + self.prefix, sample.tokens[sample.start :], sample.logprobs)
        return Row(self.tree.prompt, sample.tokens, self.tree.rollout_logprobs(self.prefix) + sample.logprobs)


def groups(trees: Sequence[RolloutTree], starts: Sequence[Start]) -> Iterator[Group]:
    """Groups of the wanted start states, in the order of ``starts``: what stands first is learnt first.

    A prefix that is several things at once, a critical step at the prompt say, is given once, as the first of them.
    """
    given: set[tuple[int, tuple[int, ...]]] = set()
    for start in starts:
        for tree in trees:
            for prefix in _prefixes(tree, start):
                if (id(tree), prefix) in given:
                    continue
                given.add((id(tree), prefix))
                samples = tuple(tree.samples[i] for i in tree.group(prefix))
                if samples:
                    yield Group(tree, prefix, samples)


def _prefixes(tree: RolloutTree, start: Start) -> list[tuple[int, ...]]:
    match start:
        case "critical":
            return [curve.critical_prefix for curve in tree.curves]
        case "prompt":
            return [()]
        case "frontier" | "probe":
            critical = {curve.critical_prefix for curve in tree.curves}
            begun = [sample for sample in tree.samples if sample.start and sample.prefix not in critical]
            reset = dict.fromkeys(sample.prefix for sample in begun if sample.purpose is Purpose.RESET)
            if start == "frontier":
                return list(reset)
            return [prefix for prefix in dict.fromkeys(sample.prefix for sample in begun) if prefix not in reset]
