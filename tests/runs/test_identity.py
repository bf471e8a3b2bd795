"""Runs are told apart, kept apart, and what they leave is what they wrote."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from gpo_lightning.errors import ConfigError, StorageError
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.runs.checkpoint import load_checkpoint, newest_checkpoint, read_checkpoint
from gpo_lightning.runs.identity import check_same, differences, flat
from gpo_lightning.runs.resume import find_last
from gpo_lightning.runs.run import Run, new_folder

CONFIG = flat(
    {
        "seed_everything": 0,
        "trainer": {"max_epochs": 8, "devices": 1},
        "model": {
            "loss": {"class_path": "losses.GRPO", "init_args": {"clip": 0.2, "beta": 0.0}},
            "policy": {"base": "tiny", "lora": {"r": 16}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        },
        "data": {"plan": {"group_size": 8}, "recovery": {"patience": 900.0}},
    }
)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"trainer.max_epochs": 16}, []),
        ({"trainer.devices": 2}, []),
        ({"data.recovery.patience": 5.0}, []),
        ({"seed_everything": 1}, ["seed_everything"]),
        ({"model.optimizer.init_args.lr": 1e-2}, ["model.optimizer.init_args.lr"]),
        ({"data.plan.group_size": 4}, ["data.plan.group_size"]),
        ({"model.policy.lora.r": 8}, ["model.policy.lora.r"]),
        ({"model.loss.class_path": "losses.PPO", "model.loss.init_args.vf": 1}, ["model.loss.class_path"]),
        ({"trainer.gradient_clip_val": 1.0}, ["trainer.gradient_clip_val"]),
        ({"data.a_later_versions": None}, []),
        ({"data.a_later_versions": 3}, ["data.a_later_versions"]),
    ],
)
def test_only_what_changes_the_result_is_a_difference(change: dict[str, object], differs: list[str]) -> None:
    now = {**CONFIG, **change}
    assert [found.key for found in differences(CONFIG, now)] == differs
    assert differences(CONFIG, now, meant=[key.rpartition(".")[0] or key for key in differs]) == []


def test_an_object_that_is_left_out_now_is_a_difference() -> None:
    now = {key: value for key, value in CONFIG.items() if not key.startswith("model.policy.lora.")}
    assert [found.key for found in differences(CONFIG, now | {"model.policy.lora": None})] == ["model.policy.lora"]


def test_a_refusal_has_a_table_and_the_words_that_allow_it() -> None:
    now = {**CONFIG, "model.optimizer.init_args.lr": 0.01, "seed_everything": 1}
    with pytest.raises(ConfigError) as refusal:
        check_same(Path("runs/x/version_0"), CONFIG, now, [])
    said = str(refusal.value)
    assert "model.optimizer.init_args.lr  0.001  ->  0.01" in said
    assert "--resume_with '[model.optimizer,seed_everything]'" in said


HOLD = """
import sys, time
from pathlib import Path
from gpo_lightning.runs.run import Run
run = Run.begin(Path(sys.argv[1]), {})
print("working", flush=True)
time.sleep(600)
"""


def test_one_process_works_in_a_folder_and_a_killed_one_leaves_it_free(tmp_path: Path) -> None:
    folder = tmp_path / "version_0"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "working\n"
    with pytest.raises(ConfigError, match=rf"in use: another process \(process {holder.pid} on"):
        Run.read(folder).work()
    with pytest.raises(ConfigError, match="holds a run already"):
        Run.begin(folder, {})
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    run = Run.read(folder)
    run.work()
    run.finish(3)
    run.rest()
    assert Run.read(folder).finished == 3


def test_runs_that_begin_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "runs"), range(32)))
    assert sorted(folder.name for folder in folders) == sorted(f"version_{i}" for i in range(32))


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="a run's folder cannot be made in it"):
        new_folder(tmp_path / "file")


@pytest.mark.parametrize("torn", [b"", b'{"id": "x"', b'{"id": "x"}', b"[]", b"\xff\x00"])
def test_a_torn_identity_stands_in_no_runs_way_and_the_checkpoints_know_it_too(torn: bytes, tmp_path: Path) -> None:
    config = {"seed_everything": 0}
    progress = {"current": {"processed": 1, "ready": 1}}
    content: dict[str, object] = {"state_dict": {}, "optimizer_states": [], "RolloutDataModule": {}, "global_step": 1}
    content["loops"] = {"fit_loop": {"epoch_progress": progress}}
    runs = [Run.begin(tmp_path / f"version_{number}", config) for number in range(3)]
    for run in runs:
        run.rest()
    known = runs[1].identity
    AtomicCheckpointIO().save_checkpoint(content | {"run": known.to_dict()}, runs[1].folder / "checkpoints/x.ckpt")
    for name in ("version_1", "version_2"):
        (tmp_path / name / "run.json").write_bytes(torn)
    found = find_last(tmp_path, config, [], lambda _: False)
    assert (found.folder.name, found.identity) == ("version_1", known)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    run = Run.begin(tmp_path / "run", {})
    progress = {"current": {"processed": 1, "ready": 1}}
    content = {"state_dict": {"w": torch.randn(40, 40)}, "optimizer_states": [], "RolloutDataModule": {}}
    content |= {"loops": {"fit_loop": {"epoch_progress": progress}}, "global_step": 3, "run": run.identity.to_dict()}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


def test_every_flipped_bit_is_found(checkpoint: Path) -> None:
    assert read_checkpoint(checkpoint).iterations == 1
    whole = checkpoint.read_bytes()
    draw = random.Random(0)
    places = [draw.randrange(8 * len(whole)) for _ in range(150)] + [8 * len(whole) - 1, 8 * (len(whole) - 75)]
    for place in places:
        rotten = bytearray(whole)
        rotten[place // 8] ^= 1 << place % 8
        checkpoint.write_bytes(rotten)
        with pytest.raises(ConfigError, match="--ckpt_path"):
            read_checkpoint(checkpoint)


def test_rot_in_the_entry_that_asks_for_the_checksum_is_found_too(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    entry = whole.index(b"run", whole.index(b"global_step"))
    for bit in range(24):
        rotten = bytearray(whole)
        rotten[entry + bit // 8] ^= 1 << bit % 8
        checkpoint.write_bytes(rotten)
        with pytest.raises(ConfigError, match="--ckpt_path"):
            read_checkpoint(checkpoint)


def test_the_newest_checkpoint_is_the_one_that_is_furthest_whatever_the_clock_says(checkpoint: Path) -> None:
    """Copies get new times, and a clock may be set back in the middle of a run."""
    content = dict(load_checkpoint(checkpoint))
    for iteration, age in ((1, 0), (2, 500), (3, 1000)):
        content["loops"] = {"fit_loop": {"epoch_progress": {"current": {"processed": iteration, "ready": iteration}}}}
        path = checkpoint.with_name(f"{iteration}.ckpt")
        AtomicCheckpointIO().save_checkpoint(content, path)
        os.utime(path, (10_000 - age, 10_000 - age))
    checkpoint.write_bytes(b"rot")
    found, complaints = newest_checkpoint([checkpoint.parent])
    assert found is not None
    assert found.iterations == 3
    assert len(complaints) == 1, "what cannot be read is said, whatever it may have been"


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_random_bytes_are_no_checkpoint(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(random.Random(size).randbytes(size))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_checkpoint(path)
    path.write_bytes(b"PK\x03\x04" + random.Random(size).randbytes(size))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_checkpoint(path)


STOP = """
import os, signal, sys, threading, time
signal.signal(signal.SIGHUP, signal.{hangup})  # whatever the tests were started by
from gpo_lightning.runs.signals import StopSignals

