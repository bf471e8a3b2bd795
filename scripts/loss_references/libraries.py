"""verl and OpenRLHF import far more than their losses need; stand-ins take the place of the rest."""

import sys
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

TRL, VERL, OPENRLHF = (f"{name} {version(name)}" for name in ("trl", "verl", "openrlhf"))


def stand_in(name: str, folder: Path | None = None, **contents: Any) -> None:
    """A module in the place of one that imports too much; with `folder`, a package whose modules can be imported."""
    module = ModuleType(name)
    vars(module).update(contents)
    if folder is not None:
        module.__path__ = [str(folder)]
    sys.modules[name] = module


def home(package: str) -> Path:
    """Where a package is installed, found without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed: see tests/losses/reference/README.md")
    return Path(spec.origin).parent


class ActorConfig(SimpleNamespace):
    """In the place of verl's, which gets its fields from YAML; read by name and by `get`."""

    def get(self, key: str, default: Any) -> Any:
        return getattr(self, key, default)


@cache
def verl() -> SimpleNamespace:
    """verl's modules `core_algos`, `torch_functional` and `rollout_corr_helper`."""
    root = home("verl")
    for package in ("", "utils", "trainer", "trainer.ppo", "workers"):
        stand_in(f"verl.{package}".rstrip("."), root / package.replace(".", "/"))
    stand_in("omegaconf", DictConfig=dict)
    stand_in("tensordict", TensorDict=dict)
    stand_in("verl.protocol", DataProto=object)
    stand_in("verl.utils.device", get_device_name=lambda: "cpu", get_torch_device=lambda: torch.cpu)
    stand_in("verl.trainer.config", root / "trainer/config", AlgoConfig=type("AlgoConfig", (), {}))
    stand_in("verl.trainer.config.algorithm", RolloutCorrectionConfig=object)
    stand_in("verl.workers.config", root / "workers/config", ActorConfig=ActorConfig)
    stand_in("verl.workers.config.actor", PolicyLossConfig=object)
    groups = import_module("verl.utils.groupwise")
    vars(sys.modules["verl.utils"]).update(as_torch_index=groups.as_torch_index, group_mean_std=groups.group_mean_std)
    return SimpleNamespace(
        core=import_module("verl.trainer.ppo.core_algos"),
        functional=import_module("verl.utils.torch_functional"),
        rollout=import_module("verl.trainer.ppo.rollout_corr_helper"),
    )


@cache
def openrlhf_loss() -> ModuleType:
    root = home("openrlhf")
    stand_in("deepspeed")
    stand_in("openrlhf", root)
    stand_in("openrlhf.models", root / "models")
    return import_module("openrlhf.models.loss")
