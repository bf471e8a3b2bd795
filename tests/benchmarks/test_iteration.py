"""The benchmark of whole iterations runs, and learns from as many tokens as it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.long
def test_whole_iterations_are_measured_against_the_naive_ones(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, "benchmarks/iteration.py", "--model", "tiny", "--only", "gpo", "naive"]
    done = subprocess.run(
        [*command, "--problems", "2", "--tokens", "64", "--rounds", "1", "--results", str(out)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())["tiny"]
    assert found["ratio"]["naive / gpo"]["median"] > 1
    for name in ("gpo", "naive"):
        (learnt,), (generated,) = found["rows"][name]["learnt"], found["rows"][name]["generated"]
        assert 16 <= learnt <= 32 * 64  # eight responses to each, and up to as many continuations
        assert generated >= 8
    assert 0 <= found["rows"]["gpo"]["glue"][0] < 1