def end():
    print("ended", flush=True)
    os._exit(stop.status)

stop = StopSignals(last_resort=end, patience=0.5)
with stop:
    print("waiting", flush=True)
    threading.Event().wait()  # for what never comes
"""


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (signal.SIGTERM, 75),
        *(pytest.param(*each, marks=pytest.mark.long) for each in ((signal.SIGHUP, 75), (signal.SIGINT, 130))),
    ],
)
def test_a_run_that_waits_for_what_does_not_come_ends_soon_after_a_signal(name: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOP.replace("{hangup}", "SIG_DFL")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    begin = time.monotonic()
    process.send_signal(name)
    assert process.wait(20) == status
    assert time.monotonic() - begin < 10
    assert process.stdout.read() == "ended\n"


def test_a_run_that_waits_in_c_for_what_does_not_come_ends_too() -> None:
    """As in a collective with a rank that is stopped: Python runs no handler until the call returns."""
    code = STOP.replace("{hangup}", "SIG_DFL").replace("threading.Event().wait()", "lock(mutex), lock(mutex)")
    code = "import ctypes\nlock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)\n" + code
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75


def test_a_second_ctrl_c_ends_a_run_at_once_and_one_that_comes_twice_does_not() -> None:
    code = STOP.replace("patience=0.5", "patience=60.0").replace("{hangup}", "SIG_DFL")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under ``nohup``: the run is meant to outlive its terminal."""
    code = STOP.replace("{hangup}", "SIG_IGN")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.kill()
    process.wait()


@pytest.mark.parametrize(("name", "status"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_signal_in_the_first_seconds_ends_with_its_status_and_a_line(name: signal.Signals, status: int) -> None:
    code = (
        "import builtins, os, sys, signal; from gpo_lightning import __main__\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "import importlib.abc\n"
        "class Importing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        name == 'gpo_lightning.cli' and os.kill(os.getpid(), {int(name)})\n"
        "sys.meta_path.insert(0, Importing())\n"
        "__main__.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert f"Stopped by {name.name}. Give the same command again." in done.stderr
    assert "Traceback" not in done.stderr
