"""Benchmarks through the real command line: several in one run, and training that does not notice."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gpo_lightning.cli import main
from gpo_lightning.problems import ModularChains, Problem
from gpo_lightning.rollouts import read_trees
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config, run_directory
from tests.evaluation.explorer.test_page import unpacked

TRAINING = ("sample", "probe", "reset")
QUICK = [*config("quickstart.yaml"), *SMALL, TRANSFORMERS]


class Sorted(ModularChains):
    """Chains with a category: whether they begin with an even or an odd number."""

    def heldout(self) -> list[Problem]:
        kinds = ("even", "odd")
        return [
            Problem(
                p.id, p.task, p.answer, p.prompt, metadata={"category": kinds[int(str(p.prompt).split("a")[0]) % 2]}
            )
            for p in super().heldout()
        ]


class Careless(ModularChains):
    """Draws from every random state that training might read."""

    def heldout(self) -> Any:
        random.random(), np.random.rand(), torch.rand(1)
        return super().heldout()

    def grade_all(self, responses: Any) -> Any:
        random.random(), np.random.rand(), torch.rand(1)
        return super().grade_all(responses)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluation(folder: Path, *callbacks: dict[str, Any]) -> list[str]:
    """A configuration whose evaluations are these, and the arguments that add it."""
    path = folder / "evaluation.yaml"
    listed = [
        {"class_path": "gpo_lightning.callbacks.BenchmarkEvaluation", "init_args": options} for options in callbacks
    ]
    others = [{"class_path": f"gpo_lightning.callbacks.{name}"} for name in ("ModelExport", "RolloutLog")]
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": listed + others}}))
    return ["--config", str(path)]


def chains(steps: int, name: str = "gpo_lightning.problems.ModularChains") -> dict[str, Any]:
    return {"class_path": name, "init_args": {"steps": steps, "heldout_size": 20}}


@pytest.mark.parametrize(("command", "stage"), [("test", "test"), ("validate", "val")])
def test_several_benchmarks_in_one_run(
    command: str, stage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sorted_chains = chains(2, "tests.end_to_end.test_evaluation.Sorted")
    sampled = {"samples": 3, "k": [1, 3], "sampling": {"max_tokens": 40, "temperature": 1.0}, "max_problems": 10}
    greedy = {"benchmarks": {"long": chains(4)}}
    main([command, *QUICK, *evaluation(tmp_path, {"benchmarks": {"short": sorted_chains}, **sampled}, greedy)])
    shown = capfd.readouterr().out
    directory = run_directory(tmp_path) / "evaluation"

    results = json.loads((directory / "results.json").read_text())
    assert {name: list(moments) for name, moments in results.items()} == {"short": [command], "long": [command]}
    short, long = results["short"][command], results["long"][command]
    assert list(short["overall"]["means"]) == [
        "accuracy", "pass@1", "pass@3", "maj@1", "maj@3", "tokens", "truncated", "unparsed",
    ]  # fmt: skip
    assert (short["overall"]["responses"], short["available"], long["overall"]["responses"]) == (30, 20, 20)
    assert sum(figures["means"]["accuracy"]["n"] for figures in short["categories"].values()) == 10
    assert set(short["categories"]) == {"even", "odd"}

    trees = read_trees(directory / f"short-{command}-rank0.parquet")
    rewards = [sample.reward for tree in trees for sample in tree.samples]
    assert len(rewards) == 30
    assert short["overall"]["means"]["accuracy"]["mean"] == pytest.approx(sum(map(float, rewards)) / 30)  # type: ignore[arg-type]
    assert {tree.problem.id for tree in trees} <= {
        problem.id for problem in ModularChains(2, heldout_size=20).heldout()
    }

    tables = (directory / "results.md").read_text()
    assert [line.split("|")[1].strip() for line in tables.splitlines()[2:4]] == ["short", "long"]
    assert "**mean over categories**" in tables
    assert all(line in shown for line in tables.splitlines() if "even" in line)
    assert f"{stage}/accuracy" not in shown, "Lightning's tables would say it all again"
    scalars = EventAccumulator(str(run_directory(tmp_path))).Reload().Tags()["scalars"]
    assert {"eval/long/accuracy", "eval/short/pass_at_3", "eval/short/accuracy/odd", f"{stage}/accuracy"} <= set(
        scalars
    )


@pytest.mark.slow
def test_training_learns_the_same_with_and_without_evaluation(tmp_path: Path) -> None:
    """To the bit, although these benchmarks draw from every global random state, and problems are watched besides."""
    careless = chains(3, "tests.end_to_end.test_evaluation.Careless")
    often = {"benchmarks": {"careless": careless}, "every_n_epochs": 1, "samples": 2}
    hot = {"sampling": {"max_tokens": 40, "temperature": 1.0}}
    with_it, without = tmp_path / "with", tmp_path / "without"
    with_it.mkdir()
    without.mkdir()
    fit = ["fit", *QUICK, "--data.plan.refills=1", "--model.policy.lora.lora_dropout=0.1"]
    summary = f"--trainer.callbacks+={json.dumps({'class_path': 'gpo_lightning.callbacks.RunSummary'})}"
    watched = {"class_path": "gpo_lightning.callbacks.WatchedProblems", "init_args": {"problems": 3}}
    looking = [*evaluation(with_it, often | hot), f"--trainer.callbacks+={json.dumps(watched)}"]
    main([*fit, *looking, summary, f"--trainer.logger.init_args.save_dir={with_it}"])
    never = {"on_start": False, "on_end": False}
    main([*fit, *evaluation(without, never), summary, f"--trainer.logger.init_args.save_dir={without}"])
    directories = [folder / "quickstart" / "version_0" for folder in (with_it, without)]
    measured = json.loads((directories[0] / "evaluation/results.json").read_text())
    assert list(measured["careless"]) == ["0", "1", "2"]
    assert not (directories[1] / "evaluation").exists()
    first, second = ((directory / "adapter/adapter_model.safetensors").read_bytes() for directory in directories)
    assert first == second
    rollouts = [[tree.samples for tree in read_trees(d / "rollouts/iteration-0001-rank0.parquet")] for d in directories]
    assert rollouts[0] == rollouts[1]
    costs = [json.loads((directory / "summary.json").read_text())["tokens"] for directory in directories]
    assert [costs[0][purpose] for purpose in TRAINING] == [costs[1][purpose] for purpose in TRAINING]
    assert "evaluation" in costs[0]
    assert "evaluation" not in costs[1]
    looks = [read_trees(directories[0] / f"watched/after-{n:04d}-rank0.parquet") for n in range(3)]
    assert len({tuple(tree.problem.id for tree in trees) for trees in looks}) == 1, "the same problems every time"
    assert [len(tree.curves) for trees in looks for tree in trees] == [1] * 9, "and each is valued"
    index = unpacked((directories[0] / "watched.html").read_text())["index"]
    assert [problem["iteration"] for problem in index["problems"]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert not (directories[1] / "watched.html").exists()
