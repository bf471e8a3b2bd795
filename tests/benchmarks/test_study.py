"""The study's figures: curves, paired comparisons, and the options that its files make."""

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "study"))

import paired
import report

import runs
from runs import Point, Study, command, folder_of, points, restore

CURVE = [Point(0.1, 0, 0, 0), Point(0.3, 100, 5, 1), Point(0.7, 200, 9, 2)]


def test_success_and_tokens_are_read_off_the_line_between_measurements() -> None:
    assert paired.success_at(CURVE, 150) == pytest.approx(0.5)
    assert paired.tokens_to(CURVE, 0.5) == pytest.approx(150)
    assert paired.tokens_to(CURVE, 0.9) is None
    assert 0.1 < paired.area(CURVE, 200) < 0.7


def test_the_ratio_of_paired_seeds_is_geometric_and_its_interval_holds_it() -> None:
    mean, low, high = paired.ratio([200, 400, 300, 500], [100, 200, 100, 250])
    assert mean == pytest.approx((2 * 2 * 3 * 2) ** 0.25)
    assert 2.0 <= low <= mean <= high <= 3.0


def test_sign_flips_give_the_least_p_value_where_all_seeds_agree() -> None:
    assert paired.p_value([0.1] * 8) == pytest.approx(2 / 256)
    assert paired.p_value([0.1, -0.1]) == 1.0


def test_holm_corrects_the_smallest_most_and_keeps_the_order() -> None:
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_a_rate_at_which_success_soars_and_then_collapses_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = runpy.run_path(str(ROOT / "benchmarks" / "study" / "__main__.py"))
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    study = Study("s", 100, [0], 0.5, [], {"t": []}, {"arm": []}, rates=[0.1, 0.2, 0.3], tuning_seeds=[9])
    for rate, curve in {0.1: (0.1, 0.3, 0.8), 0.2: (0.1, 0.5, 0.0)}.items():
        exact = folder_of(study, "t", "arm", 9, rate) / "last" / "exact"
        exact.mkdir(parents=True)
        for step, success in enumerate(curve):
            (exact / f"after-{step}.json").write_text(json.dumps(asdict(Point(success, 50 * step, 0, step))))
        (exact.parents[1] / "finished").touch()
    assert main["rates_of"](study) == {("t", "arm"): 0.1}, "0.3 has not run"


def test_runs_that_the_results_hold_are_not_made_again_unless_they_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    study = Study("s", 200, [0, 1], 0.5, [], {"t": []}, {"base": [], "changed": ["--new"], "unfinished": []})
    kept = [[asdict(point) for point in CURVE]]
    curves = {"t": {"base": kept * 2, "changed": kept * 2, "unfinished": kept}}
    rates = {f"t, {arm}": None for arm in study.arms}
    before = asdict(study) | {"arms": study.arms | {"changed": ["--old"]}}
    (tmp_path / "s.json").write_text(json.dumps({"study": before, "rates": rates, "curves": curves}))
    restore(study, tmp_path / "s.json")
    assert points(folder_of(study, "t", "base", 1, None)) == CURVE
    assert {file.parent.name for file in study.folder.rglob("finished")} == {
        "base-as-configured-0", "base-as-configured-1"
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps({"study": before | {"tokens": 9}, "rates": rates, "curves": curves}))
    other = Study("other", 200, [0, 1], 0.5, [], {"t": []}, study.arms)
    restore(other, tmp_path / "s.json")
    assert not other.folder.exists()


def test_a_run_that_does_not_reach_the_threshold_counts_with_all_its_tokens() -> None:
    main = runpy.run_path(str(ROOT / "benchmarks" / "study" / "__main__.py"))
    study = Study("s", 200, [0, 1], 0.5, [], {"t": []}, {"base": [], "arm": []})
    never = [Point(0.1, 0, 0, 0), Point(0.2, 300, 0, 1)]
    base, row = main["compare"](study, {"t": {"base": [never, CURVE], "arm": [CURVE, CURVE]}})
    assert row["ratio"][0] == pytest.approx((300 / 150) ** 0.5)
    assert row["budget"] == 200
    assert row["base_success"] == pytest.approx((0.1 + 0.1 * 200 / 300 + 0.7) / 2)
    assert base["to_threshold"] == [None, pytest.approx(150)]
    main["show"](study, [base, row])


