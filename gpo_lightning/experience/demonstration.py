"""Experience of supervised losses: reference solutions, or the policy's own right responses."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.engines import Purpose
from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import BLANK_ROW, Batch, Example, Row, collate_rows
from gpo_lightning.experience.groups import Start, groups
from gpo_lightning.problems import Problem
from gpo_lightning.problems.prompting import encode_prompt, encode_solution
from gpo_lightning.rollouts import RolloutTree, Sample


@dataclass(frozen=True, slots=True)
class Demonstration(Example):
    """A response to be imitated."""

    row: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.row,)


@dataclass(frozen=True)
class _Imitation(ExperienceBuilder):
    """Responses to be imitated, whoever wrote them."""

    def blank(self) -> Example:
        return Demonstration(BLANK_ROW)

    def collate(self, examples: Sequence[Example], pad_id: int, normalisers: tuple[float, ...]) -> Batch:
        rows = [cast(Demonstration, example).row for example in examples]
        return Batch(collate_rows(rows, pad_id), normalisers)


@dataclass(frozen=True)
class Demonstrations(_Imitation):
    """The reference solutions of the problems; needs no rollouts and no engine."""

    @property
    def least_group(self) -> int:
        return 0

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        return [
            Demonstration(Row(tree.prompt, sample.tokens))
            for tree in trees
            for sample in tree.samples
            if sample.purpose is Purpose.SOLUTION
        ]


@dataclass(frozen=True)
class RightResponses(_Imitation):
    """The policy's own responses that were right: rejection sampling (RAFT, STaR).

    Args:
        starts: start states to learn from, in that order.
        keep: ``right``: every response of a group with a success of ``threshold`` or more; ``best``: of such the one
            with the highest reward, the first of equals.
        threshold: least success of a right response.
        prefix_loss: whether the kept prefix is learnt too.
    """

    starts: Sequence[Start] = ("critical", "frontier", "prompt")
    keep: Literal["right", "best"] = "right"
    threshold: float = 0.5
    prefix_loss: bool = False

    @property
    def least_group(self) -> int:
        return 1

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        examples: list[Example] = []
        for group in groups(trees, self.starts):
            # The same response drawn twice would be learnt twice.
            distinct = {sample.tokens: sample for sample in reversed(group.samples)}.values()
            right = [sample for sample in reversed(distinct) if (sample.success or 0.0) >= self.threshold]
            counts["group_without_right"] += not right
            kept = right if self.keep == "right" else sorted(right, key=lambda s: -cast(float, s.reward))[:1]
            examples.extend(Demonstration(group.row(sample, self.prefix_loss)) for sample in kept)
        return examples


def solution_trees(
    problems: Sequence[Problem], tokenizer: Tokenizer, eos_ids: Collection[int], counts: Counter[str]
) -> list[RolloutTree]:
    """Trees that hold each problem's reference solution; problems without one are counted and left out."""
    trees: list[RolloutTree] = []
    for problem in problems:
        tokens = encode_solution(problem, tokenizer, eos_ids)
        if tokens is None:
            counts["no_solution"] += 1
            continue
        tree = RolloutTree(problem, encode_prompt(problem, tokenizer))
        tree.add(Sample(tokens, 0, (), 1.0, "solution", False, Purpose.SOLUTION, version=-1))
        trees.append(tree)
    return trees
