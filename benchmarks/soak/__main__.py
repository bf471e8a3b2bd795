"""Kills a run at random moments, takes it up again, and compares what it leaves with an uninterrupted one, to the bit.

    python benchmarks/soak --kills 20 --cases 20 --engine-kills 10 --iterations 200

One kill for each of 20 kinds of run (losses, processes, what is kept besides the weights) goes on where the soak was
stopped. Kills while an engine starts, SIGTERM with a stopped engine, two runs in one folder, resumption with another
configuration. One run whose vLLM engine and whose grader are killed from outside, again and again; and one of many
iterations, whose memory, files and processes must not grow. A number of 0 leaves a part out; what is run is written
into the JSON beside what was there.

Kills are SIGKILL, at a random moment within a phase; the phases take turns. Children are forked from a process that has
already imported everything, so that most of the time is spent in the run itself.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from engine_kills import engine_kills
from faults import differences, engine_starts, stopped, together
from long_run import long_run
from matrix import matrix
from run import ROOT
from run_kills import kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine-kills", type=int, default=10, help="of the engine's process, and of the grader's")
    parser.add_argument("--iterations", type=int, default=200, help="of the long run")
    parser.add_argument("--cases", type=int, default=20, help="kinds of run of which each is killed once; 36 at most")
    parser.add_argument("--starts", type=int, default=3, help="kills while the engine starts")
    parser.add_argument(
        "--stopped", type=int, default=1, help="0 leaves out SIGTERM to runs that wait for what is stopped"
    )
    parser.add_argument("--together", type=int, default=1, help="0 leaves out two runs in one folder, and differences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    folder = options.folder.absolute()
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    result |= {"machine": "2 cores of a shared x86-64 virtual machine", "seed": options.seed}

    def keep(name: str, found: dict[str, Any]) -> None:
        result[name] = found
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")

    def emptied(name: str) -> Path:
        shutil.rmtree(folder / name, ignore_errors=True)
        return folder / name

    def cases() -> dict[str, Any]:
        known = result.get("matrix", {}).get("cases", {})
        return matrix(options.cases, folder / "matrix", options.seed, known, lambda found: keep("matrix", found))

    parts: list[tuple[str, int, Callable[[], dict[str, Any]]]] = [
        ("kill", options.kills, lambda: kills(options.kills, emptied("kill"), options.seed)),
        ("engine_kill", options.engine_kills, lambda: engine_kills(options.engine_kills, emptied("e"), options.seed)),
        ("matrix", options.cases, cases),
        ("engine_start", options.starts, lambda: engine_starts(options.starts, emptied("starts"), options.seed)),
        ("stopped", options.stopped, lambda: stopped(emptied("stopped"))),
        ("two_in_one_folder", options.together, lambda: together(emptied("together"))),
        ("another_configuration", options.together, lambda: differences(emptied("differences"))),
        ("long", options.iterations, lambda: long_run(options.iterations, emptied("long"))),
    ]
    for name, wanted, run in parts:
        if wanted:
            begin = monotonic()
            keep(name, run() | {"seconds": round(monotonic() - begin, 1)})
            print(name, {key: value for key, value in result[name].items() if key not in ("results", "cases")})


if __name__ == "__main__":
    main()
