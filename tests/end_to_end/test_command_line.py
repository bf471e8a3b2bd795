"""The command line as users meet it: a project of their own, runs by folder, a look at one question, mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from gpo_lightning.cli import main
from gpo_lightning.cli.new import new
from gpo_lightning.rollouts import read_trees
from tests.end_to_end.conftest import SMALL, TRANSFORMERS, gpo

QUICK = ["--config", "quickstart", *SMALL, TRANSFORMERS]
SOON = ["--data.plan.problems=2", "--data.plan.group_size=4", "--data.plan.resets=4", "--trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `gpo new` makes, after one short run as its README says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        main(["new", "my_project"])
        patch.chdir("my_project")
        patch.syspath_prepend(str(Path.cwd()))
        main(["fit", "--config", "config.yaml", *SOON, "--trainer.max_epochs=1"])
        yield Path.cwd()


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project / "runs/my_run/version_0"


def test_a_new_project_runs_as_it_is(in_project: Path) -> None:
    assert json.loads((in_project / "summary.json").read_text())
    (rollouts,) = (in_project / "rollouts").glob("*.parquet")
    samples = [sample for tree in read_trees(rollouts) for sample in tree.samples]
    assert samples
    assert all(sample.parts.keys() == {"reward"} for sample in samples), "the project's own reward judged them"


def test_a_new_project_overwrites_nothing(project: Path) -> None:
    with pytest.raises(SystemExit, match="is there already"):
        main(["new", str(project)])


def test_test_needs_a_run_folder_alone(in_project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["test", "runs/my_run"])
    assert "| heldout " in capfd.readouterr().out


def test_report_takes_the_folder_of_runs(in_project: Path) -> None:
    (in_project / "report.html").unlink()
    main(["report", "runs/my_run"])
    assert (in_project / "report.html").exists()


def test_export_needs_a_run_folder_alone(in_project: Path) -> None:
    main(["export", "runs/my_run"])
    kept, made = (in_project / folder / "adapter_model.safetensors" for folder in ("adapter", "export"))
    assert made.read_bytes() == kept.read_bytes()


def test_an_adapter_goes_out_with_all_that_who_gets_it_needs(in_project: Path) -> None:
    main(["export", "runs/my_run"])
    for folder in (in_project / "adapter", in_project / "export"):
        settings = json.loads((folder / "adapter_config.json").read_text())
        assert Path(settings["base_model_name_or_path"]).is_absolute()
        assert AutoTokenizer.from_pretrained(folder)
        card = (folder / "README.md").read_text()
        for said in ("gpo_lightning.losses.GRPO", "gpo_lightning.problems.Rows", "Tokens generated", "| heldout |"):
            assert said in card, card


def test_export_pushes_to_the_hub(in_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    class Hub:
        """Takes what it is given, as the hub would."""

        def create_repo(self, repository: str, **how: Any) -> str:
            calls.append({"repository": repository, **how})
            return f"https://huggingface.co/{repository}"

        def upload_folder(self, **how: Any) -> None:
            calls.append({"files": [path.name for path in Path(how["folder_path"]).iterdir()], **how})

    monkeypatch.setattr("gpo_lightning.runs.model_folder.HfApi", Hub)
    main(["export", "runs/my_run", "--push=me/mine", "--output=pushed"])
    made, uploaded = calls
    assert (made["repository"], made["private"]) == ("me/mine", True)
    assert uploaded["repo_id"] == "me/mine"
    assert {"adapter_model.safetensors", "README.md", "tokenizer.json"} <= set(uploaded["files"])


def test_explore_needs_a_run_folder_alone(in_project: Path) -> None:
    main(["explore", "runs/my_run", "--data.plan.problems=1"])
    assert len(read_trees(in_project / "explore/rollouts.parquet")) == 1


@pytest.mark.parametrize("command", ["diagnose", "validate", "predict"])  # the others have tests of their own
def test_every_command_takes_a_runs_configuration(
    command: str, in_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr("gpo_lightning.cli.gpo_cli.GPOCLI._run_subcommand", lambda self, name: called.append(name))
    main([command, "--config", str(in_project / "config.yaml")])
    assert called == [command]


def test_fit_goes_on_with_a_run_by_its_folder(in_project: Path) -> None:
    main(["fit", "runs/my_run/version_0", "--trainer.max_epochs=2"])
    assert json.loads((in_project / "summary.json").read_text())["iterations"] == 2
    assert not (in_project.parent / "version_1/run.json").exists()


def test_one_question_is_explored_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["explore", "--model", "tiny", "--prompt", "37a*5b+2?\n", "--answer", "90", "--data.sampling.max_tokens=24"])
    (tree,) = read_trees(tmp_path / "runs/explore/rollouts.parquet")
    assert (tree.problem.prompt, tree.problem.answer) == ("37a*5b+2?\n", "90")
    assert len(tree.samples) >= 16


def test_a_question_that_is_never_answered_right_says_why_no_step_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["explore", "--model=tiny", "--prompt=3+4?", "--answer=none", "--data.sampling.max_tokens=8"])
    told = capsys.readouterr().out
    assert "0 trajectories explored" in told
    assert "1: Problems not explored because all solutions were right, or all wrong." in told


def test_transcripts_of_others_are_explored_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": "37a*5b+2?\n", "text": "a37*5=88\nb88+2=90\n#90", "answer": "90"},
        {"prompt": "37a*5b+2?\n", "text": "a37*5=80\nb80+2=82\n#82", "answer": "90"},
    ]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["explore", "--model=tiny", "--transcripts=mine.jsonl", "--columns.response=text", "--output=out"])
    curves = [curve for tree in read_trees(tmp_path / "out/rollouts.parquet") for curve in tree.curves]
    assert ["".join(curve.steps) for curve in curves] == [row["text"] for row in rows]


def test_help_is_short_and_says_what_gpo_is(tmp_path: Path) -> None:
    told = gpo(["--help"], tmp_path).stdout
    assert told.startswith("gpo trains language models on the steps their reasoning turns on")
    assert len(told.splitlines()) < 40
    assert "Lightning Trainer command line tool" not in told


def test_shipped_configurations_are_listed_with_a_line_each(tmp_path: Path) -> None:
    lines = gpo(["configs"], tmp_path).stdout.strip().splitlines()[:-2]
    assert len(lines) > 60
    assert all(len(line.split("  ", 1)) == 2 and line.split("  ", 1)[1].strip() for line in lines)
    assert any(line.startswith("loss/dpo ") for line in lines)


class TestMistakes:
    """Whatever a user gets wrong is told in a few lines, without usage and without a traceback."""

    @pytest.fixture(autouse=True)
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        Path("broken_syntax.py").write_text("def reward(:\n")
        broken = "from gpo_lightning.losses import DPO\n\nclass Loss(DPO): ...\n\nraise OSError('disk on fire')\n"
        Path("broken_import.py").write_text(broken)
        Path("noise.ckpt").write_bytes(b"no checkpoint" * 100)
        Path("noise.parquet").write_bytes(b"no rollouts" * 100)
        pq.write_table(pa.table({"x": [1]}), "other.parquet")
        torch.save({"x": 1}, "other.ckpt")
        Path("old.yaml").write_text("model:\n  lora_rank: 8\ndata:\n  explorer: {budget: 4}\n")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["ftt", *QUICK], "Did you mean fit?"),
            (["fit", *QUICK, "--data.plan.reset_probability=2"], "data.plan.reset_probability is 2"),
            (["fit", *QUICK, "--model.loss=DPO", "--model.loss.beta=-1"], "beta"),
            (["fit", *QUICK, "--model.loss=broken_syntax.Loss"], "broken_syntax.py:1: SyntaxError"),
            (["fit", *QUICK, "--model.loss=broken_import.Loss"], "broken_import.py:5: OSError: disk on fire"),
            (["fit", *QUICK, "--data.rewards=broken_syntax.reward"], "broken_syntax"),
            (["fit", *QUICK, "--data.saved=noise.parquet"], "data.saved: noise.parquet is no Parquet file"),
            (["fit", *QUICK, "--data.saved=other.parquet"], "other.parquet"),
            (["fit", *QUICK, "--ckpt_path=noise.ckpt"], "--ckpt_path: noise.ckpt"),
            (["fit", *QUICK, "--ckpt_path=other.ckpt"], "--ckpt_path: other.ckpt"),
            (["test", *QUICK, "--ckpt_path=noise.ckpt"], "--ckpt_path: noise.ckpt"),
            (["test", *QUICK, "--ckpt_path=other.ckpt"], "--ckpt_path: other.ckpt"),
            (["export", *QUICK, "--ckpt_path=other.ckpt"], "--ckpt_path: other.ckpt"),
            (["fit", *QUICK, "--config=old.yaml"], "old.yaml:2"),
            (["fit", *QUICK, "--trainer.strategy=nope"], "nope"),
            (["fit", *QUICK, "--trainer.accelerator=abacus"], "abacus"),
            (["fit", *QUICK, "--model.policy.lora.r=0"], "r"),
            (["fit", *QUICK, "--model.optimizer=AdamW", "--model.optimizer.lr=-1"], "learning rate"),
            (["explore", "--model=tiny", "--question=why?"], "with --answer"),
            (["explore", "--model=tiny", "--transcripts=none.jsonl"], "there is no file none.jsonl"),
            (["explore", "--question=why?", "--answer=so"], "gpo explore --model NAME"),
            (["export", "runs/none"], "there is no runs/none"),
        ],
        ids=lambda value: " ".join(word for word in value if word not in QUICK)[:60] if value else "",
    )
    def test_is_told_in_few_words(
        self, arguments: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        told = capfd.readouterr().err + (stopped.value.code if isinstance(stopped.value.code, str) else "")
        assert stopped.value.code not in (0, None)
        assert said in told
        lines = told[told.index("gpo: ") :].splitlines()
        assert len(lines) <= 8
        assert not {"usage:", "Traceback"} & {line.split(" ")[0] for line in lines}


def test_new_is_offered_where_nothing_is_configured(tmp_path: Path) -> None:
    done = gpo(["fit"], tmp_path, check=False)
    assert done.returncode == 1
    assert "gpo new my_project" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_new_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new([str(tmp_path / "mine")])
    assert "gpo fit --config config.yaml" in capsys.readouterr().out
