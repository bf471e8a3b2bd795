"""Adapters that somebody else made: damaged, of another base model, or of a kind that changes the base."""

import json
from pathlib import Path

import pytest

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy, PolicyConfig


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "adapter_config.json",
            '{"peft_type": "LORA", "init_lora_weights": "pissa"}',
            "changes the weights of the base",
        ),
        ("adapter_config.json", "[", "no adapter could be loaded"),
        ("adapter_config.json", '{"peft_type": "LORA", "r": "x", "target_modules": ["q_proj"]}', "no adapter could be"),
        ("adapter_model.safetensors", "rot", "no adapter could be loaded"),
    ],
)
def test_an_adapter_of_others_that_cannot_be_used_is_refused_by_its_name(
    file: str, content: str, said: str, tiny_policy: Policy, tmp_path: Path
) -> None:
    tiny_policy.export_adapter(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(ConfigError, match=said) as refusal:
        Policy(PolicyConfig(adapter=str(tmp_path), dtype="float32"))
    assert "model.policy.adapter" in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)


def test_an_adapter_of_another_base_is_told(
    tiny_policy: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_policy.export_adapter(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    for base, told in (("elsewhere/weights", False), ("owner/another", True)):
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": base}))
        Policy(PolicyConfig(adapter=str(tmp_path), dtype="float32"))
        assert ("trained on 'owner/another'" in caplog.text) == told
