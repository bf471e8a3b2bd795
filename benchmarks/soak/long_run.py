"""One run of many iterations, in which nothing may grow."""

import gc
import json
import os
import threading
from pathlib import Path
from typing import Any

from processes import children_of, temporary_files_in
from run import child, fit

from gpo_lightning.module import GPOModule


def long_run(iterations: int, folder: Path) -> dict[str, Any]:
    """Memory, open files, threads, processes and temporary files over many tiny iterations."""
    folder.mkdir(parents=True)
    record = folder / "record.json"
    with temporary_files_in(folder / "temporary") as leftovers:

        def work() -> None:
            readings: list[tuple[int, float, int, int, int, int]] = []

            def note(self: GPOModule) -> None:
                gc.collect()
                resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
                files, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
                children = len(children_of(os.getpid()))
                readings.append((self.trainer.current_epoch, resident, files, threads, children, len(leftovers())))
                record.write_text(json.dumps(readings))

            GPOModule.on_train_epoch_end = note  # type: ignore[method-assign]
            length = f"--trainer.max_epochs={iterations}"
            fit(folder, length, "--data.problems.steps=2", "--data.sampling.max_tokens=16")

        status = child(work)
        left_over = leftovers()
    readings = json.loads(record.read_text())
    # The first iterations fill caches.
    later = readings[len(readings) // 4 :]
    slope = _slope([(r[0], r[1]) for r in later])
    return {
        "iterations": len(readings),
        "finished": status == 0,
        "resident_mib": [round(later[0][1], 1), round(later[-1][1], 1)],
        "mib_an_iteration": round(slope, 4),
        "open_files": [later[0][2], later[-1][2]],
        "threads": [later[0][3], later[-1][3]],
        "children": [later[0][4], later[-1][4]],
        "temporary_files": [later[0][5], later[-1][5]],
        "left_over": left_over,
    }


def _slope(points: list[tuple[float, float]]) -> float:
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
