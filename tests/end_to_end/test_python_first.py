"""What people type first in Python, with nothing else set."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
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
        ({"optimizer": "adamw"}, r"optimizer is 'adamw'.*optimizer=partial\(torch.optim.AdamW"),
        ({"optimizer": torch.optim.SGD([torch.zeros(1)])}, "optimizer is of type SGD"),
        ({"lr_scheduler": "cosine"}, "lr_scheduler is 'cosine'"),
        ({"schedule": "cosine"}, r"schedule=Schedule\("),
    ],
)
def test_what_is_no_policy_or_loss_is_refused_with_advice(arguments: dict[str, Any], named: str) -> None:
    settings: dict[str, Any] = {"loss": GRPO(), **arguments}
    with pytest.raises(ConfigError, match=named):
        GPOModule(**settings)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"engine": "vllm"}, r"engine is 'vllm'. Give an instance of Engine, such as engine=VLLM\(\)"),
        ({"engine": Transformers}, r"engine is the class Transformers.*engine=Transformers\(\)"),
        ({"plan": {"problems": 2}}, "plan is of type dict"),
        ({"sampling": {"max_tokens": 2}}, "sampling is of type dict"),
        ({"search": "bisect"}, "Give an instance of SearchStrategy"),
    ],
)
def test_what_is_no_part_of_a_data_module_is_refused_with_advice(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        RolloutDataModule(**{"problems": ROWS, "engine": Transformers(), **arguments})


def fitted(trainer: type[lightning.Trainer], module: GPOModule, folder: Path, **settings: Any) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = trainer(
        **{"max_epochs": 1, "default_root_dir": folder, "logger": False, "limit_val_batches": 0, **quiet, **settings}
    )
    run.fit(module, small(rewards=varied))
    return run


def varied(completion: str) -> float:
    return float(len(completion) % 2)


class OwnModule(GPOModule):
    """As users of Lightning write one."""

    def __init__(self, learning_rate: float = 1e-3, **others: Any) -> None:
        super().__init__(GRPO(), "tiny", optimizer=partial(torch.optim.AdamW, lr=learning_rate), **others)
        self.save_hyperparameters()


def test_a_module_of_ones_own_is_loaded_from_its_checkpoint(tmp_path: Path) -> None:
    module = OwnModule(learning_rate=0.25)
    fitted(GPOTrainer, module, tmp_path)
    (checkpoint,) = tmp_path.glob("**/last.ckpt")
    again = OwnModule.load_from_checkpoint(checkpoint)
    assert again.hparams["learning_rate"] == 0.25
    assert again.optimizer.keywords == {"lr": 0.25}  # type: ignore[attr-defined]
    same = zip(module.policy.trainable_state().values(), again.policy.trainable_state().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)


def test_weights_go_out_and_come_back_as_a_state_dict() -> None:
    first, second = GPOModule(GRPO(), "tiny"), GPOModule(GRPO(), "tiny")
    first.configure_model()
    for name, weight in first.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(weight, second.state_dict()[name]) for name, weight in first.state_dict().items())
    with pytest.raises(ConfigError, match="missing and 1 are too many"):
        second.load_state_dict({"another": torch.zeros(1)})


def test_gradients_are_clipped_by_value_where_there_is_nothing_to_learn(tmp_path: Path) -> None:
    run = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        gradient_clip_val=0.1,
        gradient_clip_algorithm="value",
        default_root_dir=tmp_path,
    )
    run.fit(GPOModule(GRPO(), "tiny"), small(rewards=lambda completion: 1.0))
    assert run.global_step == 1


@pytest.mark.parametrize("trainer", [GPOTrainer, lightning.Trainer])
def test_a_compiled_module_is_refused_before_it_compiles_for_ever(
    trainer: type[lightning.Trainer], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="Give the module as it is"):
        fitted(trainer, torch.compile(GPOModule(GRPO(), "tiny")), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"limit_train_batches": 0.5}, "trainer.limit_train_batches is 0.5"),
        ({"overfit_batches": 1}, "set data.refresh_every"),
        ({"val_check_interval": 0.5}, "the policy is validated between iterations"),
        ({"gradient_clip_val": -1.0}, "trainer.gradient_clip_val is -1"),
    ],
)
def test_arguments_of_lightnings_that_mean_nothing_here_are_refused(
    settings: dict[str, Any], named: str, tmp_path: Path
) -> None:
    module = GPOModule(GRPO(), "tiny")
    with pytest.raises(ConfigError, match=named):
        fitted(lightning.Trainer, module, tmp_path, **settings)
    assert not hasattr(module, "policy"), "before the model is loaded"


@pytest.mark.parametrize(
    ("callback", "named"),
    [
        (EarlyStopping("val_accuracy"), "monitors 'val_accuracy', which is never logged. Did you mean val/accuracy?"),
        (ModelCheckpoint(monitor="reward"), "Did you mean rewards/reward?"),
        (LearningRateMonitor(), "there is nothing to log to"),
    ],
)
def test_what_a_callback_watches_in_vain_is_said_before_rollouts(
    callback: lightning.Callback, named: str, tmp_path: Path
) -> None:
    module = GPOModule(GRPO(), "tiny")
    with pytest.raises(ConfigError, match=named):
        fitted(GPOTrainer, module, tmp_path, callbacks=[callback])
    assert not hasattr(module, "policy")


def test_a_figure_that_was_not_logged_after_all_ends_in_plain_words(tmp_path: Path) -> None:
    watch = EarlyStopping("rewards/elegance", check_on_train_epoch_end=True)
    with pytest.raises(ConfigError, match="metric `rewards/elegance` which is not available"):
        fitted(GPOTrainer, GPOModule(GRPO(), "tiny"), tmp_path, callbacks=[watch])


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
    assert "data.rewards: own_rewards has no 'breif'. Did you mean own_rewards.brief?" in plain.stderr


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
