"""What the workers of the tests are asked to do; imported inside their processes."""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any


def run(job: dict[str, Any], at: Callable[[str], None]) -> Any:
    at("begun")
    if "hang" in job:
        return 9**9**9  # inside one long C call, as hostile expressions are
    if "fill" in job:
        return len([bytearray(1 << 20) for _ in range(10_000)])
    if "noise" in job:  # into every descriptor there is, as hostile text that runs as code might
        for descriptor in range(3, 20):
            with suppress(OSError):
                os.write(descriptor, job["noise"].encode() * job.get("times", 1))
        return "quiet"
    if "raise" in job:
        raise ValueError("no")
    if "print" in job:
        print(job["print"], flush=True)
        return "printed"
    if "die" in job or job.get("die_in") == os.getpid():
        ctypes.string_at(0)  # a worker may send no signals, not even to itself
    if "die_in" in job:
        return "survived"
    if "call" in job:
        module, _, name = job["call"].rpartition(".")
        return repr(getattr(import_module(module), name)(*job["with"]))[:80]
    if "libc" in job:
        libc = ctypes.CDLL(None, use_errno=True)
        if getattr(libc, job["libc"])(*job["with"]) == -1:
            raise OSError(ctypes.get_errno(), "refused")
    return job.get("say")
