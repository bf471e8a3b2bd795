"""The command that starts a server: the documentation shows it as it is, and its process never outlives ours."""

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gpo_lightning.engines.vllm_launch import NEEDED_FLAGS, NEEDED_VARIABLE, Child, Launch
from gpo_lightning.policy import Policy
from tests.conftest import ROOT


def pairs(flags: list[str]) -> dict[str, str]:
    """Flags with their values."""
    found: dict[str, str] = {}
    for flag, following in zip(flags, [*flags[1:], "--"], strict=True):
        if flag.startswith("--"):
            found[flag] = "" if following.startswith("--") else following
    return found


def test_the_documented_command_is_the_one_that_is_run(tiny_policy: Policy) -> None:
    page = (ROOT / "docs/how-to/vllm-server.md").read_text()
    (block,) = [b for b in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "vllm serve" in b]
    variable, program, command, _model, *shown = shlex.split(block.replace("\\\n", " "))
    assert (variable, program, command) == (f"{NEEDED_VARIABLE}=1", "vllm", "serve")
    run = pairs(Launch().flags(tiny_policy, 8000))
    assert pairs(list(NEEDED_FLAGS)).items() <= pairs(shown).items()
    assert pairs(shown).keys() <= run.keys()
    differing = {flag for flag, value in pairs(shown).items() if run[flag] != value}
    assert differing <= {"--max-lora-rank"}, "of another adapter"


def test_servers_listen_on_loopback_and_hold_the_adapter(tiny_policy: Policy) -> None:
    flags = pairs(Launch(context=256, options=["--max-num-seqs", "7"]).flags(tiny_policy, 1234, seed=5))
    assert flags["--host"] == "127.0.0.1"
    assert flags["--port"] == "1234"
    assert flags["--max-lora-rank"] == "8", "the smallest served rank that holds 4"
    assert flags["--max-model-len"] == "256"
    assert flags["--max-num-seqs"] == "7"
    assert flags["--seed"] == "5"


def sleeper(tmp_path: Path) -> Child:
    return Child([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"], "", tmp_path / "log")


def test_a_server_of_ours_asks_for_a_key_that_nobody_else_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    says = [sys.executable, "-c", "import os, time; print('up', os.environ['VLLM_API_KEY'], flush=True)"]
    children = [Child(says, "", tmp_path / name) for name in ("one", "two")]
    for child in children:
        child.ensure_running()
        until_up(child.log)
        assert child.log.read_text().split() == ["up", child.key]
        child.end()
    assert len({child.key for child in children}) == 2
    monkeypatch.setenv("VLLM_API_KEY", "chosen")
    assert Child(says, "", tmp_path / "log").key == "chosen"


def until_up(log: Path) -> None:
    deadline = time.monotonic() + 60
    while "up" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Ended, or waits only to be reaped."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_child_is_started_once_says_how_it_ended_and_starts_again(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    child.ensure_running()
    first = child.pid
    until_up(tmp_path / "log")
    child.ensure_running()
    assert child.pid == first
    assert child.ended() is None
    assert first is not None
    os.kill(first, signal.SIGKILL)
    while (ended := child.ended()) is None:
        time.sleep(0.01)
    assert str(tmp_path / "log") in ended
    child.ensure_running()
    second = child.pid
    assert second not in (None, first)
    child.end()
    child.end()
    assert gone(second or 0)


def test_a_child_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from tests.engines.test_vllm_launch import sleeper
        child = sleeper(Path({str(tmp_path)!r}))
        child.ensure_running()
        print(child.pid, flush=True)
        time.sleep(600)
        """
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until_up(tmp_path / "log")
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while not gone(pid):
        if time.monotonic() > deadline:
            pytest.fail("the server is still there")
        time.sleep(0.05)
