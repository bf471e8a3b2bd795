"""What short forms stand for: ``AdamW`` is torch's, ``policy: tiny`` a whole policy, ``logger: wandb`` Lightning's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from gpo_lightning.cli.others_words import LOGGERS
from gpo_lightning.cli.settings import Setting
from gpo_lightning.cli.sources import Found, find

TORCHS = {"model.optimizer": "torch.optim", "model.lr_scheduler": "torch.optim.lr_scheduler"}
_GROUPS = ("trainer", "model", "data")
_LORA = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
_ROWS = "gpo_lightning.problems.Rows"
_DATA = {"jsonl", "json", "ndjson", "csv", "tsv", "parquet", "gz", "bz2", "xz"}
_CONFIGURATIONS = {"yaml", "yml"}


def long_name(key: str, name: str, bases: Sequence[str] = ()) -> str:
    """The full path of a class given by its name alone; the name itself where several or none could be meant.

    >>> long_name("model.optimizer", "AdamW")
    'torch.optim.AdamW'
    >>> long_name("model.loss", "DPO", ["gpo_lightning.losses.loss.Loss"])
    'gpo_lightning.losses.DPO'

    Args:
        key: that takes it.
        name: as given.
        bases: classes that it may be of, whose packages are looked through.
    """
    if "." in name or not name.isidentifier():
        return name
    packages = [TORCHS[key]] if key in TORCHS else [".".join(base.split(".")[:2]) for base in bases]
    if key.startswith("trainer."):
        packages = ["lightning.pytorch.callbacks", "lightning.pytorch.loggers", "gpo_lightning.callbacks"]
    found = [path for package in packages if isinstance(find(path := f"{package}.{name}"), Found)]
    return found[0] if found else name


def spelt_out(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in the forms that the parser takes.

    >>> spelt_out({"data": {"problems": "my_data.jsonl"}})["data"]["problems"]["init_args"]
    {'train': 'my_data.jsonl'}
    """
    # A group with nothing below it, such as one whose lines are commented out, sets nothing.
    found = {key: value for key, value in config.items() if value is not None or key not in _GROUPS}
    for key in ("model.policy", "data.problems", "trainer.logger", *TORCHS):
        group, name = key.split(".")
        if key in found:
            found[key] = spelt_out_value(key, found[key])
        inside = found.get(group)
        if isinstance(inside, Mapping) and name in inside:
            members = cast(Mapping[str, Any], inside)
            found[group] = {**members, name: spelt_out_value(key, members[name])}
    return found


def spelt_out_value(key: str, value: Any) -> Any:
    """What one key's short form stands for; any other value as it is."""
    if key == "model.policy" and isinstance(value, str) and value.rpartition(".")[2] not in _CONFIGURATIONS:
        return {"base": value, "lora": dict(_LORA)}
    if key == "data.problems" and _are_rows(value):
        return {"class_path": _ROWS, "init_args": {"train": value}}
    if key == "trainer.logger":
        given = cast(list[Any], value) if isinstance(value, list) else [value]
        named = [LOGGERS.get(each, each) if isinstance(each, str) else each for each in given]
        return named if isinstance(value, list) else named[0]
    if key in TORCHS and isinstance(value, str):
        return long_name(key, value)
    if key in TORCHS and isinstance(value, Mapping) and isinstance(path := value.get("class_path"), str):
        return {**cast(Mapping[str, Any], value), "class_path": long_name(key, path)}
    return value


def spelt_out_setting(setting: Setting) -> Setting:
    """A setting in the forms that the parser takes."""
    if not setting.key:
        return replace(setting, value=spelt_out(setting.value))
    return replace(setting, value=spelt_out_value(setting.key, setting.value))


def _are_rows(value: Any) -> bool:
    """A file, a folder, a hub id (``owner/name``), or the rows themselves; a class path is none of them."""
    if isinstance(value, list):
        return True
    if not isinstance(value, str) or value.rpartition(".")[2] in _CONFIGURATIONS:
        return False
    return "/" in value or value.rpartition(".")[2] in _DATA or Path(value).exists()
