"""``gpo report``: there is no model, no data and no trainer to configure; it draws what was kept."""

from collections.abc import Sequence


def report(arguments: Sequence[str]) -> None:
    """Draw the page of a run or a rollout file again."""
    from jsonargparse import auto_cli

    from gpo_lightning.evaluation import explorer

    auto_cli(explorer.report, args=list(arguments), prog="gpo report")
