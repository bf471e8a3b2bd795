"""What README and documentation show works: YAML parses, Python runs, commands and configurations exist."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GENERATED = ROOT / "docs/reference"
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.parent != GENERATED]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of code and where it stands."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, match["language"], textwrap.dedent(match["code"]))


def commands(program: str) -> list[tuple[Block, str]]:
    """Every line of a bash block that starts with `program`, continued lines joined."""
    lines = [(block, line) for block in blocks("bash") for line in block.code.replace("\\\n", " ").splitlines()]
    return [(block, line.strip()) for block, line in lines if line.strip().startswith(f"{program} ")]


def class_paths(node: Any) -> Iterator[str]:
    """The `class_path` values of ours in a parsed YAML block."""
    if isinstance(node, dict):
        path = node.get("class_path", "")
        if isinstance(path, str) and path.startswith("gpo_lightning."):
            yield path
        for value in node.values():
            yield from class_paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from class_paths(value)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_parses_and_names_classes_that_exist(block: Block) -> None:
    parsed = yaml.safe_load(block.code)
    assert parsed is not None
    for path in class_paths(parsed):
        module, name = path.rsplit(".", 1)
        assert hasattr(import_module(module), name), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs_from_top_to_bottom_of_the_page(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks_of(page):
        if block.language == "python":
            source = "\n" * block.line + block.code  # so that a traceback gives the line of the page
            exec(compile(source, str(page), "exec"), namespace)


def test_the_first_program_with_rows_of_ones_own_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = next(block for block in blocks_of(ROOT / "docs/how-to/your-own-problems.md") if block.language == "python")
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    exec(compile(first.code, str(first.page), "exec"), namespace)
    namespace["trainer"].fit(namespace["module"], namespace["data"])
    assert list(tmp_path.glob("**/last.ckpt"))


@pytest.mark.parametrize(("block", "command"), commands("gpo"), ids=lambda value: str(value)[:60])
def test_commands_name_subcommands_and_configurations_that_exist(block: Block, command: str) -> None:
    from gpo_lightning.cli.commands import COMMANDS
    from gpo_lightning.cli.shipped import names

    _, subcommand, *arguments = shlex.split(command.replace("--config=", "--config "), comments=True)
    assert subcommand.startswith("-") or subcommand in COMMANDS, f"{block}: {command}"
    for option, value in pairwise(arguments):
        if option == "--config":
            known = (ROOT / value).is_file() or value in names() or value == "config.yaml"
            assert known, f"{block}: {value} does not exist"


@pytest.mark.parametrize(("block", "command"), commands("make"), ids=lambda value: str(value)[:60])
def test_make_targets_exist(block: Block, command: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets, f"{block}: {command}"
