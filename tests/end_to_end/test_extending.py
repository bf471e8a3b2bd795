"""Every page of docs/how-to/extend works as it stands, with its Python in a module outside the package."""

import re
from pathlib import Path

import pytest

from gpo_lightning.rollouts import read_trees
from tests.conftest import ROOT
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config, gpo, run_directory

FOLDER = ROOT / "docs" / "how-to" / "extend"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
ONE_EPOCH = "--trainer.max_epochs=1"
LINES = 40


def block(page: Path, language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return code


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(block(page, "python"))
    (tmp_path / "mine.yaml").write_text(block(page, "yaml"))
    small = [argument for argument in SMALL if "problems.steps" not in argument and "heldout_size" not in argument]
    if page.stem != "problem-source":
        small += ["--data.problems.heldout_size=24", "--data.problems.steps=4"]
    engine = [] if page.stem == "engine" else [TRANSFORMERS]
    done = gpo(["fit", *config("quickstart.yaml"), "--config", "mine.yaml", *engine, *small, ONE_EPOCH], tmp_path)
    assert "my_parts." in (run_directory(tmp_path) / "config.yaml").read_text()
    trees = read_trees(run_directory(tmp_path) / "rollouts" / "iteration-0000-rank0.parquet")
    assert any(tree.samples for tree in trees), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_class_of_a_page_is_short(page: Path) -> None:
    classes = re.split(r"^(?=@dataclass|class )", block(page, "python"), flags=re.MULTILINE)[1:]
    assert classes
    assert all(len(code.strip().splitlines()) <= LINES for code in classes)
