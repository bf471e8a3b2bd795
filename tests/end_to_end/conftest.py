"""Runs of the real command line on the embedded model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

Run = Callable[..., str]

SMALL = [
    "--data.plan.problems=6",
    "--data.plan.group_size=6",
    "--data.plan.resets=6",
    "--data.plan.reset_probability=1.0",
    "--data.problems.heldout_size=24",
    "--data.problems.steps=4",
    "--data.sampling.max_tokens=48",
    "--data.micro_batch=16",
    "--trainer.max_epochs=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.accelerator=cpu",
]
"""What makes the quickstart take seconds."""

TRANSFORMERS = "--data.engine=gpo_lightning.engines.Transformers"
VLLM = "--data.engine=gpo_lightning.engines.VLLM"


def gpo(
    arguments: list[str], folder: Path, check: bool = True, timeout: float = 500
) -> subprocess.CompletedProcess[str]:
    """`gpo ...` in a folder of its own, as a user runs it."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "gpo_lightning", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        pytest.fail(f"gpo {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}")
    return done


def config(name: str) -> list[str]:
    return ["--config", str(ROOT / "configs" / name)]


def run_directory(folder: Path, name: str = "quickstart", version: int = 0) -> Path:
    return folder / "runs" / name / f"version_{version}"


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((run_directory(folder) / "summary.json").read_text())
