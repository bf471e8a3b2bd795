"""What libraries say that helps nobody who runs this: advertisements, and warnings meant for their own developers."""

import logging
import sys
import warnings

_SPEAKER = "lightning.pytorch.utilities.rank_zero"
_LIBRARIES = r"(torch|lightning|lightning_fabric|torchmetrics|transformers|peft|datasets|vllm|bitsandbytes)(\.|$)"


class _NoTips(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "💡 Tip" not in record.getMessage()


_NO_TIPS = _NoTips()


def quiet() -> None:
    """Leave such things unsaid. Whoever gives ``python -W`` hears all warnings. Idempotent."""
    logging.getLogger(_SPEAKER).addFilter(_NO_TIPS)
    if sys.warnoptions:
        return
    for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=_LIBRARIES)
