"""Runs of two processes: killed ranks, torchrun, SLURM, sharded weights. What they leave depends on none of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gpo_lightning.stopping import EXIT_CODE
from tests.conftest import ROOT
from tests.end_to_end.conftest import config, gpo, run_directory, summary
from tests.end_to_end.test_fit import processes_in
from tests.end_to_end.test_resume import TINY

pytestmark = pytest.mark.slow

THREE = ["fit", *config("quickstart.yaml"), *TINY, "--trainer.max_epochs=3"]
HERE = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.num_nodes=1"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


class Running:
    """A command at work in a folder.

    Args:
        command: after the interpreter.
        folder: where it works and writes `log`.
        environment: added to this process's.
    """

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        self.log = folder / "log"
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
                stdout=log,
                stderr=log,
            )
        self.folder = folder

    @property
    def said(self) -> str:
        return self.log.read_text().replace("\n", " ")

    def wait_for(self, text: str, seconds: float = 150) -> None:
        self._wait(lambda: text in self.said, text, seconds)

    def ended(self, seconds: float) -> int:
        """Its status; no process of it is left."""
        self._wait(lambda: self.process.poll() is not None and not processes_in(self.folder), "its end", seconds)
        return self.process.returncode

    def _wait(self, until: Callable[[], bool], what: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not until():
            gone = self.process.poll() is not None and what != "its end"
            if gone or time.monotonic() > end:
                pytest.fail(f"waited for {what!r} in vain; left: {processes_in(self.folder)}\n{self.said[-6000:]}")
            time.sleep(0.05)

    def kill(self, rank: int) -> None:
        os.kill(self.pid(rank), signal.SIGKILL)

    def pid(self, rank: int) -> int:
        """Of a rank that was started by another process."""
        found = [int(pid) for pid in processes_in(self.folder) if f"LOCAL_RANK={rank}" in _environment(pid)]
        return next(iter(found), self.process.pid)


def _environment(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return []


@contextmanager
def nothing_left(*started: Running) -> Any:
    try:
        yield
    finally:
        for run in started:
            for pid in processes_in(run.folder):
                os.kill(int(pid), signal.SIGKILL)


def adapter(folder: Path) -> bytes:
    return (run_directory(folder) / "adapter/adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run that nobody disturbed, by the trainer's configuration."""
    made: dict[str, Path] = {}

    def run(trainer: str) -> Path:
        if trainer not in made:
            made[trainer] = tmp_path_factory.mktemp(trainer)
            gpo([*THREE, *config(f"trainer/{trainer}.yaml")], made[trainer])
        return made[trainer]

    return run


