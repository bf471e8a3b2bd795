"""What a worker cannot do, even where hostile text runs as code in it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpo_lightning.rewards import system_calls
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


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_no_call_acts_on_another_process_or_the_machine(pool: Workers, bystander: subprocess.Popen[bytes]) -> None:
    """Landlock is not asked: where it does not know of signals (before Linux 6.12) seccomp stands alone."""
    pid, own = bystander.pid, os.getpid()
    names = {
        "signals": ("sigqueue", pid, 9, 0),
        "has signals sent": ("fcntl", 0, 8, pid),  # F_SETOWN
        "chooses which": ("fcntl", 0, 10, 9),  # F_SETSIG
        "limits another": ("prlimit", pid, 7, bytes(16), 0),
        "raises its own limits": ("setrlimit", 1, b"\xff" * 16),
        "reads memory": ("process_vm_readv", own, 0, 0, 0, 0, 0),
        "moves to another core": ("sched_setaffinity", pid, 8, b"\x01" + bytes(7)),
        "slows": ("setpriority", 0, pid, 19),
        "renames the machine": ("sethostname", os.uname().nodename.encode(), len(os.uname().nodename)),
        "leaves namespaces": ("unshare", 0x20000),
        "changes the root": ("chroot", b"/"),
        "reads keys": ("syscall", 250, 0, -3, 1),
        "leaves shared memory": ("shmget", 0, 4096, 0o1600),
        "writes to a terminal": ("ioctl", 0, 0x5412, b"x"),  # TIOCSTI
    }
    sources = [f"from tests.rewards.jobs import run\nrun({{'libc': {name!r}, 'with': {arguments!r}}}, print)"
               for name, *arguments in names.values()]  # fmt: skip
    outcomes = pool.run([{"call": "builtins.exec", "with": [source]} for source in sources])
    allowed = {name: out.status for name, out in zip(names, outcomes, strict=True) if out.status != "PermissionError"}
    assert allowed == {}
    assert bystander.poll() is None
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_calls_have_the_numbers_of_the_kernels_headers(machine: str, column: int) -> None:
    place = ("x86_64-linux-gnu/asm/unistd_64.h", "asm-generic/unistd.h")[column]
    header = Path("/usr/include") / place
    if not header.exists():
        pytest.skip("no kernel headers here")
    known = {name: int(number) for name, number in re.findall(r"__NR(?:3264)?_(\w+) (\d+)", header.read_text())}
    known |= {"newfstatat": known.get("fstatat", known.get("newfstatat", 0))}
    ours = {**system_calls.allowed(machine), **system_calls.in_some_forms(machine)}
    assert {name: number for name, number in ours.items() if known.get(name) != number} == {}


def test_the_keys_of_the_user_do_not_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    pool = Workers("tests.rewards.jobs:run", 1, 20.0, 1024)
    (outcome,) = pool.run([{"call": "os.getenv", "with": ["HF_TOKEN"]}])
    pool.close()
    assert outcome.value == "None"


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
