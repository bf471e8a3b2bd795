"""Kills a run at random moments, takes it up again, and compares what it leaves with an uninterrupted one, to the bit.

    python benchmarks/soak --kills 20 --engine-kills 10 --iterations 200

Then one run whose vLLM engine and whose grader are killed from outside, again and again; and one of many iterations,
whose memory, files and processes must not grow. A number of 0 leaves a part out; what is run is written into the JSON
beside what was there.

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
from long_run import long_run
from run import ROOT
from run_kills import kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine-kills", type=int, default=10, help="of the engine's process, and of the grader's")
    parser.add_argument("--iterations", type=int, default=200, help="of the long run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options = parser.parse_args()
    folder = options.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    result |= {"machine": "2 cores of a shared x86-64 virtual machine", "seed": options.seed}
    parts: list[tuple[str, int, Callable[[], dict[str, Any]]]] = [
        ("kill", options.kills, lambda: kills(options.kills, folder, options.seed)),
        ("engine_kill", options.engine_kills, lambda: engine_kills(options.engine_kills, folder / "e", options.seed)),
        ("long", options.iterations, lambda: long_run(options.iterations, folder / "long")),
    ]
    for name, wanted, run in parts:
        if wanted:
            begin = monotonic()
            result[name] = run() | {"seconds": round(monotonic() - begin, 1)}
            print(name, {key: value for key, value in result[name].items() if key != "results"})
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
