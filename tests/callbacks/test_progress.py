"""What is shown while a run goes on: alive before anything has finished, and never in the way of other lines."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gpo_lightning.callbacks import RolloutProgress
from gpo_lightning.callbacks.display import LiveBar, PlainLines
from gpo_lightning.rollouts import Progress
from tests.conftest import ROOT, tree_of
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ((1.0, 1.0), "Nothing to learn from in this iteration: in every group all responses are worth the same."),
        ((None, None), "Nothing to learn from in this iteration."),
        ((1.0, 0.0), None),
    ],
)
def test_an_iteration_that_teaches_nothing_says_so(
    rewards: tuple[float | None, ...], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tree_of([((3, number), 0, reward) for number, reward in enumerate(rewards)])
    counts = Counter(examples=0 if said else 2)
    rollouts = SimpleNamespace(trees=[tree], counts=counts, seconds=SimpleNamespace(seconds={"sample": 1.0}))
    trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=3)
    module: Any = SimpleNamespace(data=SimpleNamespace(rollouts=rollouts))
    RolloutProgress().on_train_epoch_start(trainer, module)
    lines = " ".join(capsys.readouterr().err.split())
    assert lines.startswith("Iteration 3: success")
    assert lines.endswith(said or "1.0 s of rollouts")
    counts |= Counter(graded_unparsed=3, graded_right=1)
    RolloutProgress().on_train_epoch_start(trainer, module)
    unread = "3 of 4 responses have no answer in the form that the grader looks for"
    assert (unread in " ".join(capsys.readouterr().err.split())) == bool(said)


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it comes to hold: a loaded machine is slow."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def test_plain_lines_come_though_nothing_has_finished() -> None:
    file = io.StringIO()
    lines = PlainLines(Console(file=file, width=120), every_seconds=0.05)
    lines.show(Progress("rollouts", 0, 8, 0, {"sample": 64}))
    assert wait_for(lambda: file.getvalue().count("rollouts: 0 of 8 problems, 64 sampling") >= 2)
    lines.show(Progress("learning", 0, 3, 0))
    assert wait_for(lambda: "learning: 0 of 3" in file.getvalue())
    lines.close()
    time.sleep(0.1)
    said = file.getvalue()
    time.sleep(0.2)
    assert file.getvalue() == said, "after the end there is silence"
    assert "\x1b" not in said


def test_the_bar_lives_though_nothing_has_finished_and_is_gone_at_the_end() -> None:
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_terminal=True, width=100))
    bar.show(Progress("engine", 0, 0, 0))
    assert wait_for(lambda: "engine starting" in file.getvalue())
    before = len(file.getvalue())
    assert wait_for(lambda: len(file.getvalue()) > before), "it moves by itself"
    bar.show(Progress("rollouts", 4, 8, 400, {"probe": 3}))
    assert wait_for(lambda: "4 of 8 problems, 3 valuing" in file.getvalue())
    bar.close()
    bar.close()
    assert file.getvalue().endswith("\x1b[2K"), "its line is erased"
    said = len(file.getvalue())
    time.sleep(0.3)
    assert len(file.getvalue()) == said


def test_what_is_printed_and_logged_stands_above_the_bar() -> None:
    file = io.StringIO()
    handler = logging.StreamHandler(sys.stderr)  # holds the stream, as Lightning's does
    logger = logging.getLogger("gpo-test-of-the-bar")
    logger.addHandler(handler)
    held = handler.stream
    bar = LiveBar(Console(file=file, force_terminal=True, width=100))
    bar.show(Progress("rollouts", 1, 8, 400))
    print("a printed line")
    logger.warning("a logged line")
    bar.close()
    logger.removeHandler(handler)
    assert handler.stream is held, "handlers get back what they had"
    lines = [line.strip() for line in re.split(r"[\r\n]", CONTROL.sub("", file.getvalue()))]
    assert {"a printed line", "a logged line"} <= set(lines)


@pytest.mark.slow
def test_a_run_on_a_terminal_says_what_it_does(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = [each for each in SMALL if "enable_progress_bar" not in each]
    arguments += [TRANSFORMERS, "--trainer.max_epochs=1", "--data.problems.heldout_size=8"]
    command = [sys.executable, "-m", "gpo_lightning", "fit", *config("quickstart.yaml"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
    text = CONTROL.sub("", said.decode(errors="replace"))
    assert run.returncode == 0, text[-3000:]
    lines = [line.strip() for line in re.split(r"[\r\n]", text)]
    for phase in ("engine starting", "rollouts", "learning", "evaluating"):
        assert any(phase in line for line in lines), phase
    assert any(re.search(r"rollouts .* 0 of 6 problems, 36 sampling", line) for line in lines)
    assert any(re.search(r"rollouts .* of 6 problems, .*[\d,]+ tokens/s", line) for line in lines)
    assert any(line.startswith("Iteration 0: success") and line.endswith("s of rollouts") for line in lines)
    assert "Epoch 0" not in text, "one bar, and Lightning's is not it"
    assert "Tip:" not in text
    assert "Warning:" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # on Linux the end of a terminal's other side is an error
        return b""
