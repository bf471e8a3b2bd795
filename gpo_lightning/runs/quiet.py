"""What libraries say that helps nobody who runs this: advertisements, and warnings meant for their own developers."""

import logging
import sys
import warnings

_SPEAKER = "lightning.pytorch.utilities.rank_zero"
_UNHELPFUL = ("💡 Tip", "TPU available: False", "`weights_only` was not set")
_UNTRUE = (
    ".*loftq_config.*",  # which nobody set: an adapter's settings are given one by one
    ".* exists and is not empty.*",  # of a run's folder, which a run makes before its loggers do; nothing is deleted
    r"Found \d+ module\(s\) in eval mode.*",  # the base model, by model.policy.dropout
)
_LIBRARIES = r"(torch|lightning|lightning_fabric|torchmetrics|transformers|peft|datasets|vllm|bitsandbytes)(\.|$)"


class _Helpful(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(phrase in record.getMessage() for phrase in _UNHELPFUL)


_HELPFUL = _Helpful()


def quiet() -> None:
    """Leave such things unsaid. Whoever gives ``python -W`` hears all warnings. Idempotent."""
    logging.getLogger(_SPEAKER).addFilter(_HELPFUL)
    if sys.warnoptions:
        return
    for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=_LIBRARIES)
    for message in _UNTRUE:
        warnings.filterwarnings("ignore", message=message)
