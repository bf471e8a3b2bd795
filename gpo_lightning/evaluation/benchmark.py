"""What is asked in an evaluation, and the served policy's responses to it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.engines import Engine, Purpose, Sampling
from gpo_lightning.engines.engine import remaining_tokens
from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.rollouts import ProgressListener, RolloutTree
from gpo_lightning.rollouts.judge import Judge
from gpo_lightning.rollouts.scheduler import Draws, Road, Scheduler
from gpo_lightning.rollouts.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Problems, and how they are asked.

    Args:
        name: under which results are shown and kept.
        source: grades the responses.
        problems: those that are asked, over all ranks.
        available: how many the source has.
        sampling: how responses are drawn.
        samples: responses to each problem.
        k: sizes for pass@k and maj@k, each at most ``samples``.
    """

    name: str
    source: ProblemSource
    problems: tuple[Problem, ...]
    available: int
    sampling: Sampling
    samples: int = 1
    k: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.problems:
            raise ConfigError(
                f"Benchmark {self.name!r} has no held-out problems to evaluate on. Give some (of "
                "few rows in one file none may be held out), or leave BenchmarkEvaluation out."
            )
        if self.samples < 1 or any(not 1 <= k <= self.samples for k in self.k):
            raise ConfigError(
                f"Benchmark {self.name!r}: k is {list(self.k)}, but {self.samples} responses are drawn to each "
                "problem; every k must lie between 1 and samples. Raise samples."
            )
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ConfigError(
                f"Benchmark {self.name!r}: samples is {self.samples} at temperature 0, but greedy responses are all "
                "the same. Set samples to 1, or a sampling.temperature above 0."
            )

    @property
    def categories(self) -> tuple[str, ...]:
        """Of its problems, sorted; empty where there are not two to tell apart."""
        found = sorted({category for problem in self.problems if (category := category_of(problem))})
        return tuple(found) if len(found) > 1 else ()


def category_of(problem: Problem) -> str:
    """The heading of the table a problem is counted under; empty where it has none."""
    return str(problem.metadata.get("category", ""))


def subset(problems: Sequence[Problem], size: int | None, seed: int = 0) -> tuple[Problem, ...]:
    """``size`` of the problems in their own order; all of them where there are no more, or without a size.

    Each problem draws a number from its id and the seed, and the lowest are taken. So the choice is the same on every
    rank, in every evaluation and for every order of the file, and a larger subset holds the smaller ones. Nothing is
    balanced: categories come as chance will have it.
    """
    if size is None or size >= len(problems):
        return tuple(problems)
    drawn = sorted(range(len(problems)), key=lambda index: derive_seed("subset", seed, problems[index].id))
    return tuple(problems[index] for index in sorted(drawn[:size]))


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
    judge = Judge(tokenizer, source, counts)
    scheduler = Scheduler(engine, judge, sampling, seed, counts, "evaluation", listener)
    scheduler.expected = len(problems)
    trees = [RolloutTree(problem, encode_prompt(problem, tokenizer)) for problem in problems]

    def road(draws: Draws) -> Road:
        if remaining_tokens(sampling, draws.tree.prompt, (), engine.capabilities.context) < 1:
            counts["prompt_too_long"] += 1
            return
        draws.ask(Purpose.EVALUATION, (), samples)
        yield from draws.back()

    scheduler.run_all((draws, road(draws)) for draws in map(scheduler.open, trees))
    return trees, counts
