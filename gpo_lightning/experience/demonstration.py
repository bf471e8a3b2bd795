"""Experience of supervised losses: reference solutions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.engines import Purpose
from gpo_lightning.experience.builder import ExperienceBuilder
from gpo_lightning.experience.example import BLANK_ROW, Batch, Example, Row, collate_rows
from gpo_lightning.problems import Problem, encode_prompt, encode_solution
from gpo_lightning.tree import RolloutTree, Sample


@dataclass(frozen=True, slots=True)
class Demonstration(Example):
    """A response to be imitated."""

    row: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        return (self.row,)


@dataclass(frozen=True)
class Demonstrations(ExperienceBuilder):
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

    def blank(self) -> Example:
        return Demonstration(BLANK_ROW)

    def collate(self, examples: Sequence[Example], pad_id: int, normaliser: float) -> Batch:
        rows = [cast(Demonstration, example).row for example in examples]
        return Batch(collate_rows(rows, pad_id), normaliser)


def solution_trees(
    problems: Sequence[Problem], tokenizer: Tokenizer, eos_id: int, counts: Counter[str]
) -> list[RolloutTree]:
    """Trees that hold each problem's reference solution; problems without one are counted and left out."""
    trees: list[RolloutTree] = []
    for problem in problems:
        tokens = encode_solution(problem, tokenizer, eos_id)
        if tokens is None:
            counts["no_solution"] += 1
            continue
        tree = RolloutTree(problem, encode_prompt(problem, tokenizer))
        tree.add(Sample(tokens, 0, (), 1.0, "solution", False, Purpose.SOLUTION, version=-1))
        trees.append(tree)
    return trees
