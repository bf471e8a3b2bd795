"""Rollouts that are made beside the training: by which weights, at whose cost, and the same after any stop."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.callbacks import MetricsLog
from gpo_lightning.engines import Completion, Purpose, Transformers
from gpo_lightning.errors import ConfigError, EngineDied
from gpo_lightning.losses import GRPO, SFT
from gpo_lightning.policy import Policy
from gpo_lightning.problems import ModularChains
from gpo_lightning.rollouts import RolloutPlan
from gpo_lightning.runs.atomic_checkpoint import AtomicCheckpointIO
from gpo_lightning.stopping import EXIT_CODE
from tests.end_to_end.conftest import run_directory
from tests.end_to_end.test_resume import Killed, about_to_make, assert_same, fit, killing, left

OVERLAP = ["--data.overlap=1", "--trainer.max_epochs=3"]


def beside_training(_: Any = None) -> bool:
    return threading.current_thread() is not threading.main_thread()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    fit(folder, *OVERLAP)
    return left(folder)


def test_what_is_learnt_does_not_depend_on_who_is_faster(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = Transformers.poll

    def slow(self: Transformers) -> list[Completion]:
        time.sleep(0.2 if beside_training() else 0.0)
        return poll(self)

    monkeypatch.setattr(Transformers, "poll", slow)
    fit(tmp_path, *OVERLAP)
    assert_same(left(tmp_path), whole)


def test_an_iteration_counts_the_tokens_it_learns_from(whole: dict[str, Any]) -> None:
    logged = [json.loads(content) for name, content in sorted(whole.items()) if name.startswith("metrics/")]
    spent = [sum(its.get(f"compute/tokens_{purpose}", 0) for purpose in ("sample", "probe", "reset")) for its in logged]
    assert len(spent) == 3
    assert min(spent) > 0
    assert sum(spent) == sum(whole["tokens"][purpose] for purpose in ("sample", "probe", "reset"))


@pytest.mark.parametrize("moment", ["making rollouts", "training", "writing a checkpoint"])
def test_stopped_at_any_moment_it_ends_the_same(
    moment: str, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        match moment:
            case "making rollouts":
                killing(patch, Transformers, "poll", 5, beside_training)
            case "training":
                killing(patch, GPOModule, "training_step", 1, lambda module: module.trainer.current_epoch == 1)
            case _:
                killing(patch, AtomicCheckpointIO, "save_checkpoint", 2, lambda _: True)
        with pytest.raises(Killed):
            fit(tmp_path, *OVERLAP)
    fit(tmp_path, *OVERLAP, "--ckpt_path=last")
    assert_same(left(tmp_path), whole)
    assert not list((run_directory(tmp_path) / "journal").glob("*")), "a run that has ended needs no journal"


def test_a_signal_ends_the_rollouts_beside_the_training_too(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, poll = GPOModule.training_step, Transformers.poll

    def signalled(self: GPOModule, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, *arguments)

    def slow(self: Transformers) -> list[Completion]:
        time.sleep(0.3 if beside_training() else 0.0)
        return poll(self)

    with monkeypatch.context() as patch:
        patch.setattr(GPOModule, "training_step", signalled)
        patch.setattr(Transformers, "poll", slow)
        with pytest.raises(SystemExit) as stop:
            fit(tmp_path, *OVERLAP)
    assert stop.value.code == EXIT_CODE
    assert not [thread for thread in threading.enumerate() if thread.name == "gpo-rollouts-ahead"]
    fit(tmp_path, *OVERLAP, "--ckpt_path=last")
    assert_same(left(tmp_path), whole)


def test_an_engine_that_dies_beside_the_training_costs_its_rollouts_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll, died = Transformers.poll, list[int]()

    def dying(self: Transformers) -> list[Completion]:
        if beside_training() and not died and about_to_make(Purpose.SAMPLE)(self):
            died.append(1)
            raise EngineDied("It is gone.")
        return poll(self)

    monkeypatch.setattr(Transformers, "poll", dying)
    fit(tmp_path, *OVERLAP)
    summary = json.loads((run_directory(tmp_path) / "summary.json").read_text())
    assert died
    assert summary["iterations"] == 3
    assert summary["incidents"]["rollouts_ahead_lost"] == 1


def test_a_run_that_a_budget_ended_goes_on_as_if_there_had_been_none(whole: dict[str, Any], tmp_path: Path) -> None:
    budget = "--trainer.callbacks+={class_path: gpo_lightning.callbacks.TokenBudget, init_args: {tokens: %d}}"
    fit(tmp_path, *OVERLAP, budget % 1)
    assert json.loads((run_directory(tmp_path) / "summary.json").read_text())["iterations"] == 1
    fit(tmp_path, *OVERLAP, budget % 10**9, "--ckpt_path=last")
    assert left(tmp_path)["weights"] == whole["weights"]


@pytest.mark.vllm
@pytest.mark.long
def test_vllm_generates_beside_the_training_too(tmp_path: Path) -> None:
    fit(tmp_path, *OVERLAP, "--data.engine={class_path: gpo_lightning.engines.VLLM, init_args: {memory_gib: 1}}")
    summary = json.loads((run_directory(tmp_path) / "summary.json").read_text())
    assert summary["iterations"] == 3
    assert summary["incidents"].get("rollouts_ahead_lost", 0) == 0


def data(**settings: Any) -> RolloutDataModule:
    return RolloutDataModule(
        problems=ModularChains(steps=3, train_size=40, heldout_size=4),
        engine=Transformers(),
        plan=RolloutPlan(problems=4, group_size=4, resets=2, reset_probability=1.0),
        **settings,
    )


def test_from_python_too_the_rollouts_of_an_iteration_are_those_of_the_weights_before_the_last_one(
    tmp_path: Path,
) -> None:
    weights: list[dict[str, torch.Tensor]] = []
    drawn: list[list[tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]]] = []

    class Looking(MetricsLog):
        def on_train_epoch_start(self, trainer: Any, pl_module: GPOModule) -> None:
            super().on_train_epoch_start(trainer, pl_module)
            weights.append({name: value.clone() for name, value in pl_module.policy.trainable_state().items()})
            assert pl_module.data.rollouts is not None
            samples = [(tree.prompt, sample) for tree in pl_module.data.rollouts.trees for sample in tree.samples]
            drawn.append([(prompt, its.tokens, its.logprobs) for prompt, its in samples if not its.start])

    module = GPOModule(loss=GRPO(), optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.05))
    trainer = GPOTrainer(
        max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, callbacks=[Looking()], logger=False
    )
    trainer.fit(module, data(overlap=1))
    policy = module.policy

    def gap(iteration: int, of: int) -> float:
        with torch.no_grad():
            for name, value in policy.trainable_state().items():
                value.copy_(weights[of][name])
        return max(_gap(policy, *its) for its in drawn[iteration])

    assert gap(0, of=0) < 1e-4
    assert gap(1, of=0) < 1e-4 < gap(1, of=1)
    assert gap(2, of=1) < 1e-4 < gap(2, of=2)


def _gap(policy: Policy, prompt: tuple[int, ...], tokens: tuple[int, ...], logprobs: tuple[float, ...]) -> float:
    policy.eval()
    ids = torch.tensor([prompt + tokens])
    mask = torch.zeros(ids.shape)
    mask[:, len(prompt) :] = 1
    with torch.no_grad():
        found = policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(prompt) :]
    return float((found - torch.tensor(logprobs)).abs().max())


def test_where_nothing_can_overlap_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.overlap is for new rollouts in every iteration.*refresh_every"):
        data(overlap=1, refresh_every=2)
    with pytest.raises(ConfigError, match=r"data\.overlap is 2"):
        data(overlap=2)
    with pytest.raises(ConfigError, match=r"data\.overlap.*data\.saved"):
        data(overlap=1, saved=tmp_path / "rollouts.parquet")
    trainer = GPOTrainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False)
    with pytest.raises(ConfigError, match="learns from reference solutions"):
        trainer.fit(GPOModule(loss=SFT()), data(overlap=1))
