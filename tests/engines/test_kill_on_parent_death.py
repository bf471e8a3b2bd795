"""No process of an engine outlives the rank it worked for, even one that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpo_lightning.engines.kill_on_parent_death import KillOnParentDeath
from gpo_lightning.leftovers import own_folder
from tests.conftest import ROOT

OWNER = """
import os, subprocess, sys, time
from gpo_lightning.engines.kill_on_parent_death import KillOnParentDeath
guard = KillOnParentDeath()
worker = "import subprocess; print(subprocess.Popen(['sleep', '61']).pid, flush=True); import time; time.sleep(60)"
engine = subprocess.Popen([sys.executable, "-c", worker], env=os.environ | guard.environment, start_new_session=True)
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
        engine, worker = (int(owner.stdout.readline()) for _ in range(2))
        os.kill(worker, signal.SIGSTOP)
        owner.send_signal(how)
    assert gone(engine)
    assert gone(worker), "one that is stopped, and that the engine started, ends too"


def test_revoked_it_ends_nothing() -> None:
    guard = KillOnParentDeath()
    engine = subprocess.Popen(["sleep", "60"], env=os.environ | guard.environment)
    try:
        guard.revoke()
        guard.revoke()
        time.sleep(0.3)
        assert engine.poll() is None
    finally:
        engine.kill()
        engine.wait()


def test_a_stopped_worker_is_killed_with_its_engine() -> None:
    guard = KillOnParentDeath()
    command = ["sh", "-c", "sleep 62 & wait"]
    with subprocess.Popen(command, env=os.environ | guard.environment) as engine:
        while len(guard.processes()) < 2:
            time.sleep(0.02)
        for pid in guard.processes():
            os.kill(pid, signal.SIGSTOP)
        assert engine.pid in guard.processes()
        guard.kill()
    assert guard.processes() == []
    guard.revoke()


MAKE = """
import os, sys, time
from gpo_lightning.leftovers import own_folder
print(own_folder("gpo-test", sys.argv[1]), flush=True)
time.sleep(60)
"""


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    owners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = [Path(owner.stdout.readline().strip()) for owner in owners if owner.stdout]
    for folder in folders:
        os.utime(folder, (0, 0))
    owners[0].kill()
    owners[0].wait()
    mine = own_folder("gpo-test", str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([folders[1], mine])
    owners[1].kill()
    owners[1].wait()
