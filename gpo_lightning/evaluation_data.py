"""The evaluation half of a data module: which benchmarks are asked, and the policy's graded responses to them."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

from lightning import LightningDataModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from gpo_lightning.engines import Engine, Sampling
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import Benchmark
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.policy import Policy
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.rollouts.clock import Clock
from gpo_lightning.rollouts.progress import Progress, ProgressListener
from gpo_lightning.rollouts.seeds import derive_seed
from gpo_lightning.training import OpaqueBatch

T = TypeVar("T")

HELDOUT = "heldout"
"""Name of the benchmark that is the held-out part of ``data.problems``."""


class EvaluationData(LightningDataModule):
    """Loaders of benchmarks for ``validate``, ``test`` and ``predict``; what trains and serves is its subclass's.

    Args:
        problems: where questions come from.
        evaluation: how tokens are drawn in evaluation.
        samples: responses to each held-out problem.
        seed: of the run.
    """

    def __init__(self, problems: ProblemSource, evaluation: Sampling, samples: int, seed: int) -> None:
        super().__init__()
        self.problems, self.evaluation, self.evaluation_samples, self.seed = problems, evaluation, samples, seed
        self.benchmarks: list[Benchmark] = []
        self.expected: list[Benchmark] = []  # what callbacks will ask in the course of training
        self.listener: ProgressListener | None = None
        self.clock = Clock()
        self._engine: Engine
        self._rank, self._ranks = 0, 1

    def _serve(self, policy: Policy, version: int, problems: Sequence[Problem], sampling: Sampling) -> None:
        """Have the engine serve ``policy``'s present weights."""
        raise NotImplementedError

    def tell(self, phase: str) -> None:
        """Say that a phase begins of which nobody knows how long it takes."""
        if self.listener is not None:
            self.listener(Progress(phase, 0, 0, 0))

    @cached_property
    def heldout(self) -> Benchmark:
        """The held-out part of ``data.problems`` as a benchmark."""
        with isolate_rng():
            problems = tuple(self.problems.heldout())
        if not problems:
            raise ConfigError("data.problems yields no held-out problems.")
        return Benchmark(HELDOUT, self.problems, problems, len(problems), self.evaluation, self.evaluation_samples)

    @property
    def evaluated(self) -> list[Benchmark]:
        """What ``validate`` and ``test`` evaluate: the benchmarks callbacks have named, else the held-out problems."""
        return self.benchmarks or [self.heldout]

    def respond(self, problems: Sequence[Problem], benchmark: Benchmark | None = None) -> list[RolloutTree]:
        """Graded responses to problems of a benchmark by the policy's present weights.

        No random state outside is touched, so that a run learns the same whether or not it is evaluated.
        """
        benchmark = benchmark or self.heldout
        trainer = cast(Trainer, self.trainer)
        policy = cast(Policy, cast(Any, trainer.lightning_module).policy)
        self._serve(policy, trainer.current_epoch, benchmark.problems, benchmark.sampling)
        with self.clock("evaluation"), isolate_rng():
            trees, _ = respond(
                self._engine,
                policy.tokenizer,
                benchmark.source,
                problems,
                benchmark.sampling,
                benchmark.samples,
                derive_seed(self.seed, "evaluation"),
                self.listener,
            )
        self._engine.offload()
        return trees

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's part of a list."""
        return list(items)[self._rank :: self._ranks]

    def _evaluation_dataloader(self, benchmark: Benchmark) -> DataLoader[OpaqueBatch[list[Problem]]]:
        """All of this rank's problems as one batch, so that the engine sees them together; it may be empty."""
        return DataLoader(cast(Any, [OpaqueBatch(self.share(benchmark.problems))]), batch_size=None)

    def val_dataloader(self) -> list[DataLoader[OpaqueBatch[list[Problem]]]]:
        if cast(Trainer, self.trainer).state.fn == "fit" and not self.benchmarks and not self.problems.heldout():
            return []  # too few problems to hold some out
        return [self._evaluation_dataloader(benchmark) for benchmark in self.evaluated]

    def test_dataloader(self) -> list[DataLoader[OpaqueBatch[list[Problem]]]]:
        return [self._evaluation_dataloader(benchmark) for benchmark in self.evaluated]

    def predict_dataloader(self) -> DataLoader[OpaqueBatch[list[Problem]]]:
        return self._evaluation_dataloader(self.heldout)
