"""Ratios that mean something on a machine others use too: interleaved rounds, seconds of this process, peak memory."""

import ctypes
import gc
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    found = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in found if line.startswith("model name")), "")
    return {
        "gpu": gpu,
        "cores": os.cpu_count(),
        "processor": model or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def seconds(run: Callable[[], object]) -> float:
    """Of a GPU the time that passes; of a CPU what this process used of it, which other work does not stretch."""
    cuda = torch.cuda.is_available()
    clock = perf_counter if cuda else process_time
    begin = clock()
    run()
    if cuda:
        torch.cuda.synchronize()
    return (clock() - begin) / (1 if cuda else torch.get_num_threads())


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, ``rounds`` times in turn; measure memory first, for the first time does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    return taken


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """How many times longer theirs takes: median of the rounds, least and most."""
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {"median": round(median(each), 2), "least": round(min(each), 2), "most": round(max(each), 2)}


def peak_rise(run: Callable[[], object]) -> float:
    """MiB by which memory rises above what is held before."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 2**10


def _status(name: str) -> int:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
