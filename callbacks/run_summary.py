"""The table at the end of a run, and the same as ``summary.json``."""

import json
from collections import Counter
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from lightning import Callback, Trainer
from rich.console import Console
from rich.table import Table

from gpo_lightning.callbacks.benchmark_evaluation import BenchmarkEvaluation
from gpo_lightning.evaluation import Estimate
from gpo_lightning.rollouts import gather
from gpo_lightning.runs import run_directory

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule


class RunSummary(Callback):
    """Prints accuracy before and after with 95 % intervals, tokens by purpose and seconds by phase.

    ``summary.json`` holds ``before`` and ``after`` (``accuracy``, ``low``, ``high``, ``n``), ``tokens`` (generated, by
    purpose), ``prefilled`` and ``cached`` likewise, ``seconds`` (of rank 0, by phase), ``incidents`` (what went
    wrong and was mended), ``engine`` and ``iterations``.
    Needs ``BenchmarkEvaluation`` among the callbacks for accuracies.
    """

    def __init__(self) -> None:
        self._begin = perf_counter()
        self._batch = 0.0
        self._training = 0.0
        self._start = 0.0
        self._earlier = 0.0

    def setup(self, trainer: Trainer, pl_module: "GPOModule", stage: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What a person waits for includes imports, the engine's start and the first evaluation."""
        began: float | None = getattr(trainer, "began", None)
        self._begin = perf_counter() - (0.0 if began is None else time() - began)
        self._start = perf_counter() - self._begin

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._batch = perf_counter()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._training += perf_counter() - self._batch

    def state_dict(self) -> dict[str, Any]:
        return {"training": self._training, "total": self._total()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._training, self._earlier = state_dict["training"], state_dict["total"]

    def _total(self) -> float:
        """Seconds of this run and, where it was resumed, of what went before."""
        return self._earlier + perf_counter() - self._begin

    def on_fit_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        directory = run_directory(trainer)
        summary = self._summary(trainer, pl_module)
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "summary.json").write_text(json.dumps(summary, indent=2))
            print_summary(summary, directory)

    def _summary(self, trainer: Trainer, module: "GPOModule") -> dict[str, Any]:
        ledgers = gather([module.data.engine.ledger.state_dict()])
        seconds = {phase: round(value, 2) for phase, value in module.data.clock.seconds.items()}
        seconds = {"imports": round(self._start, 2), **seconds, "train": round(self._training, 2)}
        seconds["total"] = round(self._total(), 2)
        incidents = sum(gather([module.data.incidents]), Counter[str]())
        before, after = _first_and_last(trainer)
        return {
            "before": before and _accuracy(before),
            "after": after and _accuracy(after),
            "tokens": _by_purpose(ledgers, "generated"),
            "prefilled": _by_purpose(ledgers, "prefilled"),
            "cached": _by_purpose(ledgers, "cached"),
            "seconds": seconds,
            "incidents": dict(sorted(incidents.items())),
            "engine": type(module.data.engine).__name__,
            "loss": type(module.loss).__name__,
            "experience": type(module.data.builder(module.loss)).__name__,
            "iterations": trainer.current_epoch,
            "steps": trainer.global_step,
        }


def _first_and_last(trainer: Trainer) -> tuple[Estimate | None, Estimate | None]:
    """The first benchmark's earliest and latest accuracies."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, BenchmarkEvaluation) and callback.results:
            reports = list(next(iter(callback.results.values())).values())
            return reports[0].overall.accuracy, reports[-1].overall.accuracy
    return None, None


def _accuracy(measured: Estimate) -> dict[str, float]:
    return {"accuracy": measured.mean, "low": measured.low, "high": measured.high, "n": measured.n}


def _by_purpose(ledgers: list[dict[str, dict[str, int]]], kind: str) -> dict[str, int]:
    totals = {purpose: sum(ledger[purpose][kind] for ledger in ledgers) for purpose in ledgers[0]}
    return {purpose: total for purpose, total in totals.items() if total}


def print_summary(summary: dict[str, Any], directory: Path) -> None:
    """The summary as a table on the terminal."""
    table = Table(title=f"{summary['iterations']} iterations, {summary['steps']} optimiser steps, {summary['engine']}")
    table.add_column("")
    table.add_column("", justify="right")
    for moment in ("before", "after"):
        if summary[moment]:
            measured = summary[moment]
            accuracy = Estimate(measured["accuracy"], measured["low"], measured["high"], measured["n"])
            table.add_row(f"held-out accuracy {moment}", str(accuracy))
    table.add_section()
    for purpose, tokens in summary["tokens"].items():
        table.add_row(f"tokens generated: {purpose}", f"{tokens:,}")
    table.add_section()
    for event, count in summary.get("incidents", {}).items():
        table.add_row(f"mended: {event.replace('_', ' ')}", f"{count:,}")
    for phase, seconds in summary["seconds"].items():
        table.add_row(f"seconds: {phase}", f"{seconds:,.1f}")
    console = Console()
    console.print(table)
    console.print(f"Everything is in {directory}", soft_wrap=True)
    page = directory / "report.html"
    if page.exists():
        console.print(f"Open {page} in a browser: where solutions turned, and how sure that is.", soft_wrap=True)
