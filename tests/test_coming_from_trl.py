"""Each line of docs/coming-from-trl.md: the right side runs, and the left side is an argument of TRL's."""

import re
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from inspect import signature
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.runs.model_folder import push_model
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "coming-from-trl.md").read_text()
ROW = re.compile(r"^\| `(?P<theirs>\w+)` \| `(?P<ours>.+)` \|$")
OURS = ("losses", "losses.parts", "engines", "rollouts", "experience", "experience.advantages", "experience.overlong")
MORE = ("policy", "problems", "rewards", "callbacks", "training.schedule")
HEADINGS = {
    "`GRPOTrainer`": ("GRPOTrainer",),
    "`GRPOConfig`": ("GRPOConfig",),
    "`DPOTrainer`": ("DPOTrainer",),
    "`DPOConfig`": ("DPOConfig",),
    "Arguments that both inherit": ("GRPOConfig", "DPOConfig"),
}


def rows() -> list[tuple[str, str, str]]:
    """Heading, TRL's name and our code of each line of the tables."""
    found: list[tuple[str, str, str]] = []
    for section in PAGE.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        found += [(heading, match["theirs"], match["ours"]) for match in map(ROW.match, body.splitlines()) if match]
    return found


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's code may name."""
    modules = [import_module(f"gpo_lightning.{name}") for name in (*OURS, *MORE)]
    ours = {name: value for module in modules for name, value in vars(module).items() if not name.startswith("_")}
    lightnings = [ModelCheckpoint, CSVLogger, TensorBoardLogger, LoraConfig, BitsAndBytesConfig]
    doors = [GPOModule, GPOTrainer, RolloutDataModule, push_model, partial, contains, brief]
    given = {each.__name__: each for each in (*lightnings, *doors)}
    return {**ours, **given, "torch": torch, "rows": [{"prompt": f"{n}?", "answer": str(n)} for n in range(64)]}


def contains(completion: str, answer: str, **columns: Any) -> float:
    return float(answer in completion)


def brief(completion: str) -> float:
    return -len(completion) / 1000


@pytest.mark.parametrize(("heading", "theirs", "ours"), rows(), ids=lambda value: str(value)[:40])
def test_the_line_runs(heading: str, theirs: str, ours: str, names: dict[str, Any]) -> None:
    made = eval(ours, names)
    assert made is not None
    assert heading in HEADINGS


def test_every_table_is_read() -> None:
    listed = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows()) == len(listed) > 60


def test_the_names_are_trls() -> None:
    trl = pytest.importorskip("trl", reason="trl is not installed (make test-reference has it)")
    for heading, theirs, _ in rows():
        for name in HEADINGS[heading]:
            kind = getattr(trl, name)
            known = {f.name for f in fields(kind)} if is_dataclass(kind) else set(signature(kind.__init__).parameters)
            assert theirs in known, f"{name} has no {theirs}"
