"""One kill for each of many kinds of run: losses, ways of using processes, and what must go on besides the weights."""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from processes import processes_in
from run import begin, config, status_of
from run_kills import left, same

LOSSES = ("grpo", "ppo", "dpo", "kto")
PROCESSES = ("one", "ddp", "fsdp2")
KEPT = {
    "scheduler": [
        "--model.lr_scheduler={class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 9}}"
    ],
    "accumulation": ["--trainer.accumulate_grad_batches=2"],
    "refresh": ["--data.refresh_every=2"],
}
PHASES = ("sampling", "training", "checkpointing", "last evaluation")
COMMON = ["--trainer.max_epochs=3", "--model.policy.lora.lora_dropout=0.1"]
MOST_SECONDS = 900.0

Record = Callable[[dict[str, Any]], None]


def cases(count: int) -> list[tuple[str, str, str]]:
    """Every loss with every way of using processes comes before one comes twice.

    >>> len(set(cases(36)))
    36
    """
    pairs = [(loss, processes) for processes in PROCESSES for loss in LOSSES]
    kept = list(KEPT)
    whole = [(*pair, kept[(place + turn) % 3]) for turn in range(3) for place, pair in enumerate(pairs)]
    return whole[:count]


def matrix(count: int, folder: Path, seed: int, known: dict[str, Any], record: Record) -> dict[str, Any]:
    """Kill and compare each case that is not known yet.

    Args:
        count: cases.
        folder: where they run.
        seed: of the moments.
        known: results by case, of a soak that was stopped.
        record: keeps the results so far.
    """
    results = dict(known)
    for place, case in enumerate(cases(count)):
        name = ", ".join(case)
        if not results.get(name, {}).get("killed"):
            results[name] = _case(case, PHASES[place % len(PHASES)], folder / name.replace(", ", "-"), seed + place)
            print(f"{place + 1:3d} {name}: {results[name]}", flush=True)
            record(_summary(results))
    return _summary(results)


def _summary(results: dict[str, Any]) -> dict[str, Any]:
    identical = sum(each["killed"] and each["finished"] and not each["different"] for each in results.values())
    return {"kills": sum(each["killed"] for each in results.values()), "identical": identical, "cases": results}


def _case(case: tuple[str, str, str], phase: str, folder: Path, seed: int) -> dict[str, Any]:
    loss, processes, kept = case
    arguments = [*config(f"loss/{loss}.yaml"), *COMMON, *KEPT[kept]]
    arguments += [] if processes == "one" else config(f"trainer/{processes}.yaml")
    draw = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    whole, broken = folder / "whole", folder / "broken"
    whole.mkdir(parents=True)
    broken.mkdir()
    if status_of(begin(whole, *arguments), MOST_SECONDS) != 0:
        return {"phase": phase, "killed": False, "finished": False, "different": ["the uninterrupted run failed"]}
    rank = 0 if processes == "one" else draw.randrange(2)
    run = begin(broken, *arguments)
    killed = _kill(run, broken, phase, rank, draw)
    status_of(run, 60.0)
    over = _gone(broken)
    finished = status_of(begin(broken, *arguments, "--ckpt_path=last"), MOST_SECONDS) == 0
    found = left(broken) if finished else {}
    expected = left(whole)
    different = [name for name, value in expected.items() if not same(found.get(name), value)]
    different += sorted(set(found) - set(expected))
    if finished and not different:
        shutil.rmtree(folder)
    return {
        "phase": phase,
        "rank": rank,
        "killed": killed,
        "others_ended": over,
        "finished": finished,
        "compared": len(expected),
        "different": different,
    }


def _kill(run: int, folder: Path, phase: str, rank: int, draw: random.Random) -> bool:
    """Whether a rank was killed: a random moment after what a phase begins with."""
    mark = {
        # The second time: where rollouts are kept for two iterations, that is in the third.
        "sampling": "journal/version-00000[12]-rank0.journal",
        "training": "rollouts/iteration-0001-rank0.parquet",
        "checkpointing": "metrics/iteration-0000.json",
        "last evaluation": "metrics/iteration-0002.json",
    }[phase]
    end = monotonic() + MOST_SECONDS
    while not list(folder.glob(f"runs/quickstart/version_*/{mark}")):
        if os.waitid(os.P_PID, run, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None or monotonic() > end:
            return False
        sleep(0.005)
    sleep(draw.uniform(0, 0.5))
    with suppress(ProcessLookupError):
        os.kill(next(_ranks(folder, rank), run), signal.SIGKILL)
        return True
    return False


def _ranks(folder: Path, rank: int) -> Iterator[int]:
    """Processes that another one started as this rank."""
    for pid in processes_in(folder):
        with suppress(OSError):
            if f"LOCAL_RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
                yield pid


def _gone(folder: Path, seconds: float = 60.0) -> bool:
    """Whether all processes of a run end by themselves; they are ended if not."""
    end = monotonic() + seconds
    while (alive := processes_in(folder)) and monotonic() < end:
        sleep(0.1)
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not alive
