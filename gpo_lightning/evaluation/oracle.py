"""Exact step advantages for tasks whose steps can be checked: what the best credit could do, at no cost in tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpo_lightning.evaluation.exact import Worked, exact_values, work
from gpo_lightning.experience import Row
from gpo_lightning.experience.actions import ActionExample, ActionExperience
from gpo_lightning.experience.example import Example
from gpo_lightning.policy import Policy
from gpo_lightning.problems.step_checked import StepChecked
from gpo_lightning.rollouts import RolloutTree


@dataclass(frozen=True)
class ExactSteps(ActionExperience):
    """The responses from the prompt, every token with the exact advantage of its step.

    A right step is worth the rise of the success probability over it, the first wrong one loses all that was left, and
    nothing after it matters. Groups of one outcome teach like any other: a failure tells where it failed.

    Args:
        policy: whose responses they are.
        source: checks the steps.
    """

    policy: Policy
    source: StepChecked

    @property
    def least_group(self) -> int:
        return 1

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        worked = [work(self.policy, self.source, tree.problem) for tree in trees]
        examples: list[Example] = []
        for tree, its, values in zip(trees, worked, exact_values(self.policy, worked), strict=True):
            for index in tree.trajectories:
                sample = tree.samples[index]
                text = str(self.policy.tokenizer.decode(list(sample.tokens), skip_special_tokens=True))
                wrong = self.source.first_wrong(tree.problem, text)
                advantages = step_advantages(its, values, wrong, len(sample.tokens))
                examples.append(ActionExample(Row(tree.prompt, sample.tokens, sample.logprobs), advantages))
        return examples


def step_advantages(worked: Worked, values: Sequence[float], wrong: int | None, length: int) -> tuple[float, ...]:
    """``[length]`` exact advantages of a response's tokens.

    Args:
        worked: the reference solution, whose steps are as long as the response's right ones.
        values: ``[n + 1]`` before each of its steps.
        wrong: index of the response's first wrong step.
        length: tokens of the response.
    """
    right = len(values) - 1 if wrong is None else wrong
    advantages: list[float] = []
    for step, (begin, end) in enumerate(pairwise(worked.boundaries)):
        if step < right:
            advantages += [values[step + 1] - values[step]] * (end - begin)
        elif step == right:
            advantages += [-values[step]] * (end - begin)
    return tuple((advantages + [0.0] * length)[:length])
