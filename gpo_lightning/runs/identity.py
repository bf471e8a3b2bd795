"""Who a run is: what it was started with, by which code, and what makes another run of it.

``run.json`` in the run's folder, and every checkpoint under ``run``::

    {"id": "5f0c1a...", "started": "2026-03-01T12:00:00+00:00", "package": "0.1.0", "git": "518dfd4, changed",
     "job": null, "config": {"seed_everything": 0, "model.loss.class_path": "gpo_lightning.losses.GRPO", ...},
     "versions": {"torch": "2.13.0", ...}}
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.inputs import DIGEST

_CHANGES_THE_RESULT = (
    "seed_everything",
    "model",
    "data",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.gradient_clip_algorithm",
    "trainer.precision",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
)
_CHANGES_NO_RESULT = ("data.recovery", "data.evaluation", "data.evaluation_samples", "model.bad_steps")
_POLICY = ("model.policy.base", "model.policy.lora", "model.policy.adapter")
_ONLY_IN_TRAINING = tuple(
    f"model.policy.lora{inside}.{name}"
    for inside in ("", ".init_args")
    for name in ("lora_dropout", "init_lora_weights", "inference_mode", "class_path")
)
_ABSENT = "(not there)"
_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Identity:
    """What a run is known by.

    Args:
        id: of this run and no other.
        started: when, in ISO 8601.
        package: version of this package.
        git: commit of the working directory's repository, if it is in one, and whether files were changed.
        job: what the scheduler calls the job, which stays the same when it starts it again.
        config: the resolved configuration, by dotted key, with digests of what it names (:mod:`.inputs`); empty where
            the trainer was built in Python.
        versions: of Python and of the libraries on which the numbers depend.
    """

    id: str
    started: str
    package: str
    git: str | None
    job: str | None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def new(config: Mapping[str, Any]) -> "Identity":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Identity(uuid4().hex, now, _package(), _git(), scheduled_job(), config, _versions())

    @staticmethod
    def read(content: Mapping[str, Any]) -> "Identity":
        """Of a checkpoint or ``run.json``; unknown entries are left out."""
        names = ("id", "started", "package", "git", "job", "config")
        return Identity(**{name: content[name] for name in names}, versions=content.get("versions", {}))

    def to_dict(self) -> dict[str, Any]:
        plain = {"config": dict(self.config), "versions": dict(self.versions)}
        return {field.name: getattr(self, field.name) for field in fields(self)} | plain

    def made_by_others(self) -> str:
        """Which libraries have another version now: results go on, but not to the bit. Empty where none has."""
        now = {**_versions(), "gpo-lightning": _package()}
        before = {**self.versions, "gpo-lightning": self.package} if self.versions else {}
        return ", ".join(f"{name} {was} -> {now.get(name)}" for name, was in before.items() if now.get(name) != was)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key of the configuration, in the run that is to go on and now."""

    key: str
    before: Any
    now: Any


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration by dotted keys, in values that JSON has.

    >>> flat({"model": {"loss": {"class_path": "x.GRPO", "init_args": {"beta": 0.1}}}, "data": None})
    {'model.loss.class_path': 'x.GRPO', 'model.loss.init_args.beta': 0.1, 'data': None}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            found |= flat(cast(Mapping[str, Any], value), f"{key}.")
        else:
            found[key] = json.loads(json.dumps(value, default=str))
    return found


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    among: Sequence[str] = _CHANGES_THE_RESULT,
    meant: Iterable[str] = (),
) -> list[Difference]:
    """Where two configurations would not give the same result.

    Args:
        before: of the run that is to go on.
        now: of the run that would go on with it.
        among: keys, with all below them, that count.
        meant: keys, with all below them, that may differ.
    """
    if not before or not now:
        return []
    left_out = (*_CHANGES_NO_RESULT, *meant)
    keys = [key for key in sorted({*before, *now}) if _under(key, among) and not _under(key, left_out)]
    # Runs of earlier versions have no digests, and what is not there any more is told of where it is read.
    keys = [key for key in keys if not key.endswith(f".{DIGEST}") or (key in before and key in now)]
    found = [Difference(key, before.get(key, _ABSENT), now.get(key, _ABSENT)) for key in keys]
    found = [each for each in found if each.before != each.now and not _is_new(each, before)]
    # Of another class every argument differs; that goes without saying.
    classes = [each.key.removesuffix("class_path") for each in found if each.key.endswith("class_path")]
    found = [each for each in found if not any(each.key.startswith(f"{name}init_args") for name in classes)]
    # What is all there is on one side stands for what is below it on the other.
    tops = {each.key for each in found}
    return [each for each in found if not any(each.key.startswith(f"{top}.") for top in tops)]


def _is_new(difference: Difference, before: Mapping[str, Any]) -> bool:
    """Whether the key came with a later version, and is left at its ``null``, which changes nothing."""
    new = difference.before == _ABSENT and difference.now is None
    return new and not any(key.startswith(f"{difference.key}.") for key in before)


def other_policy(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Where weights trained by one configuration do not belong into the policy of another."""
    return differences(before, now, _POLICY, _ONLY_IN_TRAINING)


def table(found: Sequence[Difference]) -> str:
    """Differences a line each: the key, what it was, what it is."""
    rows = [(each.key, _shown(each.before), _shown(each.now)) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"  {key:<{widths[0]}}  {was:>{widths[1]}}  ->  {now}" for key, was, now in rows)


def check_same(where: Path, before: Mapping[str, Any], now: Mapping[str, Any], meant: Sequence[str]) -> None:
    """Refuse to go on as something else.

    Raises:
        ConfigError: the configuration differs in what changes the result.
    """
    found = differences(before, now, meant=meant)
    if found:
        keys = ",".join(dict.fromkeys(each.key.split(".init_args")[0].removesuffix(".class_path") for each in found))
        raise ConfigError(
            f"{where} was made with another configuration:\n{table(found)}\n"
            "Begin a new run (without --ckpt_path and --run), or say that these are meant to change: "
            f"--resume_with '[{keys}]'."
        )


def scheduled_job() -> str | None:
    """The name under which a scheduler starts this run again, and not another."""
    environment = os.environ
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"slurm {environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID')}"
    for kind, name in (("slurm", "SLURM_JOB_ID"), ("torchrun", "TORCHELASTIC_RUN_ID")):
        if name in environment:
            return f"{kind} {environment[name]}"
    return None


def _under(key: str, tops: Iterable[str]) -> bool:
    return any(key == top or key.startswith(f"{top}.") for top in tops)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _package() -> str:
    try:
        return version("gpo-lightning")
    except PackageNotFoundError:
        return "unknown"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "lightning", "numpy"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _git() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty=, changed", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
