"""Of its checkpoints a run keeps the newest and the best, whatever else is configured, and never loses both."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from gpo_lightning import GPOTrainer
from gpo_lightning.callbacks import BenchmarkEvaluation, LastAndBest
from gpo_lightning.callbacks.last_and_best import keep_last_and_best
from gpo_lightning.cli import main
from gpo_lightning.cli.arguments import prepared
from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.checkpoint import read_checkpoint
from tests.end_to_end.conftest import run_directory
from tests.end_to_end.test_resume import Killed, fit, flat, forget_that_it_ended, killing

FOUR = (
    "--data.plan={problems: 1, group_size: 2, resets: 0, reset_probability: 0.0}",
    "--data.sampling.max_tokens=8",
    "--data.search=gpo_lightning.critical.NoSearch",
    "--trainer.max_epochs=4",
    "--trainer.callbacks=[{class_path: tests.callbacks.test_last_and_best.BestAfterTwo, "
    "init_args: {every_n_epochs: 1}}]",
)


class BestAfterTwo(BenchmarkEvaluation):
    """Measures for real, but says that the policy was best after the second iteration."""

    def accuracy(self, iterations: int) -> float | None:
        return None if super().accuracy(iterations) is None else [0.0, 0.25, 0.75, 0.5, 0.5][iterations]


def kept(folder: Path) -> dict[str, Any]:
    """Checkpoints with the iterations they are of, and what is said of the best."""
    checkpoints = run_directory(folder) / "checkpoints"
    found: dict[str, Any] = {path.name: read_checkpoint(path).iterations for path in checkpoints.glob("*.ckpt")}
    others = {path.name for path in checkpoints.iterdir()} - found.keys()
    assert others <= {"best.json"}, "nothing half written is left"
    return found | {name: json.loads((checkpoints / name).read_text()) for name in others}


EXPECTED = {
    "last.ckpt": 4,
    "best.ckpt": 2,
    "best.json": {"figure": "eval/heldout/accuracy", "iteration": 2, "value": 0.75},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fit(folder, *FOUR)
    return folder


def test_a_run_keeps_its_newest_and_its_best(whole: Path) -> None:
    assert kept(whole) == EXPECTED


@pytest.mark.parametrize(
    "moment",
    [
        (LastAndBest, "_note", 2),
        *(pytest.param((LastAndBest, *each), marks=pytest.mark.long) for each in (("_consider", 2), ("_note", 1))),
    ],
    ids=str,
)
def test_a_kill_between_a_checkpoint_and_its_becoming_the_best_changes_nothing(
    moment: tuple[type, str, int], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killing(patch, *moment, lambda _: True)
        with pytest.raises(Killed):
            fit(tmp_path, *FOUR)
    fit(tmp_path, *FOUR, "--ckpt_path=last")
    assert kept(tmp_path) == EXPECTED
    for name in ("last.ckpt", "best.ckpt"):
        found, expected = (
            torch.load(run_directory(folder) / "checkpoints" / name, weights_only=True)["state_dict"]
            for folder in (tmp_path, whole)
        )
        assert flat(found) == flat(expected)


def test_where_the_newest_is_damaged_the_best_is_gone_on_from(tmp_path: Path) -> None:
    fit(tmp_path, *FOUR)
    checkpoints = run_directory(tmp_path) / "checkpoints"
    before = (checkpoints / "best.ckpt").read_bytes()
    content = bytearray((checkpoints / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoints / "last.ckpt").write_bytes(content)
    forget_that_it_ended(run_directory(tmp_path))
    said = fit(tmp_path, *FOUR, "--ckpt_path=last").replace("\n", "")
    assert "last.ckpt is damaged" in said
    assert "best.ckpt, after 2 iterations" in said
    assert kept(tmp_path) == EXPECTED
    assert (checkpoints / "best.ckpt").read_bytes() == before


def test_the_best_is_named_by_a_word(whole: Path, tmp_path: Path) -> None:
    run = run_directory(whole)
    for word in ("best", "last"):
        arguments = prepared("test", [str(run), "--ckpt_path", word])
        assert arguments[-2:] == ["--ckpt_path", str(run / "checkpoints" / f"{word}.ckpt")]
        assert arguments.count("--ckpt_path") == 1
    fit(tmp_path, *FOUR[:-2], "--trainer.max_epochs=1", "--trainer.callbacks=null")
    assert kept(tmp_path) == {"last.ckpt": 1}, "nothing was evaluated"
    with pytest.raises(ConfigError, match=r"there is no .*best.ckpt. Nothing was evaluated. There are: last.ckpt"):
        prepared("test", [str(run_directory(tmp_path)), "--ckpt_path", "best"])
    with pytest.raises(SystemExit, match=r"--ckpt_path best .*gpo test RUN --ckpt_path best"):
        main(["test", f"--config={run}/config.yaml", "--ckpt_path=best"])


KEPT: list[tuple[list[Any], list[type]]] = [
    ([], [LastAndBest]),
    ([ModelCheckpoint(monitor="eval/heldout/accuracy", mode="max")], [ModelCheckpoint, LastAndBest]),
    ([OnExceptionCheckpoint("x")], [OnExceptionCheckpoint, LastAndBest]),
    ([ModelCheckpoint(save_weights_only=True)], [ModelCheckpoint, LastAndBest]),
    ([ModelCheckpoint(every_n_train_steps=2)], [ModelCheckpoint, LastAndBest]),
    ([ModelCheckpoint(monitor="x", save_last=True)], [ModelCheckpoint]),
    ([ModelCheckpoint(save_top_k=-1)], [ModelCheckpoint]),
    ([ModelCheckpoint(every_n_epochs=10)], [ModelCheckpoint]),
    ([LastAndBest(every_n_epochs=10)], [LastAndBest]),
]


@pytest.mark.parametrize(("given", "expected"), KEPT)
def test_who_keeps_the_newest_in_a_way_of_their_own_is_let_do_it(given: list[Any], expected: list[type]) -> None:
    trainer = GPOTrainer(callbacks=given, accelerator="cpu", logger=False)
    for _ in range(2):  # a trainer may fit twice
        keep_last_and_best(trainer)
        assert [type(each) for each in trainer.checkpoint_callbacks] == expected


def test_checkpoints_that_are_switched_off_stay_off() -> None:
    trainer = Trainer(enable_checkpointing=False, accelerator="cpu", logger=False)
    keep_last_and_best(trainer)
    assert trainer.checkpoint_callbacks == []


def test_a_disk_without_second_names_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpo_lightning.callbacks.last_and_best import _link  # pyright: ignore[reportPrivateUsage]

    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    (tmp_path / "last.ckpt").write_bytes(b"new")
    (tmp_path / "best.ckpt").write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        _link(tmp_path / "last.ckpt", tmp_path / "best.ckpt")
    assert (tmp_path / "best.ckpt").read_bytes() == b"new"
    assert not (tmp_path / "best.ckpt").samefile(tmp_path / "last.ckpt")
    _link(tmp_path / "last.ckpt", tmp_path / "best.ckpt")
    _link(tmp_path / "last.ckpt", tmp_path / "best.ckpt")
    assert (tmp_path / "best.ckpt").samefile(tmp_path / "last.ckpt"), "and no room is taken twice where it has"
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "best.ckpt"}


def test_an_interval_is_of_iterations() -> None:
    with pytest.raises(ConfigError, match="every_n_epochs is 0"):
        LastAndBest(every_n_epochs=0)
