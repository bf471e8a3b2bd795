"""No process of an engine outlives the rank it worked for, even one that was killed."""

import signal
import subprocess
import sys
import time

import pytest

from gpo_lightning.engines.kill_on_parent_death import KillOnParentDeath
from tests.conftest import ROOT

OWNER = """
import subprocess, sys, time
from gpo_lightning.engines.kill_on_parent_death import KillOnParentDeath
engine = subprocess.Popen(["sleep", "60"])
will = KillOnParentDeath([engine.pid])
print(engine.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether nothing but, at most, a zombie is left of a process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if not state.stdout or state.stdout.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_the_engine_of_a_killed_process_ends(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        engine = int(owner.stdout.readline())
        owner.send_signal(how)
    assert gone(engine)


def test_revoked_it_ends_nothing() -> None:
    engine = subprocess.Popen(["sleep", "60"])
    try:
        will = KillOnParentDeath([engine.pid])
        will.revoke()
        will.revoke()
        time.sleep(0.3)
        assert engine.poll() is None
    finally:
        engine.kill()
        engine.wait()
