"""Values out of range are refused before anything is imported, in the words of the class, and nothing else is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from gpo_lightning import callbacks, critical, engines, experience, losses, problems, rewards, rollouts, training
from gpo_lightning.cli.arguments import prepared
from gpo_lightning.cli.commands import keys_of
from gpo_lightning.cli.entry import all_set
from gpo_lightning.cli.guards import RefusedError, UnknownError, make
from gpo_lightning.cli.kinds import Scalar, Union
from gpo_lightning.cli.ranges import check_ranges
from gpo_lightning.cli.signatures import signature
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import parts
from gpo_lightning.rewards import Maths
from gpo_lightning.trainer_arguments import complaint

VALUES = (-1, 0, 0.5, 1, 2, 40)
ROOMS = (callbacks, critical, engines, experience, losses, parts, problems, rewards, rollouts, training)
PATHS = [f"{room.__name__}.{name}" for room in ROOMS for name in room.__all__ if isinstance(getattr(room, name), type)]
OPTIMIZERS = [f"torch.optim.{name}" for name in ("AdamW", "Adam", "SGD", "RMSprop", "Adagrad")]


def numbers(path: str) -> Iterator[str]:
    """Parameters that take a number."""
    known = signature(path)
    for name, kind in known.parameters.items() if known else ():
        kinds = kind.kinds if isinstance(kind, Union) else (kind,)
        if Scalar("int") in kinds or Scalar("float") in kinds:
            yield name


def refusal(make_it: Any, *errors: type[Exception]) -> str | None:
    try:
        make_it()
    except errors as error:
        return str(error)
    return None


def class_of(path: str) -> Any:
    room, _, name = path.rpartition(".")
    return getattr(sys.modules[room], name)


def made(path: str, **given: Any) -> Any:
    """By the class itself."""
    first = ([torch.nn.Parameter(torch.zeros(1))],) if path in OPTIMIZERS else ()
    return class_of(path)(*first, **given)


@pytest.mark.parametrize("path", [*PATHS, *OPTIMIZERS])
def test_source_refuses_what_the_class_refuses_in_its_words(path: str) -> None:
    try:
        made(path)
    except Exception:  # it cannot be made of nothing, so that a number of its is not what is wrong
        return
    lost = 0
    for name in numbers(path):
        for value in VALUES:
            given = {name: value}
            try:
                expected = refusal(lambda given=given: made(path, **given), ConfigError, ValueError)
            except Exception:
                continue
            found = None
            try:
                found = refusal(lambda given=given: make(path, given), RefusedError)
            except UnknownError:
                lost += expected is not None
                continue
            assert found == expected, f"{path}({name}={value})"
    assert lost == 0 or path == f"{Maths.__module__}.Maths"


@pytest.mark.parametrize("value", [-1, 0, 1, 8])
def test_ranks_of_adapters(value: int) -> None:
    from gpo_lightning.policy import PolicyConfig

    expected = refusal(lambda: PolicyConfig(lora=LoraConfig(r=value)), ConfigError)
    lora = make("peft.LoraConfig", {"r": value})
    found = refusal(lambda: make("gpo_lightning.policy.PolicyConfig", {"lora": lora}), RefusedError)
    assert (found, expected is None) == (expected, value > 0)


WRONG: list[tuple[list[str], str]] = [
    (["--model.optimizer.lr", "-1"], "model.optimizer: Invalid learning rate: -1 (--model.optimizer.lr)"),
    (["--data.plan.group_size", "0"], "data.plan.group_size is 0; it must be at least 1 (--data.plan.group_size)"),
    (["--data.search.budget", "-1"], "data.search (ChangePoint): budget is -1"),
    (["--data.search", "Exhaustive", "--data.search.samples", "0"], "samples is 0"),
    (["--data.sampling.top_p", "2"], "data.sampling: top_p is 2; it must be in (0, 1] (--data.sampling.top_p)"),
    (["--data.sampling.temperature", "0"], "greedy rollouts of a group are all the same (--data.sampling.temperature)"),
    (["--data.evaluation", "{top_p: 7}"], "data.evaluation: top_p is 7"),
    (["--data.starts", "Frontier", "--data.starts.target", "2"], "target is 2"),
    (["--data.starts", "{class_path: Frontier, init_args: {target: 2}}"], "target is 2"),
    (["--model.loss.surrogate.low", "-3"], "low is -3"),
    (["--model.loss", "DPO", "--model.loss.beta", "-1"], "model.loss (DPO): beta is -1"),
    (["--model.schedule.warmup", "3"], "model.schedule.warmup is 3"),
    (["--model.schedule.warmup", "0.1", "--model.lr_scheduler", "StepLR"], "both set the learning rate"),
    (["--model.policy.lora", "null", "--model.policy.quantization.load_in_4bit", "true"], "needs model.policy.lora"),
    (["--model.policy.lora.r", "0"], "model.policy.lora.r is 0; it must be at least 1 (--model.policy.lora.r)"),
    (["--trainer.callbacks+=TokenBudget", "--trainer.callbacks.tokens=0"], "TokenBudget.tokens is 0"),
    (["--trainer.callbacks", "[{class_path: LastAndBest, init_args: {every_n_epochs: 0}}]"], "every_n_epochs is 0"),
    (["--trainer.callbacks", "[{class_path: TokenBudget, init_args: {tokens: 0}}]"], "TokenBudget.tokens is 0"),
    (["--data.problems.steps", "99"], "a chain has 1 to 26 operations"),
    (["--seed_everything", "-1"], "seed_everything is -1, but takes a number from 0 to 4294967295 (--seed_everything)"),
    (["--trainer.max_epochs", "-3"], "takes a number of iterations, or -1 for no end (--trainer.max_epochs)"),
    (["--trainer.max_steps", "-2"], "trainer.max_steps is -2"),
    (["--trainer.devices", "0"], "takes 1 or more, -1 for all, a list, or auto (--trainer.devices)"),
    (["--trainer.num_nodes", "0"], "trainer.num_nodes is 0"),
    (["--trainer.gradient_clip_val", "-1"], "takes 0 or more (--trainer.gradient_clip_val). Leave it out"),
    (["--trainer.accumulate_grad_batches", "0"], "takes 1 or more micro-batches of an optimiser step"),
    (["--trainer.check_val_every_n_epoch", "0"], "takes 1 or more iterations"),
    (["--trainer.val_check_interval", "0"], "takes 1.0: the policy is validated between iterations"),
    (["--trainer.limit_train_batches", "0.5"], "An iteration has as many batches as its rollouts give"),
    (["--trainer.limit_train_batches", "0"], "takes a number of batches, 1 or more"),
    (["--trainer.limit_val_batches", "2.5"], "or a share from 0.0 to 1.0"),
    (["--trainer.overfit_batches", "1"], "set data.refresh_every"),
    (["--trainer.fast_dev_run", "-1"], "takes true, false, or a number of batches"),
    (["--trainer.log_every_n_steps", "0"], "trainer.log_every_n_steps is 0"),
    (["--trainer.reload_dataloaders_every_n_epochs", "2"], "takes 1: every epoch has rollouts of its own"),
]

LIGHTNINGS = [
    ("devices", "auto"),
    ("devices", [0, 1]),
    ("devices", -1),
    ("fast_dev_run", True),
    ("limit_train_batches", 1.0),
    ("limit_train_batches", 7),
    ("limit_val_batches", 0),
    ("max_epochs", None),
    ("max_epochs", -1),
    ("gradient_clip_val", 0.5),
    ("val_check_interval", 1.0),
    ("overfit_batches", 0.0),
]


@pytest.mark.parametrize(("name", "value"), LIGHTNINGS)
def test_lightnings_own_arguments_in_range_pass(name: str, value: object) -> None:
    assert complaint(name, value) is None


def refuse(*arguments: str) -> None:
    check_ranges(keys_of("fit"), all_set("fit", prepared("fit", ["--config", "quickstart", *arguments])))


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda value: " ".join(value)[:60])
def test_values_out_of_range_are_refused_with_their_place(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse(*arguments)
    assert said in str(refused.value)


def test_the_file_and_line_of_a_value_are_named(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("data:\n  plan:\n    group_size: 4\n    reset_probability: 2\n")
    with pytest.raises(ConfigError, match=r"it must lie in \[0, 1\] \(.*my.yaml:4\)\.$"):
        refuse("--config", str(file))


def test_what_is_set_later_counts() -> None:
    refuse("--data.plan.group_size", "0", "--data.plan.group_size", "4")
    refuse("--model.loss", "DPO", "--model.loss.beta", "-1", "--model.loss", "GRPO")


def test_nothing_heavy_is_imported_for_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from gpo_lightning.cli import main\n"
        "try:\n"
        "    main(['fit', '--config', 'quickstart', '--model.optimizer.lr', '-1'])\n"
        "except SystemExit as refused:\n"
        "    print(refused, [name for name in ('torch', 'lightning', 'transformers', 'peft') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "gpo: model.optimizer: Invalid learning rate: -1 (--model.optimizer.lr). []\n", done.stderr
