"""Each subcommand means what a Lightning user expects, and wrong input is refused before anything is loaded."""

from contextlib import nullcontext
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from gpo_lightning import GPOTrainer
from gpo_lightning.cli import main
from gpo_lightning.engines import Completion, Transformers
from gpo_lightning.problems import ModularChains, Problem
from gpo_lightning.problems.labelled import LabelledSource
from gpo_lightning.rollouts import read_trees
from tests.conftest import ROOT
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, config

QUICK = [*config("quickstart.yaml"), *SMALL, TRANSFORMERS]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_validate_and_test_measure_heldout_success(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    main([command, *QUICK])
    header, _, row = [line for line in capfd.readouterr().out.splitlines() if line.startswith("| ")][:3]
    assert [cell.strip() for cell in header.split("|")][1:5] == ["benchmark", "when", "problems", "accuracy"]
    assert [cell.strip() for cell in row.split("|")][1:4] == ["heldout", command, "24"]


def test_predict_answers_the_heldout_problems(tmp_path: Path) -> None:
    main(["predict", *QUICK])
    (file,) = tmp_path.rglob("predictions-rank0.parquet")
    trees = read_trees(file)
    assert [tree.problem for tree in trees] == ModularChains(steps=4, heldout_size=24).heldout()
    assert all(len(tree.samples) == 1 for tree in trees)


def test_explore_writes_rollouts_and_page_without_training(tmp_path: Path) -> None:
    main(["explore", *QUICK, "--output=out"])
    trees = read_trees(tmp_path / "out/rollouts.parquet")
    assert len(trees) == 6
    assert any(tree.curves for tree in trees)
    assert all(sample.text is not None for tree in trees for sample in tree.samples)
    assert all("".join(curve.steps) for tree in trees for curve in tree.curves)
    assert not (tmp_path / "runs").exists()
    page = (tmp_path / "out/report.html").read_text()
    main(["report", "out/rollouts.parquet", "--output=again.html"])
    assert _undated((tmp_path / "again.html").read_text()) == _undated(page), "the file holds all that the page shows"


def _undated(page: str) -> list[str]:
    """The page but for its index, which says when it was written."""
    return [line for line in page.splitlines() if 'id="data-index"' not in line]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [([], "TowardOutcome"), (["--data.selector=gpo_lightning.critical.MaxAdvantage"], "MaxAdvantage")],
)
def test_explore_looks_for_falls_and_gains_unless_told_otherwise(
    arguments: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        GPOTrainer, "explore", lambda *_, datamodule, **__: seen.append(type(datamodule.selector).__name__)
    )
    main(["explore", *QUICK, *arguments])
    assert seen == [chosen]


@pytest.mark.parametrize("missing", ["no/such.parquet", "."])
def test_report_of_nothing_is_explained_in_one_line(missing: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", missing])
    assert str(stopped.value.code).startswith(f"gpo: {missing}")


def test_explore_that_was_killed_goes_on_with_what_it_had_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explore(output: str, dies_at: int | None = None) -> int:
        """How many continuations the engine made."""
        made = polls = 0
        poll = Transformers.poll

        def counted(self: Transformers) -> list[Completion]:
            nonlocal made, polls
            polls += 1
            if polls == dies_at:
                raise KeyboardInterrupt
            made += len(completions := poll(self))
            return completions

        with monkeypatch.context() as patch:
            patch.setattr(Transformers, "poll", counted)
            small_batches = "--data.engine={class_path: gpo_lightning.engines.Transformers, init_args: {batch_size: 8}}"
            with pytest.raises(KeyboardInterrupt) if dies_at else nullcontext():
                main(["explore", *QUICK, small_batches, f"--output={output}"])
        return made

    whole = explore("whole")
    before = explore("broken", dies_at=4)
    assert 0 < before < whole
    assert not (tmp_path / "broken/rollouts.parquet").exists()
    assert explore("broken") == whole - before, "each continuation is made once"
    made, expected = (tmp_path / folder / "rollouts.parquet" for folder in ("broken", "whole"))
    assert made.read_bytes() == expected.read_bytes()
    assert not list((tmp_path / "broken").rglob("*.journal")), "nobody will ask again"


def test_rollouts_that_explore_wrote_can_be_learnt_from(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["explore", *QUICK, "--output=out"])
    main(["fit", *QUICK, "--data.saved=out/rollouts.parquet", *config("loss/dpo.yaml"), "--trainer.max_epochs=1"])
    assert (tmp_path / "runs/quickstart/version_0/adapter/adapter_model.safetensors").exists()


def test_export_writes_adapter_or_whole_model_of_a_checkpoint(tmp_path: Path) -> None:
    main(["fit", *QUICK, "--trainer.max_epochs=1"])
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    main(["export", *QUICK, f"--ckpt_path={checkpoint}", "--output=adapter"])
    kept = next(tmp_path.rglob("version_0/adapter/adapter_model.safetensors"))
    assert (tmp_path / "adapter/adapter_model.safetensors").read_bytes() == kept.read_bytes()
    main(["export", *QUICK, f"--ckpt_path={checkpoint}", "--output=whole", "--merged=true"])
    main(["validate", *QUICK, f"--ckpt_path={checkpoint}", "--trainer.limit_val_batches=1"])
    ids = torch.tensor([[40, 107, 101, 8, 105, 100]])
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "whole")(ids).logits.isfinite().all()


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_every_precision_of_lightning_trains_and_evaluates(precision: str, tmp_path: Path) -> None:
    main(["fit", *QUICK, "--trainer.max_epochs=1", f"--trainer.precision={precision}", "--trainer.limit_val_batches=1"])
    assert next(tmp_path.rglob("adapter_model.safetensors")).exists()


