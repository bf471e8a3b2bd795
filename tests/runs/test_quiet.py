"""What libraries say that helps nobody is left unsaid; what helps is said."""

import logging
import sys
import warnings

import pytest
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from gpo_lightning.runs.quiet import quiet

UNSAID = ["💡 Tip: try our cloud", "TPU available: False, using: 0 TPU cores", "`weights_only` was not set, defaulting"]
UNWARNED = [
    "`loftq_config` specified but will be ignored when `init_lora_weights` is not 'loftq'.",
    "Checkpoint directory runs/x/checkpoints exists and is not empty.",
    "Found 46 module(s) in eval mode at the start of training. This may lead to unexpected behavior.",
]


def test_advertisements_and_the_untrue_are_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as heard, caplog.at_level(logging.INFO):
        warnings.simplefilter("always")
        quiet()
        for said in [*UNSAID, "GPU available: True (cuda), used: True"]:
            rank_zero_info(said)
        for said in [*UNWARNED, "The dataloader is slow."]:
            rank_zero_warn(said)
    assert [record.message for record in caplog.records] == ["GPU available: True (cuda), used: True"]
    assert [str(each.message) for each in heard] == ["The dataloader is slow."]
