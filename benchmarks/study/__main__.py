"""Methods at equal tokens: learning curves of every arm on every task, in a table and a picture.

    python benchmarks/study benchmarks/study/compare.yaml        what `make compare` runs
    python benchmarks/study benchmarks/study/full.yaml           the whole study; stopped, it goes on where it was
    python benchmarks/study benchmarks/study/full.yaml --so-far  the table and picture of what is finished, without runs

Success is calculated, not sampled. Runs are paired by seed: the same warm start, problems and adapter. Writes
benchmarks/results/study-NAME.json and study-NAME.png; runs that the file holds already are not made again.
"""

import argparse
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from queue import SimpleQueue
from statistics import mean, median
from typing import Any

import numpy as np
import paired

from runs import ROOT, Point, Study, folder_of, points, restore, run

RESULTS = ROOT / "benchmarks" / "results"
Curves = dict[str, dict[str, list[list[Point]]]]
Rates = dict[tuple[str, str], float | None]


class Pool:
    """Runs at once, one on each core."""

    def __init__(self, study: Study) -> None:
        self.study, self._cores = study, SimpleQueue[int]()
        for core in sorted(os.sched_getaffinity(0)):
            self._cores.put(core)
        self._threads = ThreadPoolExecutor(self._cores.qsize())

    def start(self, task: str, arm: str, seed: int, rate: float | None) -> Future[list[Point]]:
        return self._threads.submit(self._run, task, arm, seed, rate)

    def _run(self, task: str, arm: str, seed: int, rate: float | None) -> list[Point]:
        core = self._cores.get()
        try:
            return run(self.study, task, arm, seed, rate, core)
        finally:
            self._cores.put(core)


def tune(pool: Pool, study: Study) -> None:
    """Run every arm at every learning rate on the tuning seeds."""
    places = [(task, arm) for task in study.tasks for arm in study.arms_of(task)]
    started = [
        pool.start(*place, seed, rate) for place in places for rate in study.rates for seed in study.tuning_seeds
    ]
    for its in started:
        its.result()


def rates_of(study: Study) -> Rates:
    """The learning rate of every arm on every task: the greatest area on the tuning seeds, of the rates that have run.

    The area goes to the end of the budget, so that a rate at which a policy soars and then collapses is not taken.
    """
    chosen: Rates = {}
    for task in study.tasks:
        for arm in study.arms_of(task):
            areas: dict[float, float] = {}
            for rate in study.rates:
                folders = [folder_of(study, task, arm, seed, rate) for seed in study.tuning_seeds]
                if all((folder / "finished").exists() for folder in folders):
                    areas[rate] = mean(paired.area(points(folder), study.tokens) for folder in folders)
            chosen[task, arm] = max(areas, key=lambda rate: areas[rate]) if areas else None
    return chosen


def all_runs(study: Study) -> tuple[Curves, Rates]:
    """Every run of a study; seed by seed, so that a study that is stopped has whole pairs."""
    pool = Pool(study)
    tune(pool, study)
    rates = rates_of(study)
    started = {
        (task, arm, seed): pool.start(task, arm, seed, rates[task, arm])
        for task in study.tasks
        for seed in study.seeds
        for arm in study.arms_of(task)
    }
    return {
        task: {arm: [started[task, arm, seed].result() for seed in study.seeds] for arm in study.arms_of(task)}
        for task in study.tasks
    }, rates


def so_far(study: Study) -> tuple[Curves, Rates]:
    """What is finished of a study: on each task the seeds that every arm has run."""
    curves: Curves = {}
    rates = rates_of(study)
    for task in study.tasks:
        arms = study.arms_of(task)
        by_seed = [[folder_of(study, task, arm, seed, rates[task, arm]) for arm in arms] for seed in study.seeds]
        whole = [folders for folders in by_seed if all((folder / "finished").exists() for folder in folders)]
        if whole:
            curves[task] = {arm: [points(folders[number]) for folders in whole] for number, arm in enumerate(arms)}
    return curves, rates


def compare(study: Study, curves: Curves) -> list[dict[str, Any]]:
    """A row for each arm on each task, arms against the first one."""
    rows = [
        row_of(study, task, arm, found, next(iter(arms.values())))
        for task, arms in curves.items()
        for arm, found in arms.items()
    ]
    compared = [row for row in rows if "p" in row]
    for row, p in zip(compared, paired.holm([row["p"] for row in compared]), strict=True):
        row["p_corrected"] = p
    return rows


