"""Evaluates the policy on benchmarks before, during and after training, and in ``gpo validate`` and ``gpo test``."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng

from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.engines import Sampling
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import Benchmark, Report
from gpo_lightning.evaluation.benchmark import subset
from gpo_lightning.evaluation.report import Figures, Tally
from gpo_lightning.evaluation.tables import markdown
from gpo_lightning.evaluation_data import HELDOUT
from gpo_lightning.problems import ProblemSource
from gpo_lightning.rollouts import RolloutTree, write_trees
from gpo_lightning.runs import run_directory
from gpo_lightning.runs.file_names import file_name

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule

_KEPT = "evaluations"
"""Entry of a checkpoint."""


class BenchmarkEvaluation(Callback):
    """Measures benchmarks through the rollout engine and keeps every response.

    Writes ``evaluation/results.json``, the same as tables in ``evaluation/results.md``, and the responses in
    ``evaluation/NAME-MOMENT-rankN.parquet`` to the run directory, and logs ``eval/NAME/FIGURE``. A benchmark's
    ``heldout()`` problems are used. Training learns the same with and without it.

    ``ModelCheckpoint(monitor="eval/heldout/accuracy", mode="max")`` and ``EarlyStopping`` find these figures; give
    ``every_n_epochs=1``, so that every epoch has its own.

    Args:
        benchmarks: problem sources by name; a source that is ``null`` is ``data.problems``. ``null`` alone is that one,
            named ``heldout``.
        every_n_epochs: also evaluate after every so many iterations.
        on_start: evaluate the untrained policy.
        on_end: evaluate the trained one.
        samples: responses to each problem; ``null`` takes ``data.evaluation_samples``.
        sampling: how they are drawn; ``null`` takes ``data.evaluation``, which is greedy by default.
        max_problems: evaluate on a random subset of so many problems of each benchmark, always the same one.
        subset_seed: draws the subset; apart from ``seed_everything``, so that runs compare on the same problems.
        k: sizes for pass@k and maj@k; ``null`` is ``samples`` where that is above 1.
    """

    def __init__(
        self,
        benchmarks: dict[str, ProblemSource | None] | None = None,
        every_n_epochs: int | None = None,
        on_start: bool = True,
        on_end: bool = True,
        samples: int | None = None,
        sampling: Sampling | None = None,
        max_problems: int | None = None,
        subset_seed: int = 0,
        k: list[int] | None = None,
    ) -> None:
        self.benchmarks, self.every_n_epochs = benchmarks, every_n_epochs
        self.on_start, self.on_end = on_start, on_end
        self.samples, self.sampling, self.k = samples, sampling, k
        self.max_problems, self.subset_seed = max_problems, subset_seed
        self.results: dict[str, dict[str, Report]] = {}
        self._asked: list[Benchmark] = []
        if sampling is not None:
            sampling.checked("BenchmarkEvaluation.sampling")
        if max_problems is not None and max_problems < 1:
            raise ConfigError(f"BenchmarkEvaluation.max_problems is {max_problems}; it must be at least 1, or null.")

    @property
    def figure(self) -> str:
        """Name of what :meth:`accuracy` gives: that of the one benchmark, or the mean of several."""
        names = ",".join(self._names)
        return f"eval/{names}/accuracy" if len(self._names) == 1 else f"mean of eval/{{{names}}}/accuracy"

    def accuracy(self, iterations: int) -> float | None:
        """Mean accuracy over the benchmarks after so many iterations; ``None`` where it was not measured then."""
        reports = [self.results.get(name, {}).get(str(iterations)) for name in self._names]
        found = [report.overall.accuracy.mean for report in reports if report is not None]
        return sum(found) / len(found) if len(found) == len(reports) else None

    @property
    def _names(self) -> list[str]:
        return sorted(self.benchmarks or {HELDOUT: None})

    def setup(self, trainer: Trainer, pl_module: "GPOModule", stage: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Choose the problems, before any weights are loaded; ``validate`` and ``test`` are told to ask them."""
        if stage == "predict":
            return
        with isolate_rng():
            self._asked = self._choose(pl_module.data)
        others = [other for other in evaluations_of(trainer) if other is not self]
        if twice := {name for other in others for name in other._names} & set(self._names):
            raise ConfigError(
                f"Two BenchmarkEvaluation callbacks have a benchmark named {min(twice)!r}. Give one another name"
                + (": benchmarks: {again: null}." if min(twice) == HELDOUT else ".")
            )
        pl_module.data.expected += self._asked
        if stage in ("validate", "test"):
            pl_module.data.benchmarks += self._asked
            # Its own tables are printed; Lightning's would say each figure once for every benchmark there is.
            trainer.test_loop.verbose = trainer.validate_loop.verbose = False

    def _choose(self, data: RolloutDataModule) -> list[Benchmark]:
        if not self.benchmarks:
            return [self._ask(data.heldout)]
        chosen: list[Benchmark] = []
        for name, given in self.benchmarks.items():
            if given is None:
                chosen.append(self._ask(replace(data.heldout, name=name)))
                continue
            problems = tuple(given.heldout())
            benchmark = Benchmark(name, given, problems, len(problems), data.evaluation, data.evaluation_samples)
            chosen.append(self._ask(benchmark))
        return chosen

    def _ask(self, benchmark: Benchmark) -> Benchmark:
        """The benchmark with this callback's own settings."""
        samples = self.samples or benchmark.samples
        k = ([samples] if samples > 1 else []) if self.k is None else sorted(set(self.k))
        return replace(
            benchmark,
            problems=subset(benchmark.problems, self.max_problems, self.subset_seed),
            sampling=self.sampling or benchmark.sampling,
            samples=samples,
            k=tuple(k),
        )

    def on_fit_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.on_start:
            self._evaluate(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        done = trainer.current_epoch + 1
        if self.every_n_epochs and done % self.every_n_epochs == 0:
            self._evaluate(trainer, pl_module, done)

    def on_train_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.on_end:
            self._evaluate(trainer, pl_module, trainer.current_epoch)
            if self.benchmarks:
                self._print(trainer)

    def _evaluate(self, trainer: Trainer, module: "GPOModule", iterations: int) -> None:
        """Measure after ``iterations`` iterations, unless a resumed run brought that result along."""
        moment = str(iterations)
        for benchmark in self._asked:
            if report := self.results.get(benchmark.name, {}).get(moment):
                _tell_callbacks(trainer, _scalars(benchmark.name, report))
                continue
            trees = module.data.respond(module.data.share(benchmark.problems), benchmark)
            tally = Tally(benchmark).to(module.device)
            tally.update(trees)
            _keep_responses(trainer, f"{benchmark.name}-{iterations:04d}", trees)
            self._keep(trainer, benchmark.name, moment, tally.report())
            accuracy = self.results[benchmark.name][moment].overall.accuracy
            rank_zero_info(f"{benchmark.name} after {iterations} iterations: {accuracy}")
        self._write(trainer)

    def on_validation_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        trainer: Trainer,
        pl_module: "GPOModule",
        outputs: dict[str, list[RolloutTree]],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep_batch(trainer, pl_module, outputs["trees"], dataloader_idx)

    def on_test_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        trainer: Trainer,
        pl_module: "GPOModule",
        outputs: dict[str, list[RolloutTree]],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._keep_batch(trainer, pl_module, outputs["trees"], dataloader_idx)

    def _keep_batch(self, trainer: Trainer, module: "GPOModule", trees: list[RolloutTree], index: int) -> None:
        benchmark = module.data.evaluated[index]
        if benchmark.name in self._names and not _fitting(trainer):
            _keep_responses(trainer, f"{benchmark.name}-{_command(trainer)}", trees)

    def on_validation_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not _fitting(trainer):
            self._take(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._take(trainer, pl_module)

    def _take(self, trainer: Trainer, module: "GPOModule") -> None:
        """Keep what ``gpo validate`` or ``gpo test`` measured."""
        for benchmark in self._asked:
            if benchmark.name in module.reports:
                self._keep(trainer, benchmark.name, _command(trainer), module.reports[benchmark.name])
        self._write(trainer)
        self._print(trainer)

    def _keep(self, trainer: Trainer, name: str, moment: str, report: Report) -> None:
        self.results.setdefault(name, {})[moment] = report
        scalars = _scalars(name, report)
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)
        _tell_callbacks(trainer, scalars)

    def _write(self, trainer: Trainer) -> None:
        """Every such callback's results, in one file."""
        directory = _directory(trainer)
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
            results = {name: moments for other in evaluations_of(trainer) for name, moments in other.results.items()}
            (directory / "results.json").write_text(json.dumps(_plain(results), indent=2))
            (directory / "results.md").write_text(markdown(results))

    def _print(self, trainer: Trainer) -> None:
        directory = _directory(trainer)
        if trainer.is_global_zero:
            print(f"\n{markdown(self.results)}\nTables and responses: {directory}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: "GPOModule", checkpoint: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Not as `state_dict`: Lightning would allow one such callback only, and several may stand side by side.
        checkpoint.setdefault(_KEPT, {}).update(_plain(self.results))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: "GPOModule", checkpoint: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.results = {
            name: {moment: Report.from_dict(report) for moment, report in reports.items()}
            for name, reports in checkpoint.get(_KEPT, {}).items()
            if name in self._names
        }


def _plain(results: dict[str, dict[str, Report]]) -> dict[str, Any]:
    return {name: {moment: report.to_dict() for moment, report in reports.items()} for name, reports in results.items()}


def _tell_callbacks(trainer: Trainer, scalars: dict[str, float]) -> None:
    """Where ModelCheckpoint(monitor=...) and EarlyStopping(monitor=...) look."""
    trainer.callback_metrics.update({key: torch.tensor(value) for key, value in scalars.items()})


def evaluations_of(trainer: Trainer) -> list[BenchmarkEvaluation]:
    """Those that stand side by side, in their order."""
    return [callback for callback in trainer.callbacks if isinstance(callback, BenchmarkEvaluation)]  # pyright: ignore[reportAttributeAccessIssue]


def _fitting(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit"


def _command(trainer: Trainer) -> str:
    """``validate`` or ``test``."""
    return str(trainer.state.fn and trainer.state.fn.value)


def _directory(trainer: Trainer) -> Path:
    return run_directory(trainer) / "evaluation"


def _keep_responses(trainer: Trainer, name: str, trees: list[RolloutTree]) -> None:
    write_trees(_directory(trainer) / f"{file_name(name)}-rank{trainer.global_rank}.parquet", trees)


def _scalars(name: str, report: Report) -> dict[str, float]:
    """``accuracy`` with its interval, the means of the other figures, and accuracy by category."""
    accuracy = report.overall.accuracy
    scalars = {f"eval/{name}/{key}": value for key, value in _means(report.overall).items()}
    scalars |= {f"eval/{name}/low": accuracy.low, f"eval/{name}/high": accuracy.high, f"eval/{name}/n": accuracy.n}
    scalars[f"eval/{name}/ungraded"] = report.overall.ungraded
    if report.macro is not None:
        scalars |= {f"eval/{name}/macro/{key}": value for key, value in _means(report.macro).items()}
    for category, figures in report.categories.items():
        scalars[f"eval/{name}/accuracy/{category}"] = figures.accuracy.mean
    return scalars


def _means(figures: Figures) -> dict[str, float]:
    # Loggers such as MLflow allow no @ in a name.
    return {key.replace("@", "_at_"): mean.mean for key, mean in figures.means.items()}
