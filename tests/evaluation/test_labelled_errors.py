"""Figures of labelled responses, on trees whose turns are known, and through the real command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.cli import main
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.labelled_errors import _auroc, labelled_report
from gpo_lightning.problems import LabelledTrajectory, PlantedErrors
from gpo_lightning.rollouts import RolloutTree
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config
from tests.evaluation.explorer.made import Story, falling


def labelled(story: Story, error: int | None, critical: int) -> tuple[LabelledTrajectory, RolloutTree]:
    tree = story.tree()
    tree.curves[:] = [replace(tree.curves[0], critical=critical)]
    return LabelledTrajectory(tree.problem, tuple(story.steps), story.outcome or 0.0, error), tree


def sound() -> Story:
    """Right from the beginning: continuations succeed wherever they start."""
    return Story(["a\n", "b\n", "#4"], 1.0, {t: [("good\n#4", 1.0)] * 12 for t in range(3)})


def test_every_figure_of_a_small_set() -> None:
    pairs = [
        labelled(falling(2), error=2, critical=2),  # found, and chosen
        labelled(falling(2), error=1, critical=2),  # a step late in both
        labelled(falling(3), error=0, critical=0),  # chosen, and the fall is elsewhere
        labelled(sound(), error=None, critical=0),  # cleared
        labelled(falling(1), error=None, critical=0),  # falsely accused
    ]
    report = labelled_report([its for its, _ in pairs], [tree for _, tree in pairs])
    assert (report.exact.mean, report.exact.n) == (pytest.approx(2 / 3), 3)
    assert report.within_one.mean == 1.0
    assert report.found.mean == pytest.approx(1 / 3)
    assert (report.cleared.mean, report.cleared.n) == (0.5, 2)
    assert report.f1 == pytest.approx(2 * (1 / 3) * 0.5 / (1 / 3 + 0.5)), "ProcessBench's harmonic mean"
    assert report.auroc is not None
    assert 0.5 < report.auroc < 1.0
    assert "F1 40.0" in str(report)


def test_a_set_of_one_kind_has_no_f1_and_no_auroc() -> None:
    trajectory, tree = labelled(falling(2), error=2, critical=2)
    report = labelled_report([trajectory], [tree])
    assert (report.f1, report.auroc, report.exact.mean) == (None, None, 1.0)
    assert "F1" not in str(report)


SHARES = st.lists(st.integers(0, 400).map(lambda count: count / 400), min_size=1, max_size=8)


@given(SHARES, SHARES)
def test_auroc_is_that_of_a_well_known_library(high: list[float], low: list[float]) -> None:
    from torch import tensor
    from torchmetrics.functional.classification import binary_auroc

    labels = tensor([1] * len(high) + [0] * len(low))
    assert _auroc(high, low) == pytest.approx(float(binary_auroc(tensor(high + low).double(), labels)), abs=1e-6)


def test_some_planted_responses_are_left_sound() -> None:
    planted = PlantedErrors(steps=4, count=60, sound=0.5)
    kinds = [its.error is None for its in planted.trajectories()]
    assert 15 < sum(kinds) < 45
    assert all((its.outcome == 1.0) == (its.error is None) for its in planted.trajectories() if its.error is None)
    for its in planted.trajectories():
        if its.error is None:
            assert planted.problems.grade(its.problem, "".join(its.steps)).success == 1.0
    with pytest.raises(ConfigError, match="sound is 2"):
        PlantedErrors(sound=2)


@pytest.mark.slow
def test_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = {
        "class_path": "gpo_lightning.problems.PlantedErrors",
        "init_args": {"steps": 4, "count": 20, "sound": 0.5},
    }
    search = {"class_path": "gpo_lightning.critical.ChangePoint", "init_args": {"budget": 8}}
    main(
        [
            *("explore", *config("quickstart.yaml"), *SMALL, TRANSFORMERS, "--data.plan.group_size=8"),
            *(f"--data.search={json.dumps(search)}", "--data.selector=gpo_lightning.critical.MinAdvantage"),
            *(f"--labelled={json.dumps(planted)}", f"--output={tmp_path}"),
        ]
    )
    said, kept = capsys.readouterr().out, json.loads((tmp_path / "labelled.json").read_text())
    assert f"F1 {100 * kept['f1']:.1f}" in said
    assert f'AUROC of "has an error": {kept["auroc"]:.3f}' in said
    assert kept["exact"]["mean"] > 0.6, "the tiny model's value drops where the error is"
    assert kept["auroc"] > 0.8
    assert kept["tokens"] > 0
