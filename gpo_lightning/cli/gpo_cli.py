"""LightningCLI with the module, data module and trainer of this package, and commands of its own."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import Any, NoReturn, cast

import psutil
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from gpo_lightning.cli.commands import without_other_commands
from gpo_lightning.cli.parser_errors import in_few_words
from gpo_lightning.cli.settings import loaded
from gpo_lightning.cli.short_names import spelt_out
from gpo_lightning.critical import TowardOutcome
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError, GPOError
from gpo_lightning.module import GPOModule
from gpo_lightning.runs.checkpoint import load_checkpoint, read_checkpoint
from gpo_lightning.runs.identity import flat
from gpo_lightning.runs.inputs import inputs
from gpo_lightning.trainer import GPOTrainer

_WEIGHTS = {"state_dict", "pytorch-lightning_version"}


@dataclass(frozen=True)
class WarmStart:
    """A run that must have been made before this one, and is made if it was not.

    Args:
        config: configuration of that run.
        makes: what it leaves behind, usually the directory that ``model.policy.base`` names.
    """

    config: Path
    makes: Path


class Parser(LightningArgumentParser):
    """Takes short forms in configuration files, and says what is wrong in few words."""

    def _load_config_parser_mode(self, content: str, *rest: Any, **more: Any) -> Any:
        command = getattr(self, "subcommand", None)
        return super()._load_config_parser_mode(plain_form(content, command), *rest, **more)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        sys.stderr.write(f"gpo: {in_few_words(message)}\n")
        self.exit(2)
        raise AssertionError


def plain_form(content: str, command: str | None) -> str:
    """The text of a configuration file without short forms and without what other commands take.

    Args:
        content: of the file.
        command: that it is for; ``None`` where there is none.
    """
    try:
        config = loaded(content)
    except yaml.YAMLError:
        return content  # which the parser will complain of
    if not isinstance(config, Mapping):
        return content
    found = without_other_commands(spelt_out(cast(Mapping[str, Any], config)), command)
    return content if found == config else yaml.safe_dump(found, sort_keys=False, allow_unicode=True)


class GPOCLI(LightningCLI):
    """LightningCLI with the module, data module and trainer of this package, and three subcommands more."""

    def __init__(self, *positional: Any, **keywords: Any) -> None:
        given = keywords.get("args")
        words = sys.argv[1:] if given is None else given
        command = words[0] if isinstance(words, Sequence) and words else None
        if command in self.subcommands():
            # The parser of a command takes time to build, and only one is used.
            skipped = self.subcommands()[command]
            self.subcommands = lambda: {command: skipped}
        super().__init__(*positional, **{"parser_class": Parser, **keywords})

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        own = {name: {"model", "datamodule"} for name in ("explore", "diagnose", "export")}
        return {**LightningCLI.subcommands(), **own}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        # An abbreviation would be taken in silence for whatever option it begins.
        return super().init_parser(**{"allow_abbrev": False, **kwargs})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults(
            {
                # An epoch is an iteration with rollouts of its own, and the data module shards them itself.
                "trainer.reload_dataloaders_every_n_epochs": 1,
                "trainer.use_distributed_sampler": False,
                "trainer.num_sanity_val_steps": 0,
                "trainer.log_every_n_steps": 1,
            }
        )
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.add_argument("--warm_start", type=WarmStart | None, default=None, help="Run to make first, once.")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "explore":
            # Who looks wants the fall that ruined a solution as much as the gain that made it.
            parser.set_defaults(
                {"data.selector": {"class_path": f"{TowardOutcome.__module__}.{TowardOutcome.__name__}"}}
            )
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self._is_command = args is None
        super().parse_arguments(parser, args)

    def before_fit(self) -> None:
        """Have the run's clock begin when the command was given, imports included."""
        if self._is_command:
            cast(GPOTrainer, self.trainer).began = psutil.Process().create_time()

    def _parse_ckpt_path(self) -> None:
        """Look at the checkpoint before anything is built.

        Lightning would let ``hyper_parameters`` found in it override the user's configuration, code of foreign models
        switched on included. A file is data and configures nothing.
        """
        path = self.config[self.config.subcommand].get("ckpt_path") if self.config.get("subcommand") else None
        if path and Path(path).suffix and "://" not in path and not Path(path).exists():
            raise ConfigError(f"--ckpt_path: there is no {path}. To go on with the latest run: --ckpt_path last.")
        if path and Path(path).is_file():
            if self.config.subcommand == "fit":
                read_checkpoint(Path(path))
            elif absent := sorted(_WEIGHTS - load_checkpoint(Path(path)).keys()):
                raise ConfigError(
                    f"--ckpt_path: {path} is no checkpoint of a Lightning trainer: it has no {absent[0]}."
                )
        # Lightning would now put the checkpoint's hyperparameters in the place of what was configured.

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
            _try_out(cast(GPOModule, self.model))
        except (GPOError, MisconfigurationException):
            raise
        except Exception as error:  # a class that is not ours does not like its settings
            if twice := re.search(r"more than one stateful callback of type `(\w+)`", str(error)):
                raise ConfigError(
                    f"trainer.callbacks holds {twice[1]} twice with the same settings. Leave one out; "
                    "--trainer.callbacks+= adds to those that the configuration has."
                ) from error
            raise ConfigError(f"the configuration cannot be built: {_told(error)}") from error
        config = self.config[self.config.subcommand] if self.config.get("subcommand") else self.config
        settings = flat(config.as_dict())
        cast(GPOTrainer, self.trainer).settings = settings | inputs(settings)

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self.subcommand].get("trainer") if self.subcommand == "validate" else None
        if trainer is not None and trainer.get("limit_val_batches") == 0:
            # Configurations of runs switch the validation inside training off; asked for by name, it is wanted.
            trainer["limit_val_batches"] = 1.0
        warm_start = self.config[self.subcommand].get("warm_start") if self.subcommand else None
        if warm_start is not None and not Path(warm_start["makes"]).exists():
            print(f"Warm start: {warm_start['config']}")
            command = [sys.executable, "-m", "gpo_lightning", "fit", "--config", str(warm_start["config"])]
            if subprocess.run(command, check=False).returncode != 0:
                raise ConfigError(f"warm_start: the run of {warm_start['config']} failed; its own messages are above.")