class NoProblems(ModularChains):
    def train(self) -> list[Problem]:
        return []


class TestBadInput:
    """Told in one message that names the key; no weights are loaded for it."""

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--model.loss=gpo_lightning.losses.NoSuchLoss"], "NoSuchLoss"),
            (["--model.loss.bata=0.1"], "bata"),
            (["--data.plan.grup=3"], "grup"),
            (["--data.plan.group_size=many"], "group"),
            (["--data.plan.reset_probability=2"], "reset_probability"),
            (["--model.loss=gpo_lightning.losses.DPO", "--model.loss.beta=-1"], "beta"),
            (["--trainer.callbacks+=gpo_lightning.callbacks.Missing"], "Missing"),
        ],
    )
    def test_wrong_key_class_or_value(
        self, arguments: list[str], named: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(*_: object) -> None:
            raise AssertionError("a model was loaded for a configuration that cannot work")

        monkeypatch.setattr("gpo_lightning.policy.policy.load_model", load)
        with pytest.raises(SystemExit) as stopped:
            main(["fit", *QUICK, *arguments])
        assert stopped.value.code not in (0, None)
        assert named in capfd.readouterr().err + str(stopped.value.code)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--data.plan.group_size=1"], "data.plan.group_size is 1"),
            (["--model.policy.base=/no/such/model"], "model.policy.base"),
            (["--data.problems=tests.end_to_end.test_commands.NoProblems"], "data.problems yields no training"),
            (["--data.problems=gpo_lightning.problems.ChainSum", "--data.problems.heldout_size=2"], "no chat template"),
            (["--model.policy.lora=null", "--model.loss=gpo_lightning.losses.DPO"], "model.policy.lora is null"),
            (["--data.experience=gpo_lightning.experience.PreferencePairs"], "data.experience is PreferencePairs"),
            (["--trainer.reload_dataloaders_every_n_epochs=2"], "reload_dataloaders_every_n_epochs"),
            (["--data.sampling.temperature=0"], "data.sampling.temperature"),
            (["--data.sampling.max_tokens=0"], "data.sampling: max_tokens is 0"),
            (["--data.sampling.top_p=0.9"], "data.sampling.top_p is 0.9"),
            (["--data.evaluation={top_p: 1.5}"], "data.evaluation: top_p is 1.5"),
            (["--ckpt_path=no/such.ckpt"], "--ckpt_path: there is no no/such.ckpt"),
            (["--trainer.devices=0"], "devices"),
        ],
    )
    def test_what_cannot_work_is_explained(
        self, arguments: list[str], named: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["fit", *config("quickstart.yaml"), *SMALL, TRANSFORMERS, *arguments])
        assert named in str(stopped.value.code) + capfd.readouterr().err


FILES = sorted(file for file in (ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "configs")))
def test_every_configuration_is_accepted(file: Path, tmp_path: Path) -> None:
    """Alone, or on top of the quickstart; classes are built, weights are not loaded."""
    from gpo_lightning import GPOCLI, GPOModule, GPOTrainer, RolloutDataModule

    said = yaml.safe_load(file.read_text())
    if labelled := said.pop("labelled", None):  # an option of gpo explore alone
        module, _, name = labelled["class_path"].rpartition(".")
        kind = getattr(import_module(module), name)
        assert issubclass(kind, LabelledSource)
        signature(kind).bind(**labelled["init_args"])
        (tmp_path / file.name).write_text(yaml.safe_dump(said))
        file = tmp_path / file.name
    base = [] if "trainer:\n  max_epochs" in file.read_text() else config("quickstart.yaml")
    processes = ["--trainer.accelerator=cpu", "--trainer.precision=null"] if "gpu" in file.name else []
    cli = GPOCLI(
        GPOModule,
        RolloutDataModule,
        trainer_class=GPOTrainer,
        auto_configure_optimizers=False,
        run=False,
        args=[*base, "--config", str(file), *processes],
    )
    assert isinstance(cli.model, GPOModule)
    assert isinstance(cli.datamodule, RolloutDataModule)


def test_diagnose_weighs_methods_and_says_what_follows(capfd: pytest.CaptureFixture[str]) -> None:
    main(["diagnose", *QUICK, "--iterations=2"])
    said = capfd.readouterr().out
    for method in ("outcome rewards, prompts only", "values shared by siblings", "frontier starts", "as configured"):
        (line,) = [line for line in said.splitlines() if line.startswith(f"{method}  ")]
        assert len(line.split("±")) == 2
    assert "A response is right in" in said
    assert "groups at prompts" in said


def test_diagnose_of_one_batch_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"--iterations must be at least 2"):
        main(["diagnose", *QUICK, "--iterations=1"])
