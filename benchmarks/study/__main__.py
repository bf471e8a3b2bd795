"""Methods at equal tokens: learning curves of every arm on every task, in a table and a picture.

    python benchmarks/study benchmarks/study/compare.yaml        what `make compare` runs
    python benchmarks/study benchmarks/study/full.yaml           the whole study; stopped, it goes on where it was
    python benchmarks/study benchmarks/study/full.yaml --so-far  the table and picture of what is finished, without runs

Success is calculated, not sampled. Runs are paired by seed: the same warm start, problems and adapter. Writes
benchmarks/results/study-NAME.json and study-NAME.png.
"""

import argparse
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from statistics import mean
from typing import Any

import paired

from runs import ROOT, Point, Study, folder_of, points, run

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
    rows: list[dict[str, Any]] = []
    for task, arms in curves.items():
        budget = min(its[-1].generated for found in arms.values() for its in found)
        base = next(iter(arms.values()))
        for arm, found in arms.items():
            areas = [paired.area(its, budget) for its in found]
            reached = [paired.tokens_to(its, study.threshold) for its in found]
            row: dict[str, Any] = {
                "task": task,
                "arm": arm,
                "at_start": mean(its[0].success for its in found),
                "success": [mean(paired.success_at(its, share * budget) for its in found) for share in (0.25, 0.5, 1)],
                "area": mean(areas),
                "budget": budget,
                "steps": mean(its[-1].steps for its in found),
                "to_threshold": reached,
            }
            to_base = [paired.tokens_to(its, study.threshold) for its in base]
            if arm != next(iter(arms)):
                if len(found) > 1:
                    row["p"] = paired.p_value([a - paired.area(b, budget) for a, b in zip(areas, base, strict=True)])
                if None not in [*reached, *to_base]:
                    row["ratio"] = paired.ratio([its or 0 for its in to_base], [its or 0 for its in reached])
            rows.append(row)
    for row, p in zip(
        [row for row in rows if "p" in row], paired.holm([row["p"] for row in rows if "p" in row]), strict=True
    ):
        row["p_corrected"] = p
    return rows


def show(study: Study, rows: list[dict[str, Any]]) -> None:
    print(
        "Success at the start, and at 1/4, 1/2 and all of the generated tokens; each arm against the first of its task"
    )
    to = f"tokens to {study.threshold:.0%}"
    print(f"{'task':12} {'arm':38} seeds start    1/4    1/2    all   area {to:>16}  base / arm, corrected p")
    for row in rows:
        levels = " ".join(f"{100 * value:6.1f}" for value in (row["at_start"], *row["success"], row["area"]))
        reached = [its for its in row["to_threshold"] if its is not None]
        to = f"{mean(reached):,.0f}" if len(reached) == len(row["to_threshold"]) else "not reached"
        interval = " ({1:.2f} to {2:.2f})" if "p" in row else ""
        times = ("{0:.2f}" + interval).format(*row["ratio"]) if "ratio" in row else ""
        p = f"{row['p_corrected']:.3f}" if "p_corrected" in row else ""
        print(f"{row['task']:12} {row['arm']:38} {len(row['to_threshold']):5} {levels} {to:>16}  {times} {p}")


def draw(study: Study, curves: Curves, path: Path) -> None:
    """Every run's curve, a panel for each task and a colour for each arm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(6 * len(curves), 4), squeeze=False)
    for panel, (task, arms) in zip(panels[0], curves.items(), strict=True):
        for number, (arm, found) in enumerate(arms.items()):
            for index, its in enumerate(found):
                tokens, success = [p.generated for p in its], [100 * p.success for p in its]
                panel.plot(tokens, success, color=f"C{number}", marker=".", label=arm if index == 0 else None)
        panel.set(title=task, xlabel="generated tokens", ylabel="success, %", ylim=(0, 100))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--so-far", action="store_true")
    arguments = parser.parse_args()
    study = Study.read(arguments.study)
    curves, rates = so_far(study) if arguments.so_far else all_runs(study)
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