@pytest.mark.long
@pytest.mark.parametrize(("trainer", "rank"), [("fsdp2", 1), ("ddp", 0)])
def test_a_killed_rank_ends_the_run_which_then_goes_on_where_it_was(
    trainer: str, rank: int, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    run = Running(["-m", "gpo_lightning", *THREE, *config(f"trainer/{trainer}.yaml")], tmp_path)
    with nothing_left(run):
        run.wait_for("Iteration 1: ")
        run.kill(rank)
        assert run.ended(30) != 0
        named = "The first rank of this machine (process" if rank == 0 else "Rank 1 (process"
        assert f"gpo: {named}" in run.said
        assert rank == 0 or "was killed by SIGKILL" in run.said
        assert "go on with the same command and --ckpt_path last" in run.said
        gpo([*THREE, *config(f"trainer/{trainer}.yaml"), "--ckpt_path=last"], tmp_path)
    assert adapter(tmp_path) == adapter(uninterrupted(trainer))
    assert summary(tmp_path)["tokens"] == summary(uninterrupted(trainer))["tokens"]


@pytest.mark.vllm
@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_no_engine_outlives_a_killed_rank(rank: int, tmp_path: Path) -> None:
    own = [argument for argument in THREE if "gpo_lightning.engines.Transformers" not in argument]
    engine = "--data.engine=gpo_lightning.engines.VLLM"
    run = Running(["-m", "gpo_lightning", *own, engine, *config("trainer/ddp.yaml")], tmp_path)
    with nothing_left(run):
        run.wait_for("Iteration 0: ", 300)
        assert len(processes_in(tmp_path)) > 4, "ranks and their engines"
        run.kill(rank)
        assert run.ended(30) != 0


@pytest.mark.long
def test_where_one_rank_has_lost_the_rollouts_it_kept_all_make_new_ones(tmp_path: Path) -> None:
    """Ranks share their searches: one that searched alone would wait for ever."""
    twice = [*THREE, *config("trainer/ddp.yaml"), "--data.refresh_every=2"]
    gpo([*twice, "--trainer.max_epochs=1"], tmp_path)
    (kept,) = tmp_path.rglob("rollouts-000000-rank1.parquet")
    kept.unlink()
    gpo([*twice, "--trainer.max_epochs=2", "--ckpt_path=last"], tmp_path)
    assert kept.exists()
    assert summary(tmp_path)["iterations"] == 2


@pytest.mark.long
def test_a_rank_that_hangs_is_ended_too(tmp_path: Path) -> None:
    """Stopped, rank 0 can neither fail nor notice; woken, it finds its neighbour dead."""
    run = Running(["-m", "gpo_lightning", *THREE, *config("trainer/ddp.yaml")], tmp_path)
    with nothing_left(run):
        run.wait_for("Iteration 0: ")
        run.process.send_signal(signal.SIGSTOP)
        run.kill(1)
        time.sleep(2)
        run.process.send_signal(signal.SIGCONT)
        assert run.ended(30) == 1
    assert "Rank 1 (process" in run.said


@pytest.mark.long
def test_torchrun_starts_a_run_anew_whose_rank_was_killed(uninterrupted: Callable[[str], Path], tmp_path: Path) -> None:
    command = [*TORCHRUN, "--max-restarts=1", "-m", "gpo_lightning", *THREE, *config("trainer/torchrun.yaml"), *HERE]
    run = Running(command, tmp_path, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    with nothing_left(run):
        run.wait_for("Iteration 1: ")
        run.kill(1)
        assert run.ended(200) == 0
    assert "Started again: runs/quickstart/version_0/checkpoints" in run.said.replace("  ", " ").replace("- ", "-")
    assert adapter(tmp_path) == adapter(uninterrupted("ddp"))


@pytest.mark.long
def test_under_slurm_two_tasks_stop_on_its_signal_and_go_on_when_requeued(
    uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    (programs / "scontrol").chmod(0o755)

    def tasks(**more: str) -> list[Running]:
        """As `srun --ntasks 2` starts them."""
        job = {"SLURM_JOB_NAME": "gpo", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_NODEID": "0"}
        job |= {"SLURM_NTASKS_PER_NODE": "2", "PATH": f"{programs}:{os.environ['PATH']}"}
        command = ["-m", "gpo_lightning", *THREE, *config("trainer/slurm.yaml"), *HERE]
        return [
            Running(command, tmp_path, **job, SLURM_PROCID=str(task), SLURM_LOCALID=str(task), **more)
            for task in (0, 1)
        ]

    first = tasks()
    with nothing_left(*first):
        first[0].wait_for("Iteration 1: ")
        for task in first:
            task.process.send_signal(signal.SIGUSR1)
        assert [task.ended(60) for task in first] == [EXIT_CODE, EXIT_CODE]
        assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n"
        second = tasks(SLURM_RESTART_COUNT="1")
        assert [task.ended(150) for task in second] == [0, 0]
    assert adapter(tmp_path) == adapter(uninterrupted("ddp"))


@pytest.mark.long
def test_a_sharded_runs_checkpoint_is_one_file_from_which_one_process_goes_on(
    uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    before = run_directory(uninterrupted("fsdp2"))
    checkpoint = before / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    assert all("lora_" in name for name in content["state_dict"])
    done = gpo([*THREE, "--trainer.max_epochs=6", f"--ckpt_path={checkpoint}"], tmp_path)
    assert "Restored all states" in done.stderr
    moments = content["optimizer_states"][0]["state"]
    after = torch.load(run_directory(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["state_dict"].keys() == after["state_dict"].keys()
    assert len(moments) == len(after["optimizer_states"][0]["state"])
    steps = [float(state["step"]) for state in after["optimizer_states"][0]["state"].values()]
    # An iteration of uniform groups has no gradient, and an optimiser does not count it.
    files = [file for run in (before, run_directory(tmp_path)) for file in sorted((run / "metrics").glob("*.json"))]
    metrics = [json.loads(file.read_text()) for file in files]
    taught = [each["train/grad_norm"] > 0 for each in metrics]
    assert len(taught) == after["global_step"] == 6
    assert any(taught[3:]), "of the iterations that were added, one taught something"
    assert steps == [float(sum(taught))] * len(moments), "the optimiser's own count goes on"
