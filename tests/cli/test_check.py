"""What is refused before anything is imported: all that cannot be meant, and nothing that the parser would take."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpo_lightning import GPOCLI, GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.cli import main, sources
from gpo_lightning.cli.arguments import prepared
from gpo_lightning.cli.check import check
from gpo_lightning.cli.commands import COMMANDS as ALL_COMMANDS
from gpo_lightning.cli.commands import CONFIGURED, keys_of
from gpo_lightning.cli.entry import all_set
from gpo_lightning.cli.files import check_files
from gpo_lightning.cli.functions import check_rewards
from gpo_lightning.cli.others_words import COMMANDS, KEYS
from gpo_lightning.cli.ranges import check_ranges
from gpo_lightning.cli.shipped import names
from gpo_lightning.errors import ConfigError

QUICKSTART = ["--config", "quickstart"]


def checked(*arguments: str, command: str = "fit") -> list[str]:
    """Arguments that pass, as the parser gets them."""
    full = prepared(command, arguments)
    found = all_set(command, full)
    check(keys_of(command), found)
    check_ranges(keys_of(command), found)
    check_files(command, found)
    check_rewards(found)
    return full


@pytest.fixture(scope="module")
def parser() -> Any:
    return GPOCLI(
        GPOModule,
        RolloutDataModule,
        trainer_class=GPOTrainer,
        auto_configure_optimizers=False,
        run=False,
        args=["--data.problems=gpo_lightning.problems.ModularChains", "--model.loss=gpo_lightning.losses.GRPO"],
    ).parser


@pytest.mark.parametrize("name", names())
def test_every_shipped_configuration_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpo_lightning.cli.files._check_paths", lambda settings: None)  # it names files to be made
    checked(*QUICKSTART, "--config", name)


ODD_BUT_RIGHT = [
    ["--data.plan", "{problems: 3, group_size: 4}"],
    ["--data.sampling.temperature", "1"],
    ["--data.sampling.temperature", "1e-1"],
    ["--model.loss", "DPO", "--model.loss.beta", "0.3"],
    ["--model.loss", "gpo_lightning.losses.DPO", "--model.loss.init_args.beta", "0.3"],
    ["--model.loss", "{class_path: DPO, init_args: {beta: 0.2}}"],
    ["--model.optimizer", "AdamW", "--model.optimizer.lr", "1e-3"],
    ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.init_args.lr", "0.1"],
    ["--model.lr_scheduler", "CosineAnnealingLR", "--model.lr_scheduler.T_max", "3"],
    ["--model.policy.lora", "null"],
    ["--model.policy.lora.r", "8"],
    ["--model.policy", "tiny"],
    ["--model.policy", "{base: tiny, lora: {r: 2, target_modules: all-linear}}"],
    ["--data.search", "{budget: 3}"],
    ["--data.search.budget", "3"],
    ["--data.engine", "auto"],
    ["--data.engine", "{class_path: Transformers, init_args: {batch_size: 2}}"],
    ["--data.evaluation", "null"],
    ["--data.problems", "[{prompt: a, answer: b}]"],
    ["--trainer.callbacks", "null"],
    ["--trainer.callbacks+=lightning.pytorch.callbacks.RichProgressBar"],
    ["--trainer.callbacks+=RichProgressBar"],
    ["--trainer.callbacks+={class_path: gpo_lightning.callbacks.RolloutLog, init_args: {page_every: 2}}"],
    ["--trainer.logger", "false"],
    ["--trainer.logger", "tensorboard"],
    ["--trainer.logger", "[csv, TensorBoardLogger]"],
    ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "x"],
    ["--trainer.devices", "[0]"],
    ["--trainer.precision", "32"],
    ["--trainer.limit_val_batches", "0.5"],
    ["--trainer.max_time", "00:01:00:00"],
    ["--trainer.profiler", "simple"],
    ["--seed_everything", "7"],
    ["--seed_everything=true"],
]


@pytest.mark.parametrize("arguments", ODD_BUT_RIGHT, ids=" ".join)
def test_what_the_parser_takes_passes(arguments: list[str], parser: Any) -> None:
    full = checked(*QUICKSTART, *arguments)
    parser.parse_args(full)


@pytest.mark.parametrize(
    ("rewards", "grader"),
    [
        ("gpo_lightning.rewards.Number", "Number"),
        ("{class_path: gpo_lightning.rewards.Number}", "Number"),
        ("{class_path: Text}", "Text"),
    ],
)
def test_a_grader_swaps_into_any_problem_set(rewards: str, grader: str, parser: Any) -> None:
    arguments = checked(
        *QUICKSTART, "--data.rewards", rewards, "--trainer.logger", "false", "--trainer.callbacks", "null"
    )
    data = parser.instantiate_classes(parser.parse_args(arguments)).data
    assert type(data.problems.grader).__name__ == grader
    assert data.problems.grade(data.problems.train()[0], "It is \\boxed{7}").answer == "7"


WRONG = [
    (["--data.plan.grup", "3"], "--data.plan.grup: data.plan has no key 'grup'. Did you mean group_size?"),
    (["--data.num_generations", "8"], "no key 'num_generations'. Here it is data.plan.group_size."),
    (["--learning_rate", "1e-5"], "Here it is model.optimizer.lr."),
    (["--model.loss.beta", "0.1"], "Here it is model.loss.kl.beta."),
    (["--model.optimizer", "Adagrad", "--model.optimizer.momentum", "1"], "has no key 'momentum'"),
    (["--data.group_size", "3"], "Did you mean data.plan.group_size?"),
    (["--trainer.max_epoch", "3"], "Did you mean max_epochs?"),
    (["--tainer.max_epochs", "3"], "gpo has no key 'tainer'. Did you mean trainer?"),
    (["--model.loss.bata", "0.1"], "bata"),
    (["--model.loss", "gpo_lightning.losses.DPOO"], "Did you mean gpo_lightning.losses.DPO?"),
    (["--model.loss", "gpo_lightning.lossess.DPO"], "Did you mean gpo_lightning.losses.DPO?"),
    (["--model.loss", "DPOO"], "model.loss: there is no class 'DPOO' (--model.loss). Did you mean DPO?"),
    (["--model.loss", "gpo_lightning.critical.Newline"], "gpo_lightning.critical.Newline is no Loss"),
    (["--model.loss", "no_such_package.Loss"], "There is no module no_such_package"),
    (["--model.loss", "{class_path: DPO, beta: 0.1}"], "settings go under init_args"),
    (["--model.loss", "{class_path: DPO, init_arg: {beta: 0.1}}"], "Did you mean init_args?"),
    (["--model.loss", "{class_path: DPO, init_args: {bta: 0.1}}"], "Did you mean beta?"),
    (["--model.optimizer", "AdamW", "--model.optimizer.lrr", "1"], "Did you mean lr?"),
    (["--model.policy.lora.rr", "3"], "Did you mean r?"),
    (["--data.plan.group_size", "many"], "data.plan.group_size is 'many', but takes int"),
    (["--data.plan.group_size", "3.5"], "data.plan.group_size is 3.5, but takes int"),
    (["--data.plan.explore", "fialed"], "takes 'all' or 'failed' (--data.plan.explore). Did you mean failed?"),
    (["--data.plan.mixed_only", "perhaps"], "takes bool"),
    (["--data.plan", "many"], "data.plan"),
    (["--trainer.max_epochs", "x"], "trainer.max_epochs is 'x', but takes int or null"),
    (["--trainer.callbacks+=gpo_lightning.callbacks.Missing"], "there is no gpo_lightning.callbacks.Missing"),
    (["--trainer.callbacks", "[{class_path: gpo_lightning.callbacks.RolloutLog, init_args: {page: 2}}]"], "page_every"),
    (["--data.engine", "VLM"], "Did you mean VLLM?"),
    (["--data.plan", "[8, 8]"], "data.plan is [8, 8], but takes a mapping with some of problems, group_size"),
    (["--trainer.logger", "Foo"], "There are: CSVLogger, CometLogger, MLFlowLogger, TensorBoardLogger, WandbLogger"),
    (["--trainer.callbacks", "[Rolloutlog]"], "Did you mean RolloutLog?"),
    (["--trainer.max_epochs"], "--trainer.max_epochs needs a value: trainer.max_epochs takes int or null"),
    (["--trainer.precision", "17"], "trainer.precision is 17, but takes 64 or 32"),
    (["--data.problems", "./no.jsonl"], "there is no ./no.jsonl"),
    (["--data.saved", "no.parquet"], "data.saved: there is no file no.parquet"),
    (["--ckpt_path", "no/such.ckpt"], "--ckpt_path: there is no no/such.ckpt"),
    (["--ckpt_path", "lst"], "--ckpt_path: there is no lst. To go on with the latest run: --ckpt_path last."),
    (["--model.policy.base", "/no/model"], "model.policy.base: there is no /no/model"),
    (["--run", "no/run"], "--run: there is no folder no/run"),
    (["--config", "loss/dpoo"], "Did you mean loss/dpo?"),
    (["--question", "why?"], "--question is an option of gpo explore, not of gpo fit"),
    (["one", "two"], "takes one run folder"),
    (["runs/nothing"], "there is no runs/nothing"),
    (["trainer.max_epochs=3"], "Did you mean --trainer.max_epochs 3?"),
    (["mine.yaml"], "mine.yaml is a file, and a run is a folder. A configuration goes behind --config"),
    (["--trainer.callbacks", "[{RolloutLog: {}}]"], "Write {class_path: RolloutLog, init_args: {...}}"),
    (["--trainer.callbacks", "{RolloutLog: {}}"], "trainer.callbacks has the name of a class as a key, RolloutLog"),
    (["--model.loss", "{DPO: {beta: 0.1}}"], "model.loss has the name of a class as a key, DPO"),
    (["--model.optimizer", "adamw"], "there is no class 'adamw' (--model.optimizer). Did you mean AdamW?"),
    (["--model.lr_scheduler", "cosine"], "There are: ChainedScheduler, ConstantLR, CosineAnnealingLR"),
    (["--data.plan", "8"], "data.plan is 8, but takes a mapping with some of problems"),
    (["--model.loss.surrogate", "0.2"], "model.loss.surrogate is 0.2, but takes a class, such as"),
    (["-trainer.max_epochs", "3"], "-trainer.max_epochs: options have two dashes: --trainer.max_epochs."),
    (["quickstart"], "there is no quickstart. Did you mean --config quickstart?"),
    (["--data.sampling", "temperature=0.7"], "data.sampling is 'temperature=0.7', but takes a mapping with some of"),
    (
        ["--data.sampling", "{temperature: 0.7"],
        "data.sampling is '{temperature: 0.7', but takes a mapping with some of",
    ),
    (["--trainer.gpus", "1"], "Here it is trainer.devices."),
    (["--data.rewards", "own.py"], "takes the dotted path of a function: own.NAME"),
    (["--data.rewards", "own.py:right"], "takes the dotted path of a function: own.right"),
    (["--data.rewards", "own"], "takes module.function: for own.py, own.NAME"),
    (["--data.rewards", "own.rigth"], "own has no 'rigth'. Did you mean own.right?"),
    (["--data.rewards", "[own.right, owm.right]"], "has no owm.py. Did you mean own?"),
    (["--data.rewards", "{own.rihgt: 0.5}"], "own has no 'rihgt'"),
    (["--data.rewards", "{class_path: gpo_lightning.rewards.Rewards, init_args: {functions: own.x}}"], "has no 'x'"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda value: " ".join(value)[:50])
def test_what_cannot_be_meant_is_refused_with_advice(
    arguments: list[str], said: str, parser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.yaml").write_text("data: {}\n")
    Path("own.py").write_text("raise SystemExit\ndef right(completion): return 1.0\n")
    sources.source.cache_clear()
    with pytest.raises(ConfigError) as refused:
        checked(*QUICKSTART, *arguments)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize("theirs", KEYS)
def test_what_others_call_otherwise_is_there(theirs: str) -> None:
    for ours in KEYS[theirs].split(" or "):
        said = ""
        try:
            checked(*QUICKSTART, f"--{ours}", "null")
        except ConfigError as error:  # its value is of another kind
            said = str(error)
        assert "no key" not in said


@pytest.mark.parametrize(("word", "ours"), COMMANDS.items())
def test_commands_of_other_tools_are_known(word: str, ours: str) -> None:
    with pytest.raises(SystemExit, match=rf"there is no command '{word}'. Here it is {ours}\."):
        main([word])
    assert ours.split()[0] in (*ALL_COMMANDS, "--version")


def test_a_logger_whose_library_is_missing_says_what_to_install() -> None:
    if find_spec("comet_ml"):
        pytest.skip("comet_ml is installed")
    with pytest.raises(ConfigError, match=r"CometLogger needs comet_ml, which is not installed: pip install comet_ml"):
        checked(*QUICKSTART, "--trainer.logger", "CometLogger")


def test_commands_need_problems_and_a_loss() -> None:
    with pytest.raises(ConfigError, match=r"needs data\.problems and model\.loss\. Begin with .*--config quickstart"):
        checked()


def test_a_files_errors_name_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n  loss:\n    class_path: gpo_lightning.losses.DPO\n    init_args:\n      bta: 0.1\n")
    with pytest.raises(
        ConfigError, match=r"model\.loss\.bta: there is no such key \(.*mine\.yaml:5\)\. Did you mean beta"
    ):
        checked("--config", str(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [1, 2", "mine.yaml:1 is not YAML"),
        ("data:\n  plan: {problems: 3}\n   seed: 1\n", "mine.yaml:3 is not YAML"),
        ("data:\n\tseed: 1\n", "mine.yaml:2 is not YAML: a line begins with a tab"),
        ("seed_everything: 1\ndata: {seed: 1}\nseed_everything: 2\n", "mine.yaml:3: seed_everything is set twice"),
        ("- 1\n", "is no configuration"),
        ("data:\n  seed=1\n  plan: {}\n", "a key is followed by a colon and a space"),
        ("just words\n", "is no configuration"),
        ("data:\n  plan:\n    problems: many\n", "data.plan.problems is 'many', but takes int"),
        ("datta: {}\n", "mine.yaml:1). Did you mean data?"),
    ],
)
def test_faults_of_a_file_are_told_with_the_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        checked("--config", str(tmp_path / "mine.yaml"))
    assert said in str(refused.value)


def test_classes_of_ones_own_are_checked_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_losses.py").write_text(
        "from dataclasses import dataclass\nfrom gpo_lightning.losses import DPO\nraise SystemExit\n"
        "@dataclass(frozen=True)\nclass Mine(DPO):\n    margin: float = 0.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    checked(*QUICKSTART, "--model.loss", "own_losses.Mine", "--model.loss.margin", "1", "--model.loss.beta", "1")
    with pytest.raises(ConfigError, match="Did you mean margin"):
        checked(*QUICKSTART, "--model.loss", "own_losses.Mine", "--model.loss.margn", "1")
    with pytest.raises(ConfigError, match=r"Did you mean own_losses\.Mine"):
        checked(*QUICKSTART, "--model.loss", "own_losses.Mien")


def keys(config: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(config, dict):
        for name, value in config.items():
            yield f"{prefix}{name}"
            yield from keys(value, f"{prefix}{name}.")


@pytest.mark.parametrize("name", ["quickstart", "loss/dapo", "critical/frontier", "task/table", "trainer/fsdp2"])
def test_a_misspelt_key_of_a_configuration_is_always_found(name: str, tmp_path: Path) -> None:
    text = Path(prepared("fit", ["--config", name])[1]).read_text()
    # Loggers of Lightning pass on what they do not know.
    for key in [key for key in keys(yaml.safe_load(text)) if not key.startswith("trainer.logger.init_args")]:
        changed = yaml.safe_load(text)
        place = changed
        *above, last = key.split(".")
        for part in above:
            place = place[part]
        place[f"{last}x"] = place.pop(last)
        (tmp_path / "changed.yaml").write_text(yaml.safe_dump(changed))
        with pytest.raises(ConfigError):
            checked(*QUICKSTART, "--config", str(tmp_path / "changed.yaml"))


@pytest.mark.parametrize("command", CONFIGURED)
def test_every_command_knows_its_own_arguments(command: str) -> None:
    known = set(keys_of(command))
    assert {"trainer", "model", "data", "seed_everything", "warm_start", "ckpt_path"} <= known
    assert ("iterations" in known) == (command == "diagnose")
    assert ("output" in known) == (command in ("explore", "export"))
    assert not known & {"model_", "datamodule", "dataloaders"}


def test_refusing_imports_neither_torch_nor_lightning(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from gpo_lightning.cli import main\n"
        "for arguments in (['--help'], ['configs'], ['fit', '--config', 'quickstart', '--data.plan.grup', '3']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit as stop:\n"
        "        print(stop.code)\n"
        "print(sorted({'torch', 'lightning', 'transformers', 'peft'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, refusal, _, imported = done.stdout.splitlines()
    assert refusal.startswith("gpo: --data.plan.grup: data.plan has no key 'grup'")
    assert imported == "[]"
