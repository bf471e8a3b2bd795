"""``gpo report``: there is no model, no data and no trainer to configure; it draws what was kept."""

from collections.abc import Sequence
from pathlib import Path

from gpo_lightning.cli.arguments import run_folder
from gpo_lightning.errors import ConfigError


def report(arguments: Sequence[str]) -> None:
    """Draw the page of a run or a rollout file again."""
    if not arguments:
        raise ConfigError(
            "gpo report needs a run's folder, or a file of rollouts: gpo report runs/quickstart/version_0."
        )
    from jsonargparse import auto_cli

    from gpo_lightning.evaluation import explorer

    given, *rest = arguments
    runs = any(Path(given).glob("version_*"))
    auto_cli(explorer.report, args=[str(run_folder(given)) if runs else given, *rest], prog="gpo report")
