"""Imports point one way along the road, and Lightning stands at its ends only: see pyproject.toml."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_MODULE_LINES = 400


def test_imports_point_one_way_along_the_road() -> None:
    check = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert "0 broken" in check.stdout


def test_every_folder_below_the_ends_is_forbidden_to_know_lightning() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    road, lightning_at_the_ends = settings["contracts"]
    layers = [name.strip(" ()") for layer in road["layers"] for name in layer.split("|")]
    ends = {"__main__", "cli", "trainer", "subcommands", "callbacks", "module", "datamodule", "rollout_data"}
    ends |= {"evaluation_data", "runs"}
    middle = set(layers) - ends
    assert {name.removeprefix("gpo_lightning.") for name in lightning_at_the_ends["source_modules"]} == middle


def test_no_module_is_longer_than_can_be_read_at_once() -> None:
    package = [*(ROOT / "gpo_lightning").rglob("*.py"), *(ROOT / "callbacks").rglob("*.py")]
    assert not {str(path): lines for path in package if (lines := line_count(path)) > MAX_MODULE_LINES}


def test_no_module_has_a_name_that_says_nothing() -> None:
    modules = {path.name for path in (ROOT / "gpo_lightning").rglob("*.py")}
    assert not modules & {"utils.py", "common.py", "helpers.py", "misc.py"}


def line_count(path: Path) -> int:
    return len(path.read_text().splitlines())
