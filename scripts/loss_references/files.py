"""Cases become a file for each family, and a table to look at."""

import json
import platform
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch

from .case import Case
from .corrections import trl_corrections, trl_off_policy_mask, verl_corrections
from .divergence import divergence
from .openrlhf import openrlhf_dpo, openrlhf_policy_gradient, openrlhf_value
from .trl_advantages import trl_advantages, trl_overlong
from .trl_dpo import trl_dpo
from .trl_policy_gradient import trl_policy_gradient
from .trl_reference_free import trl_cpo, trl_orpo
from .trl_supervised import supervised
from .trl_unpaired import unpaired
from .value import verl_value
from .verl_advantages import verl_advantages
from .verl_policy_gradient import verl_policy_gradient

DIRECTORY = Path(__file__).parents[2] / "tests" / "losses" / "reference"
FAMILIES: dict[str, tuple[Callable[[], Iterator[Case]], ...]] = {
    "policy_gradient": (trl_policy_gradient, verl_policy_gradient, openrlhf_policy_gradient),
    "divergence": (divergence,),
    "value": (verl_value, openrlhf_value),
    "advantages": (trl_advantages, verl_advantages, trl_overlong),
    "corrections": (trl_corrections, trl_off_policy_mask, verl_corrections),
    "preference": (trl_dpo, openrlhf_dpo, trl_cpo, trl_orpo),
    "unpaired": (unpaired,),
    "supervised": (supervised,),
}
LIBRARIES = ("trl", "verl", "openrlhf", "torch", "transformers", "numpy")


def write(directory: Path, family: str, cases: list[Case]) -> None:
    """One case a line, so that a difference between two versions of a file can be read."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    head = f'{{"made_by": "scripts/loss_references",\n"versions": {json.dumps(versions)},\n"cases": [\n'
    body = ",\n".join(case.as_json() for case in cases)
    (directory / f"{family}.json").write_text(f"{head}{body}\n]}}\n")


def show(cases: Iterable[Case]) -> None:
    for case in cases:
        steepest = max((float(slope.abs().max()) for slope in case.gradients.values()), default=None)
        number = "-" if case.value is None else f"{case.value:.15g}"
        slope = "-" if steepest is None else f"{steepest:.6g}"
        where = case.source.split(";")[0].split(", ")[0].rsplit("/", 1)[-1]
        print(f"{case.name:<38}{case.seed:>2}  {number:>22}  {slope:>12}  {where}")


def main(directory: Path = DIRECTORY) -> None:
    torch.set_num_threads(1)
    # constants the references make by themselves would otherwise be float32, and drag the result down with them
    torch.set_default_dtype(torch.float64)
    directory.mkdir(parents=True, exist_ok=True)
    print(f"{'name':<36}seed  {'value':>22}  {'max |grad|':>12}  source")
    for family, parts in FAMILIES.items():
        cases = [case for part in parts for case in part()]
        show(cases)
        write(directory, family, cases)
    size = sum(path.stat().st_size for path in directory.glob("*.json"))
    print(f"{size / 1000:.0f} kB in {directory}")
