"""How well the served policy does on a set of problems."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import Drawing, ProgressListener
from gpo_lightning.engines import Engine, Purpose, Sampling, remaining_tokens
from gpo_lightning.metrics.success import SuccessRate
from gpo_lightning.problems import Problem, ProblemSource, encode_prompt
from gpo_lightning.tree import RolloutTree


@dataclass(frozen=True, slots=True)
class Result:
    """A success rate: ``accuracy`` in [0, 1], its 95 % interval, and ``n`` problems."""

    accuracy: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}, n = {self.n})"


def respond(
    engine: Engine,
    tokenizer: Tokenizer,
    source: ProblemSource,
    problems: Sequence[Problem],
    sampling: Sampling,
    samples: int,
    seed: int,
    listener: ProgressListener | None = None,
) -> tuple[list[RolloutTree], Counter[str]]:
    """Trees with ``samples`` graded responses to each problem, and what was counted on the way.

    A problem whose prompt does not fit has a tree without samples, and so counts as failed.
    """
    counts: Counter[str] = Counter()
    drawing = Drawing(engine, tokenizer, source, sampling, Purpose.EVALUATION, seed, counts, listener)
    trees = [RolloutTree(problem, encode_prompt(problem, tokenizer)) for problem in problems]
    for tree in trees:
        if remaining_tokens(sampling, tree.prompt, (), engine.capabilities.context) < 1:
            counts["prompt_too_long"] += 1
        else:
            drawing.ask(tree, (), samples)
    while drawing.collect():
        pass
    return trees, counts


def problem_rewards(trees: Sequence[RolloutTree]) -> torch.Tensor:
    """``[P]`` each problem's mean reward; 0 where no response could be graded."""
    return torch.tensor([tree.node(()).value or 0.0 for tree in trees], dtype=torch.float64)


def result(rate: SuccessRate) -> Result:
    """The reading of a metric, reduced over ranks."""
    values = rate.compute()
    return Result(float(values["accuracy"]), float(values["low"]), float(values["high"]), int(values["n"]))
