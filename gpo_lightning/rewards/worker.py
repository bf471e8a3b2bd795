"""The inside of a worker process: reads a job a line, runs one function on it, writes an answer a line.

    python -m gpo_lightning.rewards.worker gpo_lightning.rewards.equivalence:judge 1024 5.0

The process is meant to be killed, and nothing in it is shared. It imports the function and its libraries, never torch.
What it is asked and what it answers is JSON, so that neither side can make the other run code. Before the first job it
gives up network, files, and the right to start or signal processes (:mod:`gpo_lightning.rewards.confinement`).
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from gpo_lightning.rewards.confinement import LIBRARIES, confine

GRACE = 2.0
"""Seconds after the deadline at which the kernel ends a worker whose parent is gone and cannot."""

Job = Callable[[Any, Callable[[str], None]], Any]


def main(function: str, memory_mib: int, deadline: float) -> None:
    """Work until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    logging.disable(logging.CRITICAL)  # math-verify warns, at length, of every text it cannot read
    module, _, name = function.partition(":")
    run: Job = getattr(import_module(module), name)
    limit = memory_mib << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with Path("/proc/self/statm").open("rb", buffering=0) as memory:
        confined = confine([*LIBRARIES, Path(__file__).parents[1]])
        _write(answers, {"ready": True, "confined": confined})
        _work(run, answers, deadline, lambda: _resident(memory) > limit // 2)


def _work(run: Job, answers: IO[str], deadline: float, bloated: Callable[[], bool]) -> None:
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, deadline + GRACE)  # ends the process even inside one long C call
        answer = _answer(run, json.loads(line), lambda stage: _write(answers, {"stage": stage}))
        signal.setitimer(signal.ITIMER_REAL, 0)
        leaving = bloated()
        _write(answers, {**answer, "leaving": leaving})
        if leaving:
            return


def _answer(run: Job, job: Any, at: Callable[[str], None]) -> dict[str, Any]:
    try:
        return {"done": run(job, at)}
    except MemoryError:
        return {"failed": "memory"}
    except Exception as error:  # whatever a library raises on a hostile text is a verdict and no crash
        return {"failed": type(error).__name__}


def _write(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _resident(memory: IO[bytes]) -> int:
    memory.seek(0)
    return int(memory.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
