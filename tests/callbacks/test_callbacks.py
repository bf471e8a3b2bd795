"""What callbacks compute, apart from any trainer."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer

from gpo_lightning.callbacks import BenchmarkEvaluation, RunSummary
from gpo_lightning.callbacks.rollout_log import rollout_scalars, sample_figures
from gpo_lightning.callbacks.run_summary import print_summary
from gpo_lightning.callbacks.step_advantages import step_distributions
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import Estimate, Report
from gpo_lightning.evaluation.report import Figures
from gpo_lightning.problems import ModularChains
from gpo_lightning.rollouts import gather
from gpo_lightning.rollouts.tree import ValueCurve
from tests.conftest import tree_of

EARLY = ValueCurve(tokens=(5, 6, 7, 8), boundaries=(0, 1, 3, 4), values=(0.5, 1.0, 0.75, 1.0), critical=0)
LATE = ValueCurve(tokens=(5, 6), boundaries=(0, 1, 2), values=(0.25, 0.5, 0.0), critical=1)


class TestStepDistributions:
    def test_every_step_of_every_curve_is_there(self) -> None:
        found = step_distributions([EARLY, LATE])
        assert found["steps/advantage"] == [0.5, -0.25, 0.25, 0.25, -0.5]
        assert found["steps/value"] == [0.5, 1.0, 0.75, 0.25, 0.5], "the outcome is no prefix's value"
        assert found["critical/advantage"] == [0.5, -0.5]

    def test_position_runs_from_the_first_step_to_the_last(self) -> None:
        assert step_distributions([EARLY, LATE])["critical/position"] == [0.0, 1.0]

    def test_a_trajectory_of_one_step_is_at_its_beginning(self) -> None:
        assert step_distributions([ValueCurve((5,), (0, 1), (0.5, 1.0), 0)])["critical/position"] == [0.0]

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.data())
    def test_advantages_of_a_trajectory_add_up_to_outcome_less_start(self, values: list[float], data: Any) -> None:
        steps = len(values) - 1
        curve = ValueCurve((1,) * steps, tuple(range(steps + 1)), tuple(values), data.draw(st.integers(0, steps - 1)))
        found = step_distributions([curve])
        assert sum(found["steps/advantage"]) == pytest.approx(values[-1] - values[0], abs=1e-9)
        assert 0 <= found["critical/position"][0] <= 1


class TestRolloutScalars:
    def test_means_are_by_purpose(self) -> None:
        tree = tree_of([((3, 4), 0, 1.0), ((3, 5, 6, 7), 0, 0.0), ((3, 9, 9), 1, 1.0)])
        assert rollout_scalars(sample_figures([tree])) == {
            "rollouts/success_sample": 0.5,
            "rollouts/tokens_sample": 3.0,
            "rollouts/success_probe": 1.0,
            "rollouts/tokens_probe": 2.0,
            "rollouts/truncated": 0.0,
        }

    def test_ungraded_samples_have_a_length_but_no_success(self) -> None:
        scalars = rollout_scalars(sample_figures([tree_of([((3, 4), 0, None)])]))
        assert "rollouts/success_sample" not in scalars
        assert scalars["rollouts/tokens_sample"] == 2.0

    def test_truncation_is_a_share_of_all(self) -> None:
        assert rollout_scalars([("sample", 1.0, 2, True), ("reset", 0.0, 2, False)])["rollouts/truncated"] == 0.5

    def test_no_rollouts_have_no_scalars(self) -> None:
        assert rollout_scalars(sample_figures([tree_of([])])) == {}


@given(st.lists(st.integers()))
def test_a_single_process_gathers_its_own(values: list[int]) -> None:
    assert gather(values) == values


SUMMARY: dict[str, Any] = {
    "before": {"accuracy": 0.125, "low": 0.1, "high": 0.15, "n": 512},
    "after": {"accuracy": 0.75, "low": 0.71, "high": 0.79, "n": 512},
    "tokens": {"sample": 1234567, "probe": 89},
    "prefilled": {},
    "cached": {},
    "seconds": {"sample": 12.34, "train": 5.0, "total": 4321.0},
    "engine": "Scripted",
    "iterations": 7,
    "steps": 42,
}


class TestSummary:
    def test_prints_every_number(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        print_summary(SUMMARY, tmp_path)
        printed = capsys.readouterr().out
        for expected in (
            "7 iterations",
            "42 optimiser steps",
            "Scripted",
            "12.5 % (10.0 to 15.0, n = 512)",
            "75.0 % (71.0 to 79.0, n = 512)",
            "1,234,567",
            "89",
            "12.3",
            "4,321.0",
            str(tmp_path),
        ):
            assert " ".join(expected.split()) in " ".join(printed.split())

    def test_a_run_without_evaluation_prints_no_accuracy(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        print_summary(SUMMARY | {"before": None, "after": None}, tmp_path)
        assert "accuracy" not in capsys.readouterr().out

    def test_training_time_outlives_an_interruption(self) -> None:
        before, after = RunSummary(), RunSummary()
        before.on_train_batch_start(None)  # type: ignore[arg-type]
        before.on_train_batch_end(None)  # type: ignore[arg-type]
        after.load_state_dict(before.state_dict())
        assert after.state_dict()["training"] == before.state_dict()["training"] > 0


nobody: Any = None
"""In the place of a trainer or a module that is not asked for anything."""


def report(accuracy: float, n: int = 100) -> Report:
    return Report(Figures({"accuracy": Estimate(accuracy, accuracy / 2, 1.0, n)}, responses=n), available=n)


def evaluated(folder: Path, evaluations: list[BenchmarkEvaluation], stage: str = "fit", **data: Any) -> Any:
    """A trainer and a module whose callbacks have been set up, but nothing that could answer."""
    loops = {"validate_loop": SimpleNamespace(), "test_loop": SimpleNamespace()}
    trainer = SimpleNamespace(
        log_dir=str(folder), is_global_zero=True, callbacks=evaluations, loggers=[], callback_metrics={}, **loops
    )
    module = SimpleNamespace(
        data=RolloutDataModule(ModularChains(steps=2, heldout_size=30), engine=Transformers(), **data)
    )
    for evaluation in evaluations:
        evaluation.setup(trainer, module, stage)  # type: ignore[arg-type]
    return trainer, module


class TestBenchmarkEvaluation:
    def test_results_outlive_an_interruption_as_json(self) -> None:
        before, after = BenchmarkEvaluation(), BenchmarkEvaluation()
        before.results = {"heldout": {"0": report(0.1), "10": report(0.5)}}
        checkpoint: Any = {}
        before.on_save_checkpoint(nobody, nobody, checkpoint)
        after.on_load_checkpoint(nobody, nobody, json.loads(json.dumps(checkpoint)))
        assert after.results == before.results
        assert list(after.results["heldout"]) == ["0", "10"]

    def test_a_run_resumed_into_a_new_directory_measures_nothing_twice_and_writes_its_results(
        self, tmp_path: Path
    ) -> None:
        evaluation = BenchmarkEvaluation()
        evaluation.results = {"heldout": {"0": report(0.1)}}
        evaluation.on_fit_start(*evaluated(tmp_path / "version_1", [evaluation]))
        written = json.loads((tmp_path / "version_1" / "evaluation" / "results.json").read_text())
        assert written == {"heldout": {"0": report(0.1).to_dict()}}
        assert "| heldout   | after 0 iterations |" in (tmp_path / "version_1/evaluation/results.md").read_text()

    def test_several_write_one_file(self, tmp_path: Path) -> None:
        greedy, sampled = BenchmarkEvaluation({"a": ModularChains(2)}), BenchmarkEvaluation({"b": ModularChains(3)})
        greedy.results, sampled.results = {"a": {"0": report(0.1)}}, {"b": {"0": report(0.2)}}
        sampled.on_fit_start(*evaluated(tmp_path, [greedy, sampled]))
        assert set(json.loads((tmp_path / "evaluation/results.json").read_text())) == {"a", "b"}

    def test_several_of_the_same_problems_stand_side_by_side_under_names_of_their_own(self, tmp_path: Path) -> None:
        hot = Sampling(17, temperature=0.5)
        several = [BenchmarkEvaluation(), BenchmarkEvaluation({"hot": None}, sampling=hot, samples=4)]
        trainer = Trainer(callbacks=list(several), accelerator="cpu", logger=False, enable_checkpointing=False)
        assert trainer.callbacks[:2] == several, "Lightning takes both"  # pyright: ignore[reportAttributeAccessIssue]
        _, module = evaluated(tmp_path, several, "test")
        assert [(asked.name, len(asked.problems), asked.samples) for asked in module.data.evaluated] == [
            ("heldout", 30, 1),
            ("hot", 30, 4),
        ]
        several[0].results, several[1].results = {"heldout": {"0": report(0.1)}}, {"hot": {"0": report(0.2)}}
        checkpoint: Any = {}
        for each in several:
            each.on_save_checkpoint(nobody, nobody, checkpoint)
        again = [BenchmarkEvaluation(), BenchmarkEvaluation({"hot": None})]
        for each in again:
            each.on_load_checkpoint(nobody, nobody, checkpoint)
        assert [each.results for each in again] == [each.results for each in several]

    def test_without_settings_it_asks_the_heldout_problems_as_the_data_module_says(self, tmp_path: Path) -> None:
        hot = Sampling(17, temperature=0.5)
        evaluation = BenchmarkEvaluation()
        _, module = evaluated(tmp_path, [evaluation], "test", evaluation=hot, evaluation_samples=3)
        (asked,) = module.data.evaluated
        assert (asked.name, len(asked.problems), asked.sampling, asked.samples) == ("heldout", 30, hot, 3)
        assert asked.k == (3,)

    def test_its_own_settings_go_before_the_data_modules(self, tmp_path: Path) -> None:
        hot = Sampling(17, temperature=0.5)
        benchmarks: Any = {"z": ModularChains(3, heldout_size=9), "a": ModularChains(4, heldout_size=3)}
        evaluation = BenchmarkEvaluation(benchmarks, samples=8, sampling=hot, max_problems=4, k=[4, 1, 4])
        _, module = evaluated(tmp_path, [evaluation], "validate")
        asked = module.data.evaluated
        assert [(benchmark.name, len(benchmark.problems), benchmark.available) for benchmark in asked] == [
            ("z", 4, 9),
            ("a", 3, 3),
        ]
        assert all((benchmark.sampling, benchmark.samples, benchmark.k) == (hot, 8, (1, 4)) for benchmark in asked)

    def test_validation_inside_training_is_of_the_heldout_problems(self, tmp_path: Path) -> None:
        _, module = evaluated(tmp_path, [BenchmarkEvaluation({"a": ModularChains(2)})], "fit")
        assert [benchmark.name for benchmark in module.data.evaluated] == ["heldout"]

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ([{"k": [4]}], "k is \\[4\\], but 1 responses"),
            ([{"samples": 4}], "greedy responses are all the same"),
            ([{"benchmarks": {"a": ModularChains(2)}}] * 2, "a benchmark named 'a'"),
            ([{}, {}], "named 'heldout'. Give one another name: benchmarks: {again: null}."),
            ([{"benchmarks": {"a": ModularChains(2, heldout_size=0)}}], "'a' has no held-out problems"),
            ([{"max_problems": 0}], "max_problems is 0"),
        ],
    )
    def test_what_cannot_work_is_refused(self, settings: list[dict[str, Any]], named: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=named):
            evaluated(tmp_path, [BenchmarkEvaluation(**options) for options in settings])

    def test_choosing_problems_touches_no_random_state(self, tmp_path: Path) -> None:
        class Careless(ModularChains):
            def heldout(self) -> Any:
                _ = random.random(), np.random.rand(), torch.rand(1)
                return super().heldout()

        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[union-attr]
        evaluated(tmp_path, [BenchmarkEvaluation({"a": Careless(2)}), BenchmarkEvaluation()])
        assert states == (
            random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[union-attr]
        )  # fmt: skip
