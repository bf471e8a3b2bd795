"""What a configuration names is part of a run: changed in its place, it makes another one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpo_lightning.errors import ConfigError
from gpo_lightning.runs.identity import Identity, check_same, differences
from gpo_lightning.runs.inputs import inputs

NAMED = {
    "data.problems.class_path": "gpo_lightning.problems.Table",
    "data.problems.init_args.train": "train.jsonl",
    "data.problems.init_args.rewards": [{"class_path": "my_reward_of_a_test.close"}, "my_reward_of_a_test.Close"],
    "data.problems.init_args.split": "test",
    "model.policy.base": "my_base",
    "model.optimizer.class_path": "torch.optim.AdamW",
    "model.optimizer.init_args.lr": 0.1,
    "trainer.logger.init_args.save_dir": "runs/out.json",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"question": "1 + 1", "answer": "2"}')
    (tmp_path / "my_reward_of_a_test.py").write_text("def close(): return 1.0\nClose = close\n")
    (tmp_path / "my_base").mkdir()
    (tmp_path / "my_base/model.safetensors").write_bytes(bytes(100))
    (tmp_path / "test").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/out.json").write_text("{}")
    __import__("my_reward_of_a_test")
    yield tmp_path
    del sys.modules["my_reward_of_a_test"]


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("train.jsonl", "data.problems.init_args.train.sha256"),
        ("my_reward_of_a_test.py", "data.problems.init_args.rewards.0.class_path.sha256"),
        ("my_base/model.safetensors", "model.policy.base.sha256"),
    ],
)
def test_what_is_changed_in_its_place_is_a_difference(file: str, key: str, project: Path) -> None:
    before = NAMED | inputs(NAMED)
    assert differences(before, NAMED | inputs(NAMED)) == []
    content = bytearray((project / file).read_bytes())
    content[-2] ^= 1
    (project / file).write_bytes(content)
    now = NAMED | inputs(NAMED)
    assert key in [found.key for found in differences(before, now)]
    top = key.split(".init_args")[0] if ".init_args" in key else "model.policy.base"
    with pytest.raises(ConfigError, match=rf"{key} .*\n(.*\n)*.*--resume_with '\[{top}"):
        check_same(project, before, now, [])
    check_same(project, before, now, [top])


def test_what_is_no_input_has_no_digest(project: Path) -> None:
    named = {key.rpartition(".")[0].removesuffix(".class_path") for key in inputs(NAMED)}
    rewards = "data.problems.init_args.rewards"
    assert named == {"data.problems.init_args.train", f"{rewards}.0", f"{rewards}.1", "model.policy.base"}
    (project / "test/file").touch()
    assert differences(NAMED, NAMED | inputs(NAMED)) == [], "runs of earlier versions have none"


def test_other_versions_are_told_and_not_refused() -> None:
    run = Identity.new({})
    assert run.made_by_others() == ""
    older = Identity.read(run.to_dict() | {"versions": {**run.versions, "torch": "1.0"}, "package": "0.0.1"})
    assert "torch 1.0 -> " in older.made_by_others()
    assert "gpo-lightning 0.0.1 -> " in older.made_by_others()
    unknown = {name: value for name, value in run.to_dict().items() if name != "versions"}
    assert Identity.read(unknown).made_by_others() == ""
