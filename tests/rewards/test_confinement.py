"""What a worker cannot do, even where hostile text runs as code in it."""

import os
import sys
from pathlib import Path

import pytest

from gpo_lightning.rewards.workers import Workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are of Linux")


@pytest.fixture(scope="module")
def pool() -> Workers:
    return Workers("tests.rewards.jobs:run", 1, 20.0, 1024)


def test_no_call_reaches_files_the_network_or_other_processes(pool: Workers, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    before = victim.stat()
    attempts = {
        "reads": ("builtins.open", str(victim)),
        "writes": ("builtins.open", str(tmp_path / "new"), "w"),
        "truncates": ("os.truncate", str(victim), 0),
        "removes": ("os.unlink", str(victim)),
        "renames": ("os.rename", str(victim), str(tmp_path / "other")),
        "makes a folder": ("os.mkdir", str(tmp_path / "folder")),
        "lists": ("os.listdir", str(tmp_path)),
        "changes modes": ("os.chmod", str(victim), 0),
        "changes times": ("os.utime", str(victim)),
        "speaks TCP": ("socket.create_server", ("127.0.0.1", 0)),
        "speaks UDP": ("socket.socket", 2, 2),
        "speaks to a local socket": ("socket.socket", 1),
        "forks": ("os.fork",),
        "executes": ("os.execv", "/bin/true", ["true"]),
        "starts": ("subprocess.run", ["/bin/true"]),
        "signals": ("os.kill", os.getpid(), 0),
    }
    outcomes = pool.run([{"call": call, "with": arguments} for call, *arguments in attempts.values()])
    allowed = {name: out.value for name, out in zip(attempts, outcomes, strict=True) if out.status != "PermissionError"}
    assert allowed == {}
    assert victim.read_text() == "whole"
    assert (victim.stat().st_mode, victim.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


def test_a_shell_does_nothing(pool: Workers, tmp_path: Path) -> None:
    """``os.system`` raises nothing where it cannot start a process."""
    pool.run([{"call": "os.system", "with": [f"touch {tmp_path}/x"]}])
    assert not list(tmp_path.iterdir())


def test_libraries_may_still_be_imported(pool: Workers) -> None:
    (outcome,) = pool.run([{"call": "importlib.import_module", "with": ["sqlite3"]}])
    assert outcome.status == "done"


def test_the_same_calls_succeed_where_nothing_confines_them(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    from tests.rewards.jobs import run

    assert run({"call": "os.mkdir", "with": [str(tmp_path / "folder")]}, lambda stage: None) == "None"
    assert run({"call": "os.system", "with": ["true"]}, lambda stage: None) == "0"
