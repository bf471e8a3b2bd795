"""Results people look at: the page of trajectories with their critical steps."""

from gpo_lightning.report.page import write_report

__all__ = ["write_report"]