def row_of(study: Study, task: str, arm: str, found: list[list[Point]], base: list[list[Point]]) -> dict[str, Any]:
    """An arm's figures, and those of the base up to the same number of generated tokens.

    What a run needs that does not reach the threshold: see :func:`paired.spent`.
    """
    budget = min(its[-1].generated for its in (*found, *base))
    areas = [paired.area(its, budget) for its in found]
    reached = [paired.tokens_to(its, study.threshold) for its in found]
    row: dict[str, Any] = {
        "task": task,
        "arm": arm,
        "at_start": mean(its[0].success for its in found),
        "success": [mean(paired.success_at(its, share * budget) for its in found) for share in (0.25, 0.5, 1)],
        "base_success": mean(paired.success_at(its, budget) for its in base),
        "area": mean(areas),
        "budget": budget,
        "prefilled": mean(its[-1].prefilled / max(its[-1].generated, 1) for its in found),
        "steps": mean(its[-1].steps for its in found),
        "to_threshold": reached,
    }
    if found is not base:
        pairs = [paired.spent(a, b, study.threshold) for a, b in zip(base, found, strict=True)]
        row["ratio"] = paired.ratio([theirs for theirs, _ in pairs], [own for _, own in pairs])
        if len(found) > 1 and arm not in study.explain:
            row["p"] = paired.p_value([a - paired.area(b, budget) for a, b in zip(areas, base, strict=True)])
    return row


def show(study: Study, rows: list[dict[str, Any]]) -> None:
    print("Success at the start, at 1/4, 1/2 and all of the generated tokens, and of the base there; mean over seeds.")
    print("Tokens to the threshold: median; base / arm: geometric mean and 95 % interval. A run that does not reach it")
    print("counts with all its tokens, and where that is an arm's, the base's with no more. p of the areas, paired by")
    print("seed, corrected for the number of comparisons (Holm).")
    to = f"tokens to {study.threshold:.0%}"
    print(
        f"{'task':10} {'arm':38} {'tokens':>7} start    1/4    1/2    all   base   area {to:>14} reached  base / arm  p"
    )
    for row in rows:
        values = (row["at_start"], *row["success"], row["base_success"], row["area"])
        levels = " ".join(f"{100 * value:6.1f}" for value in values)
        reached, runs = [its for its in row["to_threshold"] if its is not None], len(row["to_threshold"])
        middle = median([its or inf for its in row["to_threshold"]])
        to = f"{middle:,.0f}" if middle < inf else "not reached"
        interval = " ({1:.2f} to {2:.2f})" if len(row["to_threshold"]) > 1 else ""
        times = ("{0:.2f}" + interval).format(*row["ratio"]) if "ratio" in row else ""
        p = f"{row['p_corrected']:.3f}" if "p_corrected" in row else ""
        name = f"{row['task']:10} {row['arm']:38} {row['budget']:7,}"
        print(f"{name} {levels} {to:>14} {len(reached):3} of {runs}  {times}  {p}")


def draw(study: Study, curves: Curves, path: Path) -> None:
    """The mean curve of each arm, and every run's behind it; a panel for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(6 * len(curves), 4), squeeze=False)
    for panel, (task, arms) in zip(panels[0], curves.items(), strict=True):
        for number, (arm, found) in enumerate(arms.items()):
            for its in found:
                tokens, success = [p.generated for p in its], [100 * p.success for p in its]
                panel.plot(tokens, success, color=f"C{number}", alpha=0.25 if len(found) > 1 else 1, linewidth=1)
            places = np.linspace(0, min(its[-1].generated for its in found), 40)
            middle = np.mean([[100 * paired.success_at(its, at) for at in places] for its in found], axis=0)
            panel.plot(places, middle, color=f"C{number}", linewidth=2.5, label=arm)
        panel.set(title=task, xlabel="generated tokens", ylabel="success, %", ylim=(0, 100))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--so-far", action="store_true")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="these alone, beside the first, which is the base")
    arguments = parser.parse_args()
    study = Study.read(arguments.study)
    if arguments.arms:
        base, *_ = study.arms
        if unknown := set(arguments.arms) - set(study.arms):
            parser.error(f"no arm is called {', '.join(sorted(unknown))}; there are: {', '.join(study.arms)}")
        study = replace(study, arms={name: its for name, its in study.arms.items() if name in (base, *arguments.arms)})
    restore(study, RESULTS / f"study-{study.name}.json")
    curves, rates = so_far(study) if arguments.so_far else all_runs(study)
    if not curves:
        parser.exit(message=f"{study.name}: no seed has been run by every arm yet.\n")
    rows = compare(study, curves)
    show(study, rows)
    RESULTS.mkdir(exist_ok=True)
    kept = {
        task: {arm: [[asdict(p) for p in its] for its in found] for arm, found in arms.items()}
        for task, arms in curves.items()
    }
    chosen = {f"{task}, {arm}": rate for (task, arm), rate in rates.items()}
    written = {"study": asdict(study), "rates": chosen, "rows": rows, "curves": kept}
    (RESULTS / f"study-{study.name}.json").write_text(json.dumps(written, indent=1) + "\n")
    draw(study, curves, RESULTS / f"study-{study.name}.png")
    print(f"Curves: {(RESULTS / f'study-{study.name}.png').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
