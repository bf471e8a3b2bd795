"""What people type first in Python, with nothing else set."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.callbacks import BenchmarkEvaluation, RolloutLog
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import GRPO
from gpo_lightning.rollouts import RolloutPlan, read_trees
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config, gpo

SMALL_RUN = [*SMALL, TRANSFORMERS, "--trainer.max_epochs=1"]

ROWS = [{"prompt": f"37+5*{n}?\n", "answer": "29", "least": n % 3} for n in range(24)]


def long_enough(completion: str, least: int, **columns: Any) -> float:
    return float(len(completion) > 8 + least) * 2 - 1


def small(**settings: Any) -> RolloutDataModule:
    plan = RolloutPlan(problems=2, group_size=4, resets=4)
    return RolloutDataModule(problems=ROWS, engine=Transformers(), plan=plan, sampling=Sampling(12), **settings)


@pytest.mark.parametrize("trainer", [GPOTrainer, lightning.Trainer])
def test_the_three_line_door(trainer: type[lightning.Trainer], tmp_path: Path) -> None:
    from gpo_lightning.rewards import Rewards

    module = GPOModule(policy="tiny", loss=GRPO())
    data = small(rewards=Rewards(long_enough, success=1.0))
    run = trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        callbacks=[
            RolloutLog(),
            BenchmarkEvaluation(every_n_epochs=1, max_problems=1),
            EarlyStopping(monitor="eval/heldout/accuracy", mode="max"),
            ModelCheckpoint(tmp_path, monitor="eval/heldout/accuracy", mode="max", save_last=True),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run.fit(module, data)
    assert {"rewards/long_enough", "rewards/reward_spread", "eval/heldout/accuracy"} <= set(run.callback_metrics)
    samples = [s for file in tmp_path.glob("**/rollouts/*.parquet") for tree in read_trees(file) for s in tree.samples]
    assert samples
    assert all(s.parts == {"long_enough": s.reward} and s.success == float(s.reward == 1.0) for s in samples)
    again = GPOModule.load_from_checkpoint(tmp_path / "last.ckpt")
    trained, loaded = module.policy.trainable_state(), again.policy.trainable_state()
    assert again.loss == GRPO()
    assert trained.keys() == loaded.keys()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"policy": 7}, "policy is 7"),
        ({"policy": torch.nn.Linear(1, 1)}, "save it and give the directory"),
        ({"loss": GRPO}, r"loss=GRPO\(\)"),
        ({"loss": "grpo"}, "loss is 'grpo'"),
    ],
)
def test_what_is_no_policy_or_loss_is_refused_with_advice(arguments: dict[str, Any], named: str) -> None:
    settings: dict[str, Any] = {"loss": GRPO(), **arguments}
    with pytest.raises(ConfigError, match=named):
        GPOModule(**settings)


def test_a_trainer_without_data_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match="RolloutDataModule"):
        GPOTrainer(accelerator="cpu", logger=False).fit(GPOModule(GRPO()))


def test_spawned_processes_do_not_run_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, math\n"
        "from gpo_lightning.engines.without_main import without_main\n"
        "print('script runs')\n"
        "process = multiprocessing.get_context('spawn').Process(target=math.sqrt, args=(4,))\n"
        "with without_main():\n"
        "    process.start()\n"
        "process.join()\n"
        "print('child', process.exitcode, __file__ is not None)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.splitlines() == ["script runs", "child 0 True"], done.stderr


def test_rewards_are_named_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "own_rewards.py").write_text("def brief(completion, answer): return -len(completion) / 100\n")
    rewards = (
        "{class_path: gpo_lightning.rewards.Rewards, init_args: {functions: {own_rewards.brief: 2.0}, success: -1}}"
    )
    done = gpo(["fit", *config("quickstart.yaml"), *SMALL_RUN, f"--data.rewards={rewards}"], tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (tree, *_) = read_trees(next(tmp_path.glob("runs/**/iteration-0000-rank0.parquet")))
    assert all(s.reward == pytest.approx(2 * (s.parts["brief"] or 0)) for s in tree.samples)
    plain = gpo(["fit", *config("quickstart.yaml"), "--data.rewards=own_rewards.breif"], tmp_path, check=False)
    assert plain.stderr.strip().splitlines()[-1].endswith("Did you mean own_rewards.brief?")


def test_the_command_line_knows_its_version_and_takes_no_abbreviations(tmp_path: Path) -> None:
    assert gpo(["--version"], tmp_path).stdout.startswith("gpo_lightning 0.")
    done = gpo(["fit", "--trainer.max_epoch=3"], tmp_path, check=False)
    assert "trainer has no key 'max_epoch'. Did you mean max_epochs?" in done.stderr


def test_rows_that_are_all_held_out_say_so() -> None:
    data = RolloutDataModule(problems=[{"prompt": f"{n}+1?", "answer": "2"} for n in range(60)], engine=Transformers())
    held = [problem.prompt for problem in data.problems.heldout()]
    data = RolloutDataModule(problems=[{"prompt": prompt, "answer": "2"} for prompt in held], engine=Transformers())
    with pytest.raises(ConfigError, match=rf"no training problems. All {len(held)} are held out"):
        _ = data.order


def test_a_module_that_a_reward_needs_is_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_rewards.py").write_text("import no_such_package\ndef close(completion): return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"module 'needy_rewards' of .* imports 'no_such_package', which fails"):
        RolloutDataModule(problems=ROWS, rewards="needy_rewards.close", engine=Transformers())
    with pytest.raises(ConfigError, match=r"module 'no_such_rewards' of .* must lie in the folder"):
        RolloutDataModule(problems=ROWS, rewards="no_such_rewards.close", engine=Transformers())
