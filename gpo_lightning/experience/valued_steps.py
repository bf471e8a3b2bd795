"""Experience of VinePPO: trajectories whose every step has an advantage of its own, by Monte Carlo."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpo_lightning.experience.actions import ActionExample, ActionExperience, finite
from gpo_lightning.experience.example import Example, Row
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.rollouts.tree import ValueCurve


@dataclass(frozen=True)
class ValuedSteps(ActionExperience):
    """The explored trajectories; a token's advantage is that of its step, A_t = V(s_{t+1}) - V(s_t).

    The trajectory's own outcome is the value after its last step, and no part of the values before it.
    """

    @property
    def least_group(self) -> int:
        return 1

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        examples: list[Example] = []
        for tree in trees:
            for curve in tree.curves:
                if not any(curve.advantages):
                    counts["flat_trajectory"] += 1
                    continue
                sample = _explored(tree, curve)
                row = Row(tree.prompt, sample.tokens, sample.logprobs)
                if not finite(row):
                    counts["rollout_logprobs_not_finite"] += 1
                    continue
                examples.append(ActionExample(row, _by_token(curve), curve.values[-1]))
        return examples


def _explored(tree: RolloutTree, curve: ValueCurve) -> Sample:
    return next(tree.samples[i] for i in tree.group(()) if tree.samples[i].tokens == curve.tokens)


def _by_token(curve: ValueCurve) -> tuple[float, ...]:
    steps = zip(curve.advantages, curve.boundaries, curve.boundaries[1:], strict=False)
    return tuple(advantage for advantage, begin, end in steps for _ in range(end - begin))
