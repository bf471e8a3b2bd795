"""The explorer: one HTML page on which rollouts are looked through, and where each solution turned.

``gpo explore`` and the ``RolloutLog`` callback write it, ``gpo report`` draws it again from Parquet files, and
:func:`show` shows it in a notebook. Its sources are in ``web/``. Nothing here trains or generates.
"""

from gpo_lightning.evaluation.explorer.notebook import Shown, show
from gpo_lightning.evaluation.explorer.page import page, write_page
from gpo_lightning.evaluation.explorer.saved import read_saved, report

__all__ = ["Shown", "page", "read_saved", "report", "show", "write_page"]
