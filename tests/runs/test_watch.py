"""Processes look after their neighbours: real ones, since what is tested is what the kernel says of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpo_lightning.errors import ConfigError, RankLost
from gpo_lightning.runs.launcher import Starter, started_by
from gpo_lightning.runs.watch import Watch
from tests.conftest import ROOT


def sleeper(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command or ("sleep", "60"))


def until_lost(watch: Watch, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch.check()
        time.sleep(0.05)


def test_a_killed_rank_is_named_with_its_signal_and_the_others_are_ended() -> None:
    first, second = sleeper(), sleeper()
    named = rf"Rank 6 \(process {second.pid}\) was killed by SIGKILL.*--ckpt_path last"
    second.kill()
    with pytest.raises(RankLost, match=named), Watch(lambda: [first, second], first_rank=4, patience=1) as watch:
        until_lost(watch)
    assert first.poll() == -signal.SIGKILL, "it would wait for the dead rank"


def test_a_rank_that_failed_is_named_with_its_status() -> None:
    child = sleeper("sh", "-c", "exit 3")
    named = r"Rank 1 .* ended with status 3; its own message is above"
    with pytest.raises(RankLost, match=named), Watch(lambda: [child], patience=1) as watch:
        until_lost(watch)


def test_ranks_that_work_or_have_ended_well_are_let_be() -> None:
    working, done = sleeper(), sleeper("true")
    try:
        with Watch(lambda: [working, done], patience=1) as watch:
            done.wait()
            until_lost(watch, seconds=1.5)
            assert watch.explain(RuntimeError("gloo: Connection closed by peer")) is None
        assert working.poll() is None
    finally:
        working.kill()
        working.wait()


def test_errors_of_a_broken_link_are_explained_and_others_are_not() -> None:
    child = sleeper()
    with Watch(lambda: [child], patience=5) as watch:
        child.kill()
        lost = watch.explain(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"))
        assert lost is not None
        assert "Rank 1" in str(lost)
        assert watch.explain(ValueError("a mistake of our own")) is None
        assert watch.explain(ConfigError("data.engine: no connection")) is None


def test_a_process_whose_starter_is_gone_ends() -> None:
    watch = Watch(starter=Starter("torchrun", 1 if os.getppid() != 1 else 2), patience=5)
    with pytest.raises(RankLost, match=r"torchrun \(process \d+\) is gone"), watch:
        until_lost(watch)


HANGS = """
import subprocess, sys, time
from gpo_lightning.runs.watch import Watch
children = [subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sleep", "60"])]
print(children[1].pid, flush=True)
with Watch(lambda: children, last_resort=lambda: print("the engine is ended", flush=True), patience=1):
    children[0].kill()
    time.sleep(60)
"""


def test_a_process_that_hangs_is_ended_by_force_and_its_engine_before() -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert time.monotonic() - begin < 45
    other, engine = done.stdout.splitlines()
    assert done.returncode == 1
    assert "gpo: Rank 1" in done.stderr
    assert engine == "the engine is ended"
    assert not Path(f"/proc/{other}").exists()


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "0"}, "torchrun"),
        ({"LOCAL_RANK": "1", "GPO_STARTED_BY": "17"}, "The first rank of this machine"),
        ({"LOCAL_RANK": "0", "GPO_STARTED_BY": "17"}, None),
        ({}, None),
    ],
)
def test_who_started_a_rank(environment: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell is no starter: a run may outlive it."""
    for variable in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "GPO_STARTED_BY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    found = started_by()
    assert (found and found.name) == name
