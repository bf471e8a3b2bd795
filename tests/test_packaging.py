"""Editable install, wheel from the tree, wheel from the source distribution: each carries the same package.

`callbacks/` and `configs/` stand at the top of the repository and are installed inside `gpo_lightning`. In
the tree a link shows them there; archives take the folders themselves, whichever way a wheel is built.
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import hatchling.build
import pytest

ROOT = Path(__file__).parents[1]
INSTALLED_IN_PACKAGE = ("callbacks", "configs")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@pytest.fixture(scope="module")
def source_distribution(archives: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return archives / hatchling.build.build_sdist(str(archives))


@pytest.fixture(scope="module")
def wheel_from_tree(archives: Path) -> Path:
    return build(hatchling.build.build_wheel, ROOT, archives / "tree")


@pytest.fixture(scope="module")
def wheel_from_sdist(archives: Path, source_distribution: Path) -> Path:
    shutil.unpack_archive(source_distribution, archives / "unpacked")  # tarfile's own filter is not in Python 3.11.2
    (unpacked,) = (archives / "unpacked").iterdir()
    return build(hatchling.build.build_wheel, unpacked, archives / "sdist")


@pytest.fixture(scope="module")
def editable_wheel(archives: Path) -> Path:
    return build(hatchling.build.build_editable, ROOT, archives / "editable")


def test_wheel_from_tree_holds_every_file_of_the_package(wheel_from_tree: Path) -> None:
    assert contents(wheel_from_tree) == expected_contents()


def test_wheel_from_sdist_holds_the_same_files(wheel_from_sdist: Path) -> None:
    assert contents(wheel_from_sdist) == expected_contents()


def test_wheels_carry_callbacks_configurations_and_tiny_weights(wheel_from_sdist: Path) -> None:
    names = contents(wheel_from_sdist)
    assert "gpo_lightning/callbacks/__init__.py" in names
    assert "gpo_lightning/configs/quickstart.yaml" in names
    weights = {name for name in names if name.startswith("gpo_lightning/policy/embedded/weights/")}
    assert {Path(name).suffix for name in weights} >= {".safetensors", ".json"}


def test_editable_wheel_points_at_the_tree_and_copies_nothing(editable_wheel: Path) -> None:
    assert {Path(name).suffix for name in contents(editable_wheel)} == {".pth"}


@pytest.mark.parametrize(
    "install", [pytest.param("editable_wheel", marks=pytest.mark.long), "wheel_from_tree", "wheel_from_sdist"]
)
def test_installed_package_finds_callbacks_and_configs(
    install: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with zipfile.ZipFile(request.getfixturevalue(install)) as archive:
        archive.extractall(tmp_path)
    home = ROOT if install == "editable_wheel" else tmp_path
    program = f"""
import site, sys
sys.path = [entry for entry in sys.path if entry != {str(ROOT)!r}]  # where these tests import from
site.addsitedir({str(tmp_path)!r})
sys.path.insert(0, sys.path.pop())
import gpo_lightning.callbacks
from importlib.resources import files
assert gpo_lightning.__file__ == {str(home / "gpo_lightning" / "__init__.py")!r}, gpo_lightning.__file__
assert files("gpo_lightning").joinpath("configs", "quickstart.yaml").is_file()
assert files("gpo_lightning").joinpath("policy", "embedded", "weights").is_dir()
from gpo_lightning.cli import main
main(["configs", "loss/dpo"])
main(["new", {str(tmp_path / "project")!r}])
"""
    run = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("loss/dpo  DPO on pairs"), "configurations go by name"
    assert {path.name for path in (tmp_path / "project").iterdir()} >= {"config.yaml", "reward.py", "data.jsonl"}


def build(builder: Callable[[str], str], tree: Path, into: Path) -> Path:
    """Run one of hatchling's builders in a tree, as pip does."""
    into.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tree)
        return into / builder(str(into))


def contents(wheel: Path) -> set[str]:
    """The files of a wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def expected_contents() -> set[str]:
    """The package as it stands in the tree, the links followed."""
    package = {path.relative_to(ROOT) for path in files_below(ROOT / "gpo_lightning")}
    linked = [path.relative_to(ROOT) for name in INSTALLED_IN_PACKAGE for path in files_below(ROOT / name)]
    return {path.as_posix() for path in package | {"gpo_lightning" / path for path in linked}}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
