"""Ranks of one machine meet on loopback."""

import socket
import subprocess
import sys

SCRIPT = """
import os, torch.distributed as dist
from pathlib import Path

if {ours}:
    from gpo_lightning.runs.launcher import store_on_loopback
    store = store_on_loopback({port})
os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}", RANK="0", WORLD_SIZE="1")
dist.init_process_group("gloo")
sockets = {{os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}}
for table in ("tcp", "tcp6"):
    for line in Path(f"/proc/self/net/{{table}}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{{fields[9]}}]" in sockets:
            print(fields[1].split(":")[0])
"""


def _listening(ours: bool) -> set[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = SCRIPT.format(ours=ours, port=port)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_ranks_of_one_machine_meet_on_loopback_alone() -> None:
    assert _listening(True) == {"0100007F"}
    assert _listening(False) - {"0100007F"}, "without it torch listens everywhere, else this could not fail"
