"""No file configures, runs or leaves its folder, whatever it holds and whatever it is called."""

import csv
import json
import pickle
import shutil
from functools import wraps
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger

from gpo_lightning.callbacks.logged import log_table
from gpo_lightning.cli import main
from gpo_lightning.errors import ConfigError, printable
from gpo_lightning.evaluation import Estimate, Report
from gpo_lightning.evaluation.report import Figures
from gpo_lightning.evaluation.tables import markdown
from gpo_lightning.losses import GRPO
from gpo_lightning.module import GPOModule
from gpo_lightning.policy.embedded import resolve_base
from gpo_lightning.problems import Message, Problem
from gpo_lightning.rollouts import RolloutTree, read_trees, write_trees
from gpo_lightning.runs.checkpoint import check_names
from gpo_lightning.runs.file_names import file_name
from gpo_lightning.trainer import GPOTrainer
from tests.end_to_end.conftest import TRANSFORMERS, config


@pytest.mark.parametrize("command", ["export", "fit", "validate", "test", "explore"])
def test_hyper_parameters_of_a_checkpoint_configure_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bad.ckpt"
    hostile = {"policy": {"trust_remote_code": True, "base": "elsewhere"}, "bad_steps": 99, "_class_path": "os.system"}
    progress = {"current": {"processed": 1, "ready": 1}}
    content: dict[str, Any] = {"hyper_parameters": hostile, "state_dict": {}, "optimizer_states": [], "global_step": 1}
    content |= {
        "pytorch-lightning_version": "2.6.6",
        "loops": {"fit_loop": {"epoch_progress": progress}},
        "RolloutDataModule": {},
    }
    torch.save(content, path)
    seen: list[GPOModule] = []

    @wraps(getattr(GPOTrainer, command))
    def told(self: GPOTrainer, model: GPOModule, *rest: Any, **keywords: Any) -> None:
        seen.append(model)

    monkeypatch.setattr(GPOTrainer, command, told)
    monkeypatch.chdir(tmp_path)
    main([command, *config("quickstart.yaml"), TRANSFORMERS, f"--ckpt_path={path}"])
    (module,) = seen
    assert (module.policy_config.trust_remote_code, module.policy_config.base) == (False, "tiny")
    assert module.bad_steps == 5


class Touch:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("command", ["export", "fit", "validate", "test", "predict"])
def test_nothing_in_a_checkpoint_is_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, path = tmp_path / "was_here", tmp_path / "bad.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Touch(mark)}, path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SystemExit, pickle.UnpicklingError)):
        main([command, *config("quickstart.yaml"), TRANSFORMERS, f"--ckpt_path={path}"])
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "unpickled it does run, else this test could not fail"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"policy": {"base": "base", "trust_remote_code": True}}, "asks for policy.trust_remote_code"),
        ({"optimizer": "hostile_module.make"}, "names hostile_module.make as optimizer"),
        ({"loss": {"class_path": "hostile_module.Loss"}}, "names hostile_module.Loss as loss.class_path"),
    ],
)
def test_a_checkpoint_loaded_by_itself_decides_nothing_about_code(
    changed: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(resolve_base("tiny"), tmp_path / "base")
    settings = json.loads((tmp_path / "base/config.json").read_text())
    settings |= {"model_type": "hostile", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "base/config.json").write_text(json.dumps(settings))
    for place in (tmp_path / "hostile_module.py", tmp_path / "base/code.py"):
        place.write_text(
            "from pathlib import Path\nPath('was_here').touch()\nfrom transformers import LlamaConfig as Config"
        )
    hyperparameters = {**GPOModule(GRPO(), policy="tiny").hparams, **changed}
    version = {"pytorch-lightning_version": lightning.__version__, "state_dict": {}}
    torch.save({"hyper_parameters": hyperparameters, **version}, tmp_path / "bad.ckpt")
    with pytest.raises(ConfigError, match=message):
        GPOModule.load_from_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "was_here").exists()


def test_what_a_checkpoint_may_not_ask_for_can_be_given() -> None:
    check_names({"policy": {"trust_remote_code": True}, "bad_steps": 5}, given=["policy"])
    check_names({"policy": {"base": "owner/model-1.5", "trust_remote_code": False}, "optimizer": "torch.optim.AdamW"})


@given(st.text(max_size=400))
def test_whatever_something_is_called_its_file_stays_in_the_folder(name: str) -> None:
    made = file_name(name)
    assert 0 < len(made) <= 80
    assert (Path("/run") / f"{made}.parquet").resolve().parent == Path("/run").resolve()
    made.encode("ascii")
    assert not made.startswith(".")


@given(st.lists(st.text(alphabet="a./ \x00é", max_size=100), unique=True, max_size=20))
def test_different_names_have_different_files(names: list[str]) -> None:
    assert len({file_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ('=HYPERLINK("http://x","y")', """'=HYPERLINK("http://x","y")"""),
        ("@SUM(1)", "'@SUM(1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-x", "'-x"),
        ("-5", "-5"),
        ("+1.5e3", "+1.5e3"),
        ("x = 1", "x = 1"),
    ],
)
def test_no_cell_of_a_table_is_a_formula(cell: str, shown: str, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = GPOTrainer(logger=logger, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False)
    log_table(trainer, "answers", ("answer", "reward"), [(cell, 1.0)])
    with (tmp_path / "answers.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "answer", "reward"], ["0", shown, "1.0"]]


@pytest.mark.parametrize("hostile", ["\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "a\u202eb", "\ud800", "a\rb"])
def test_no_text_of_others_commands_the_terminal(
    hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def commands(text: str) -> list[str]:
        return [char for char in text if not char.isprintable() and char not in "\n\t"]

    assert commands(printable(f"{hostile}\n\tأب 字 é 🙂")) == []
    assert printable("\tأب 字 é 🙂\n") == "\tأب 字 é 🙂\n"
    figures = Figures({"accuracy": Estimate(0.5, 0.1, 0.9, 2)}, 2, 0, 0)
    assert commands(markdown({"x": {"0": Report(figures, figures, {f"{hostile}|": figures})}})) == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(f'model: {{loss: "{hostile.encode("unicode_escape").decode()}"}}')
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config=x.yaml"])
    assert commands(str(stop.value)) == []


@pytest.mark.parametrize("text", ["\ud800", "a/../../b\udfff", "x" * 300, "\x00\n", "\ud83d\ude00"])
def test_problems_of_any_text_are_kept_and_read_back(text: str, tmp_path: Path) -> None:
    problem = Problem(id=text, task=text, answer=text, messages=(Message("user", text),), solution=text)
    tree = RolloutTree(problem, (1, 2))
    write_trees(tmp_path / "trees.parquet", [tree])
    (read,) = read_trees(tmp_path / "trees.parquet")
    assert read.problem == problem
    json.dumps(read.problem.id, ensure_ascii=False).encode()
