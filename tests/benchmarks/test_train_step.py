"""The benchmark of the training step runs, measures, and says what it was measured on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.long
def test_the_training_step_is_measured_packed_and_by_rows(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, "benchmarks/train_step.py", "--model", "tiny", "--without-trl", "--results", str(out)]
    done = subprocess.run(
        [*command, "--losses", "dpo", "--cases", "critical", "--rounds", "1"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    (row,) = found["rows"]
    assert row["against"] == "padded"
    assert row["ratio"]["tree"]["median"] > 1
    assert row["memory_rise_mib"]["tree"] > 0
    assert found["machine"]["cores"]