def _try_out(module: GPOModule) -> None:
    """Build the optimizer on a weight of no use: what it does not like is then found before a model is loaded.

    Raises:
        ConfigError: it cannot be built.
    """
    try:
        optimizer = module.optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model.optimizer: {error}") from error
    try:
        if module.lr_scheduler is not None:
            module.lr_scheduler(optimizer)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model.lr_scheduler: {error}") from error


def run(args: list[str] | None, foreign: Sequence[str] = ()) -> None:
    """Parse a command's arguments, given or the program's own, and do what it says.

    Args:
        args: command and arguments.
        foreign: class paths of other packages and of the user's own modules, which the arguments name.

    Raises:
        ConfigError: Lightning refuses the configuration, or a module of ``foreign`` cannot be imported.
    """
    _import(foreign)
    try:
        GPOCLI(
            GPOModule,
            RolloutDataModule,
            trainer_class=GPOTrainer,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            args=args,
        )
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error


def _import(paths: Sequence[str]) -> None:
    """Import the modules of classes that the configuration names, so that their own faults are told as such.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    for path in paths:
        name = path.rpartition(".")[0]
        try:
            import_module(name)
        except Exception as error:  # whatever a module of the user's does while it is imported
            raise ConfigError(f"{path}: the module {name} cannot be imported: {_told(error)}") from error


def _told(error: Exception) -> str:
    """An error of code that is not ours: what, and the last place it went through."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = extract_tb(error.__traceback__)
    if frames and "/site-packages/lightning/" in frames[-1].filename:
        return str(error)  # Lightning's own checks say what they do not like, and nobody wants to see their code
    if frames and "/site-packages/jsonargparse/" in frames[-1].filename:
        lines = [line.strip().removeprefix("- ") for line in str(error).splitlines() if line.strip().startswith("- ")]
        if wrong := [line for line in lines if not line.startswith("Expected a <class")]:
            return "; ".join(wrong)
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{place}{type(error).__name__}: {error}"


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything)
