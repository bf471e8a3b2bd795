"""A run that is stopped anywhere and taken up again leaves, to the bit, what an uninterrupted one leaves."""

import io
import json
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from gpo_lightning.cli import main
from gpo_lightning.engines import Completion, Purpose, Transformers
from gpo_lightning.module import GPOModule
from gpo_lightning.rollouts import read_trees
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.runs.checkpoint import read_checkpoint
from gpo_lightning.stopping import EXIT_CODE
from tests.end_to_end.conftest import config, run_directory

TINY = [
    "--data.plan={problems: 3, group_size: 4, resets: 3, reset_probability: 1.0}",
    "--data.problems={class_path: gpo_lightning.problems.ModularChains, init_args: {steps: 3, heldout_size: 6}}",
    "--data.sampling.max_tokens=32",
    "--data.micro_batch=8",
    "--data.micro_tokens=200",
    "--data.engine={class_path: gpo_lightning.engines.Transformers, init_args: {batch_size: 5}}",
    "--model.policy.lora.lora_dropout=0.1",
    "--trainer.max_epochs=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


LOGGERS = [logging.getLogger(name) for name in (None, "lightning.fabric", "lightning.pytorch")]
"""Whether Lightning's loggers hand their records on depends on who was there first when it was imported."""


class Killed(BaseException):
    """As good as a kill: nobody catches it on the way to checkpoint or export."""


def fit(folder: Path, *arguments: str, loss: str = "grpo") -> str:
    """`gpo fit` in this process, which saves the seconds that imports take; what it said."""
    return main_in(folder, "fit", *config("quickstart.yaml"), *config(f"loss/{loss}.yaml"), *TINY, *arguments)


def main_in(folder: Path, *arguments: str) -> str:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    for logger in LOGGERS:
        logger.addHandler(handler)
    try:
        with chdir(folder), redirect_stdout(said), redirect_stderr(said):
            main([*arguments])
    finally:
        for logger in LOGGERS:
            logger.removeHandler(handler)
    return said.getvalue()


def left(folder: Path) -> dict[str, Any]:
    """Everything a run leaves that must not depend on how often it was stopped."""
    directory = run_directory(folder)
    kinds = ("adapter/*.safetensors", "metrics/*.json", "exact/*.json")
    files = [*directory.rglob("*.parquet"), *(file for kind in kinds for file in directory.glob(kind))]
    found: dict[str, Any] = {str(file.relative_to(directory)): file.read_bytes() for file in files}
    summary = json.loads((directory / "summary.json").read_text())
    found |= {key: summary[key] for key in ("tokens", "prefilled", "cached", "before", "after", "steps")}
    newest = max((directory / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    checkpoint = torch.load(newest, weights_only=True)
    found["optimiser"] = flat(checkpoint["optimizer_states"])
    found["weights"] = flat(checkpoint["state_dict"])
    found["random"] = flat(checkpoint["RolloutDataModule"]["ranks"][0]["random"])
    found["progress"] = checkpoint["loops"]["fit_loop"]["epoch_progress"]
    return found


def forget_that_it_ended(directory: Path) -> None:
    identity = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps(identity | {"finished": None}))


def flat(value: Any) -> Any:
    """Tensors as bytes, so that equal means equal to the bit."""
    if isinstance(value, torch.Tensor):
        return (
            str(value.dtype),
            tuple(value.shape),
            value.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    return value


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    fit(folder)
    return left(folder)


def killing(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int, when: Callable[..., bool]) -> None:
    """Kill on the given call of a method among those for which ``when`` holds."""
    original = getattr(owner, name)
    calls = 0

    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        if when(self):
            calls += 1
            if calls == call:
                raise Killed
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(owner, name, method)


def about_to_make(purpose: Purpose) -> Callable[[Transformers], bool]:
    # Nothing public tells what an engine will do next.
    return lambda engine: bool(engine._queue) and engine._queue[0][1].purpose is purpose  # pyright: ignore[reportPrivateUsage]


MOMENTS: dict[str, tuple[type, str, int, Callable[..., bool]]] = {
    "first evaluation": (Transformers, "poll", 2, about_to_make(Purpose.EVALUATION)),
    "sampling": (Transformers, "poll", 2, about_to_make(Purpose.SAMPLE)),
    "training": (GPOModule, "training_step", 2, lambda _: True),
    "writing the last checkpoint": (AtomicCheckpointIO, "save_checkpoint", 2, lambda _: True),
    "last evaluation": (Transformers, "poll", 4, about_to_make(Purpose.EVALUATION)),
}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(each, marks=pytest.mark.long if "evaluation" in each else ()) for each in MOMENTS],
)
def test_stopped_at_any_moment_it_ends_the_same(
    moment: str, uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killing(patch, *MOMENTS[moment])
        with pytest.raises(Killed):
            fit(tmp_path)
    said = fit(tmp_path, "--ckpt_path=last")
    assert "--ckpt_path last: runs/quickstart/version_0" in said.replace("\n", "")
    assert_same(left(tmp_path), uninterrupted)
    assert not list((run_directory(tmp_path) / "journal").glob("*")), "a run that has ended needs no journal"


def test_nothing_that_was_finished_is_made_again(
    uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killing(patch, Transformers, "poll", 2, about_to_make(Purpose.PROBE))
        with pytest.raises(Killed):
            fit(tmp_path)
    made: list[Completion] = []
    poll = Transformers.poll

    def counted(self: Transformers) -> list[Completion]:
        made.extend(completions := poll(self))
        return completions

    with monkeypatch.context() as patch:
        patch.setattr(Transformers, "poll", counted)
        fit(tmp_path, "--ckpt_path=last")
    generated = sum(len(completion.tokens) for completion in made)
    assert generated < sum(uninterrupted["tokens"].values())
    assert_same(left(tmp_path), uninterrupted)


def test_a_signal_stops_a_rollout_phase_with_advice_and_an_exit_code_of_its_own(
    uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = Transformers.poll

    def signalled(self: Transformers) -> list[Completion]:
        if about_to_make(Purpose.SAMPLE)(self):
            os.kill(os.getpid(), signal.SIGUSR1)
        return poll(self)

    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    with monkeypatch.context() as patch:
        patch.setattr(Transformers, "poll", signalled)
        with pytest.raises(SystemExit) as stop:
            fit(tmp_path)
    assert stop.value.code == EXIT_CODE == 75
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)] == handlers
    fit(tmp_path, "--ckpt_path=last")
    assert_same(left(tmp_path), uninterrupted)


def test_a_signal_in_training_is_requeued_by_slurm_and_goes_on_by_itself(
    uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/requeued\n')
    (bin_ / "scontrol").chmod(0o755)
    environment = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "gpo",
        "SLURM_JOB_ID": "17",
        "SLURM_LOCALID": "0",
        "SLURM_PROCID": "0",
        "SLURM_NODEID": "0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    step = GPOModule.training_step

    def signalled(self: GPOModule, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(GPOModule, "training_step", signalled)
        with pytest.raises(SystemExit) as stop:
            fit(tmp_path)
    assert stop.value.code == EXIT_CODE
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "17"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    fit(tmp_path)
    assert_same(left(tmp_path), uninterrupted)


MEASURED = [
    "--trainer.callbacks+=gpo_lightning.callbacks.ExactSuccess",
    "--trainer.callbacks+={class_path: gpo_lightning.callbacks.WatchedProblems, init_args: {problems: 2}}",
]


def test_what_was_measured_at_the_start_is_not_measured_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    fit(whole, *MEASURED)
    with monkeypatch.context() as patch:
        killing(patch, GPOModule, "training_step", 1, lambda module: module.trainer.current_epoch == 1)
        with pytest.raises(Killed):
            fit(broken, *MEASURED)
    fit(broken, *MEASURED, "--ckpt_path=last")
    assert_same(left(broken), left(whole))


BUDGET = "--trainer.callbacks+={class_path: gpo_lightning.callbacks.TokenBudget, init_args: {tokens: %d}}"


def test_a_token_budget_ends_a_run_after_the_iteration_that_spends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, BUDGET % 1, "--trainer.max_epochs=-1")
    directory = run_directory(tmp_path)
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["iterations"] == 1, "an iteration is never cut short"
    logged = json.loads((directory / "metrics" / "iteration-0000.json").read_text())
    rollouts = ("sample", "probe", "reset")
    assert logged["compute/generated"] == sum(summary["tokens"].get(purpose, 0) for purpose in rollouts)
    assert logged["compute/prefilled"] == sum(summary["prefilled"].get(purpose, 0) for purpose in rollouts)
    assert summary["tokens"]["evaluation"] > 0, "evaluations are not counted"

    ample = tmp_path / "ample"
    ample.mkdir()
    fit(ample, BUDGET % 10**9)
    assert json.loads((run_directory(ample) / "summary.json").read_text())["iterations"] == 2


def test_a_budget_that_was_spent_before_the_stop_is_not_spent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (BUDGET % 1, "--trainer.max_epochs=-1")
    whole = tmp_path / "whole"
    whole.mkdir()
    fit(whole, *arguments)
    with monkeypatch.context() as patch:
        killing(patch, *MOMENTS["last evaluation"])
        with pytest.raises(Killed):
            fit(tmp_path, *arguments)
    fit(tmp_path, *arguments, "--ckpt_path=last")
    assert_same(left(tmp_path), left(whole))


def test_of_checkpoints_that_cannot_be_read_the_one_before_is_taken_and_both_are_named(
    uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    keep_all = (
        "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {save_top_k: -1}}"
    )
    fit(tmp_path, keep_all, "--trainer.max_epochs=2")
    folder = run_directory(tmp_path) / "checkpoints"
    older, newest = sorted(folder.glob("*.ckpt"), key=lambda path: read_checkpoint(path).iterations)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    forget_that_it_ended(run_directory(tmp_path))
    foreign = folder / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(SystemExit, match="truncated"):
        fit(tmp_path, f"--ckpt_path={newest}")
    with pytest.raises(SystemExit, match="not a whole checkpoint of this trainer"):
        fit(tmp_path, f"--ckpt_path={foreign}")
    said = fit(tmp_path, keep_all, "--ckpt_path=last").replace("\n", "")
    assert newest.name in said
    assert "foreign.ckpt" in said
    assert f"{older.name}, after 1 iterations" in said
    found = left(tmp_path)
    assert_same(found, uninterrupted)


def test_a_checkpoint_of_the_middle_of_an_iteration_is_refused_with_advice(tmp_path: Path) -> None:
    every_step = (
        "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.ModelCheckpoint, "
        "init_args: {every_n_train_steps: 1, save_top_k: -1}}"
    )
    fit(tmp_path, every_step, "--trainer.max_epochs=1")
    first = min((run_directory(tmp_path) / "checkpoints").glob("*step=1*.ckpt"))
    with pytest.raises(SystemExit, match="in the middle of an iteration"):
        fit(tmp_path, f"--ckpt_path={first}")


def test_last_without_an_earlier_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no run under runs/quickstart to go on with"):
        fit(tmp_path, "--ckpt_path=last")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("loss", ["ppo"])
def test_rollouts_learnt_from_twice_are_the_same_after_a_stop_between(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    fit(whole, "--data.refresh_every=2", loss=loss)
    with monkeypatch.context() as patch:
        killing(patch, GPOModule, "training_step", 1, lambda module: module.trainer.current_epoch == 1)
        with pytest.raises(Killed):
            fit(broken, "--data.refresh_every=2", loss=loss)
    fit(broken, "--data.refresh_every=2", "--ckpt_path=last", loss=loss)
    assert_same(left(broken), left(whole))


@pytest.mark.long
def test_successes_of_earlier_iterations_are_found_again_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups that fail lend their places to problems that were solved, before the stop and after it."""
    starts = [*config("critical/frontier_earlier.yaml"), "--data.starts.init_args.low=0.5", "--trainer.max_epochs=3"]
    starts += ["--data.plan={problems: 6, group_size: 3, resets: 3}", "--data.problems.init_args.steps=10"]
    starts += ["--data.sampling.max_tokens=90", "--data.problems.init_args.heldout_size=2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    fit(whole, *starts)
    newest = max((run_directory(whole) / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    assert torch.load(newest, weights_only=True)["RolloutDataModule"]["earlier"]
    trees = read_trees(next((run_directory(whole) / "rollouts").glob("*0002*.parquet")))
    assert any(not tree.trajectories for tree in trees), "a place was lent"
    with monkeypatch.context() as patch:
        killing(patch, GPOModule, "training_step", 1, lambda module: module.trainer.current_epoch == 2)
        with pytest.raises(Killed):
            fit(broken, *starts)
    fit(broken, *starts, "--ckpt_path=last")
    assert_same(left(broken), left(whole))


def test_a_disk_that_is_full_at_a_checkpoint_stops_the_run_and_costs_nothing_once_there_is_room(
    uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses what would make a file longer than a limit, as a full disk does: in the middle of it."""
    with monkeypatch.context() as patch:
        killing(patch, *MOMENTS["writing the last checkpoint"])
        with pytest.raises(Killed):
            fit(tmp_path)
    checkpoints = run_directory(tmp_path) / "checkpoints"
    (earlier,) = checkpoints.glob("*.ckpt")
    size = earlier.stat().st_size
    others = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and path != earlier]
    limit = size - 1000
    assert max(others) < limit, "nothing but a checkpoint is to meet the limit"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(SystemExit, match=r"the checkpoint cannot be written.*Make room.*--ckpt_path last"):
            fit(tmp_path, "--ckpt_path=last")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in checkpoints.iterdir()] == [earlier.name], "nothing half written is left"
    assert read_checkpoint(earlier).iterations == 1
    said = fit(tmp_path, "--ckpt_path=last")
    assert "after 1 iterations" in said.replace("\n", " ")
    assert_same(left(tmp_path), uninterrupted)
