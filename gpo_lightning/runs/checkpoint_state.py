"""What of a checkpoint may tell Lightning what to do, once it is known to be whole: nothing that somebody else decides.

Lightning has a checkpoint say which files to remove and at which learning rate to go on.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
_OPTIMISER, _SCHEDULES = "model.optimizer", ("model.schedule", "model.lr_scheduler")


def keep_to_folder(trainer: Trainer, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Have the callbacks that keep checkpoints look after those beside this one, and no other file.

    They remove what their state in the checkpoint names. The folder may have been moved since that was written.

    Args:
        trainer: whose callbacks they are.
        checkpoint: its content, which is changed.
        path: where it lies.
    """
    states: dict[str, Any] = checkpoint.get("callbacks") or {}
    for callback in cast(Iterable[Any], cast(Any, trainer).callbacks):
        if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
            states[callback.state_key] = _moved(states[callback.state_key], callback.dirpath, path.parent)


def _moved(state: Mapping[str, Any], folder: Any, found_in: Path) -> dict[str, Any]:
    if folder is None or Path(folder).resolve() != found_in.resolve():  # of a run that goes on elsewhere
        return {**state, "dirpath": "", "best_model_path": ""}

    def here(path: Any) -> str:
        return str(Path(folder) / Path(str(path)).name) if path else ""

    kept: Mapping[str, Any] = state.get("best_k_models") or {}
    named = {name: here(state.get(name)) for name in _PATHS}
    return {**state, **named, "dirpath": str(folder), "best_k_models": {here(name): kept[name] for name in kept}}


def renew(checkpoint: dict[str, Any], meant: Iterable[str], configured: Callable[[], Any]) -> None:
    """Have the optimiser and its schedule go on as configured, where that is meant to differ from the run so far.

    torch has them go on with the settings in the checkpoint. What the optimiser has gathered is kept, if it is of the
    same class; another schedule begins where the run is.

    Args:
        checkpoint: its content, which is changed.
        meant: keys of the configuration that are meant to differ.
        configured: makes an optimiser with its schedule, as ``configure_optimizers`` does.
    """
    tops = [key.split(".init_args")[0].removesuffix(".class_path") for key in meant]
    if not any(_covers(top, key) for top in tops for key in (_OPTIMISER, *_SCHEDULES)):
        return
    made = configured()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    schedulers = [made["lr_scheduler"]["scheduler"]] if isinstance(made, dict) else []
    for state in checkpoint.get("optimizer_states", ()):
        pairs = zip(optimizer.param_groups, state["param_groups"], strict=True)
        groups = [{**group, "params": old["params"]} for group, old in pairs]
        if list(map(_settings, groups)) != list(map(_settings, state["param_groups"])):
            state["state"] = {}
        state["param_groups"] = groups
    checkpoint["lr_schedulers"] = [each.state_dict() for each in schedulers]


def _covers(top: str, key: str) -> bool:
    return key == top or key.startswith(f"{top}.") or top.startswith(f"{key}.")


def _settings(group: Mapping[str, Any]) -> set[str]:
    """Names of what an optimiser, and no schedule, has put into a group."""
    return {name for name in group if name not in ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")}
