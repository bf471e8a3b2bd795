"""The command line: ``gpo fit | validate | test | predict | explore | diagnose | export | report``."""

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from jsonargparse import auto_cli
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from gpo_lightning import __version__
from gpo_lightning.critical import TowardOutcome
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError, GPOError, Interrupted, RankLost
from gpo_lightning.evaluation import explorer
from gpo_lightning.module import GPOModule
from gpo_lightning.runs.checkpoint import read_checkpoint
from gpo_lightning.runs.identity import flat
from gpo_lightning.trainer import GPOTrainer


@dataclass(frozen=True)
class WarmStart:
    """A run that must have been made before this one, and is made if it was not.

    Args:
        config: configuration of that run.
        makes: what it leaves behind, usually the directory that ``model.policy.base`` names.
    """

    config: Path
    makes: Path


class GPOCLI(LightningCLI):
    """LightningCLI with the module, data module and trainer of this package, and three subcommands more."""

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
        if path and self.config.subcommand == "fit" and Path(path).is_file():
            read_checkpoint(Path(path))
        # Lightning would now put the checkpoint's hyperparameters in the place of what was configured.

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        config = self.config[self.config.subcommand] if self.config.get("subcommand") else self.config
        cast(GPOTrainer, self.trainer).settings = flat(config.as_dict())

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


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything)


def _with_config_of_run(args: list[str]) -> list[str]:
    """``gpo fit --run FOLDER`` alone goes on with the configuration that the run has."""
    names = [arg.partition("=")[0] for arg in args]
    if args[:1] != ["fit"] or "--run" not in names or "--config" in names or "-c" in names:
        return args
    place = names.index("--run")
    folder = args[place].partition("=")[2] or (args[place + 1] if place + 1 < len(args) else "")
    config = Path(folder) / "config.yaml"
    return [*args[:1], "--config", str(config), *args[1:]] if config.is_file() else args


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``gpo`` command."""
    if (sys.argv[1:] if args is None else args) == ["--version"]:
        print(f"gpo_lightning {__version__}")
        return
    # Class paths may name modules beside the configuration, as they could under `python -m`.
    sys.path.append(str(Path.cwd()))
    # peft warns of an option nobody set, because jsonargparse gives every option its default.
    warnings.filterwarnings("ignore", message=".*loftq_config.*")
    if args is None:
        sys.argv[1:] = _with_config_of_run(sys.argv[1:])  # which the other ranks of this machine are started with
    else:
        args = _with_config_of_run(args)
    arguments = sys.argv[1:] if args is None else args
    try:
        if arguments[:1] == ["report"]:
            # It draws what was kept: there is no model, no data and no trainer to configure.
            auto_cli(explorer.report, args=arguments[1:], prog="gpo report")
            return
        GPOCLI(
            GPOModule,
            RolloutDataModule,
            trainer_class=GPOTrainer,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            args=args,
        )
    except Interrupted as stop:
        print(f"gpo: {stop}", file=sys.stderr)
        sys.exit(stop.status)
    except RankLost as lost:
        print(f"gpo: {lost}", file=sys.stderr, flush=True)
        # On the way out torch would say goodbye to ranks that are gone, and may wait for them.
        os._exit(1)
    except (GPOError, MisconfigurationException) as error:
        sys.exit(f"gpo: {error}")


if __name__ == "__main__":
    main()
