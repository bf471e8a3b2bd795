"""The commands, and what each lets one set. Nothing here imports Lightning or torch."""

from collections.abc import Mapping
from typing import Any

from gpo_lightning.cli.kinds import ANYTHING, NULL, Kind, Object, Scalar, union
from gpo_lightning.cli.signatures import signature

COMMANDS = {
    "new": "Make a project: a configuration, a reward and data that run as they are.",
    "configs": "List the configurations that come with the package.",
    "fit": "Train a policy, or go on with a run.",
    "validate": "Measure success on held-out problems, as within training.",
    "test": "Measure success on held-out problems or benchmarks.",
    "predict": "Answer the held-out problems and keep the answers.",
    "explore": "Find the steps on which solutions turn, without training, and draw the page.",
    "diagnose": "Say whether critical steps would help this policy on these problems.",
    "report": "Draw the page of a run or a rollout file again.",
    "export": "Write the adapter, or the merged model, for peft, transformers and vLLM.",
}
CONFIGURED = tuple(name for name in COMMANDS if name not in ("new", "configs", "report"))
"""Commands that take a configuration."""

_GIVEN_BY_THE_COMMAND_LINE = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
_HELP = """\
gpo trains language models on the steps their reasoning turns on (Guided Pivotal Optimization).

Usage: gpo COMMAND [RUN] [--config FILE_OR_NAME]... [--KEY VALUE]...

{commands}

Configurations combine from left to right, options come last; RUN is the folder of a run, whose configuration and
weights are taken.

  gpo fit --config quickstart --config loss/dpo --trainer.max_epochs 3
  gpo explore --model Qwen/Qwen2.5-0.5B-Instruct --question "What is 17 * 24?" --answer 408
  gpo test runs/quickstart
  gpo fit --config quickstart --print_config      all that is set, without starting
  gpo fit --help                                  all that can be set

Options of its own: --help, --version. Documentation: docs/how-to/command-line.md
"""


def help_text() -> str:
    """What ``gpo --help`` prints."""
    return _HELP.format(commands="\n".join(f"  {name:<10} {said}" for name, said in COMMANDS.items()))


def arguments_of(command: str) -> Mapping[str, Kind]:
    """What a command takes beside the configuration, such as ``ckpt_path``."""
    known = signature(f"gpo_lightning.trainer.GPOTrainer.{command}")
    parameters = known.parameters if known is not None else {}
    return {name: kind for name, kind in parameters.items() if name not in _GIVEN_BY_THE_COMMAND_LINE}


def keys_of(command: str) -> Mapping[str, Kind]:
    """All that can be set for a command, by first key."""
    return {
        "seed_everything": union([Scalar("bool"), Scalar("int")]),
        "trainer": Object("gpo_lightning.trainer.GPOTrainer"),
        "model": Object("gpo_lightning.module.GPOModule"),
        "data": Object("gpo_lightning.datamodule.RolloutDataModule"),
        "warm_start": union([Object("gpo_lightning.cli.gpo_cli.WarmStart"), NULL]),
        "config": ANYTHING,
        **arguments_of(command),
    }


def without_other_commands(config: Mapping[str, Any], command: str | None) -> dict[str, Any]:
    """A configuration without what only other commands take: a run's own is one for ``fit``.

    >>> without_other_commands({"seed_everything": 0, "resume_with": None, "ckpt_path": "last"}, "export")
    {'seed_everything': 0}
    """
    own = arguments_of(command).keys() if command is not None else set[str]()
    others = {name for other in CONFIGURED for name in arguments_of(other)} - own
    if command != "fit" and config.get("ckpt_path") == "last":
        others.add("ckpt_path")
    return {key: value for key, value in config.items() if key not in others}
