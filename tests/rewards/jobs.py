"""What the workers of the tests are asked to do; imported inside their processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run(job: dict[str, Any], at: Callable[[str], None]) -> Any:
    at("begun")
    if "hang" in job:
        return 9**9**9  # inside one long C call, as hostile expressions are
    if "fill" in job:
        return len([bytearray(1 << 20) for _ in range(10_000)])
    if "raise" in job:
        raise ValueError("no")
    if "print" in job:
        print(job["print"], flush=True)
        return "printed"
    if "die" in job:
        os.kill(os.getpid(), signal.SIGKILL)
    if "die_unless" in job:
        been = Path(job["die_unless"])
        if not been.exists():
            been.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"
    return job.get("say")