def test_the_page_calls_nothing_better_that_is_not_sure() -> None:
    row = {
        "task": "ledger-8",
        "arm": "ours, references",
        "budget": 60000,
        "at_start": 0.06,
        "success": [0.1, 0.2, 0.3],
        "base_success": 0.2,
        "area": 0.2,
        "to_threshold": [20000.0, None, 30000.0],
        "steps": 9.0,
    }
    study = {"name": "evening", "threshold": 0.3, "seeds": [0, 1, 2, 3], "about": "A task."}
    said = {}
    for name, ratio, p in (
        ("sure", [1.5, 1.2, 1.9], 0.02),
        ("unsure", [1.5, 0.9, 1.9], 0.2),
        ("worse", [0.5, 0.3, 0.8], 0.01),
    ):
        rows = [row | {"arm": "base, groups of 8"}, row | {"ratio": ratio, "p_corrected": p}]
        said[name] = report.page({"evening": {"study": study, "rows": rows}})
    assert "better than the base method" in said["sure"]
    assert "| 1.3 | 1.50 (1.20 to 1.90) | yes |" in said["sure"]
    assert "not told apart" in said["unsure"]
    assert "| 1.3 | 1.50 (0.90 to 1.90) | no |" in said["unsure"]
    assert "worse than the base method" in said["worse"]
    assert "3 of 4 seeds" in said["sure"], "what was stopped says so"
    assert "30,000 (2 of 3 runs)" in said["sure"]


STUDIES = sorted(path.stem for path in (ROOT / "benchmarks" / "study").glob("*.yaml"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_of_a_study_names_files_that_there_are(name: str) -> None:
    study = Study.read(ROOT / "benchmarks" / "study" / f"{name}.yaml")
    for task in study.tasks:
        for arm in study.arms:
            options = command(study, task, arm, 0, 0.001, Path("runs/x"))
            files = [ROOT / its.partition("=")[2] for its in options if its.startswith("--config=")]
            assert len(files) >= 2
            assert all(file.exists() for file in files)


@pytest.mark.parametrize("name", STUDIES)
def test_arms_of_a_study_train_the_model_and_problems_of_its_tasks(name: str) -> None:
    study = Study.read(ROOT / "benchmarks" / "study" / f"{name}.yaml")
    for options in study.arms.values():
        for path in [its.partition("=")[2] for its in options if its.startswith("--config=")]:
            said = yaml.safe_load((ROOT / path).read_text())
            assert set(said) == {"data"}, path
            assert not {"problems", "engine", "sampling", "evaluation"} & set(said["data"]), path


def curve(run: list[tuple[float, int]]) -> list[Point]:
    """Of success, and tokens since the measurement before."""
    return [Point(success, sum(t for _, t in run[: i + 1]), 0, i) for i, (success, _) in enumerate(run)]


RUNS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=2, max_size=6)


@given(RUNS, RUNS, st.floats(0.05, 0.95))
def test_an_arm_that_does_not_arrive_is_never_said_to_be_ahead(
    base: list[tuple[float, int]], other: list[tuple[float, int]], threshold: float
) -> None:
    one, two = curve(base), curve(other)
    theirs, own = paired.spent(one, two, threshold)
    reached = paired.tokens_to(two, threshold)
    assert theirs <= max(own, one[-1].generated)
    if reached is None:
        assert own == two[-1].generated
        assert theirs <= own
    else:
        assert own == reached
        assert theirs == (paired.tokens_to(one, threshold) or one[-1].generated)
