"""A reward model by path: a real classifier of random weights, in a directory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.rewards import Case, Rewards, SequenceClassifier


def saved(folder: Path, labels: int = 1) -> Path:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_labels=labels,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


CASES = [Case("a=3+4=7", "7", {}, "3+4?"), Case("b", "7", {}, "3+4?"), Case("+7" * 45, "7", {}, "3+4?")]


def score(folder: Path, text: str) -> torch.Tensor:
    """The logits of one text, alone and without padding."""
    model: Any = Qwen2ForSequenceClassification.from_pretrained(folder).eval()
    ids = tiny_tokenizer().encode(text)[-64:]
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_a_path_among_rewards_is_a_reward_model(tmp_path: Path) -> None:
    folder = saved(tmp_path / "judge")
    rewards = Rewards([str(folder), lambda completion, answer: float(answer in completion)], success="<lambda>")
    grades = rewards.grade_all(CASES)
    for case, grade in zip(CASES, grades, strict=True):
        assert grade.parts["judge"] == pytest.approx(float(score(folder, f"{case.prompt}{case.response}")), abs=1e-4)
    assert [grade.success for grade in grades] == [1.0, 0.0, 1.0]
    assert [rewards.grade_all([case])[0].reward for case in CASES] == pytest.approx(
        [g.reward for g in grades], abs=1e-4
    )


def test_of_several_labels_one_is_the_reward(tmp_path: Path) -> None:
    folder = saved(tmp_path / "judge", labels=3)
    (grade, *_) = Rewards(SequenceClassifier(str(folder), label=2)).grade_all(CASES)
    assert grade.reward == pytest.approx(float(score(folder, "3+4?a=3+4=7").softmax(-1)[2]), abs=1e-4)
    with pytest.raises(ConfigError, match=r"has 3 labels .* label is None"):
        Rewards(str(folder)).grade_all(CASES)


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="cannot be loaded as a sequence classifier"):
        Rewards(str(tmp_path / "empty")).grade_all(CASES)


def test_a_model_without_a_head_for_scores_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"data\.rewards: .* is no sequence classifier: it has no score\.weight"):
        SequenceClassifier(str(folder))(["a"], ["3"])


def test_newlines_reach_the_reward_model(tmp_path: Path) -> None:
    """transformers' own class for this architecture drops those of a tokenizer of words."""
    reward = SequenceClassifier(str(saved(tmp_path)))
    assert reward(["3"], ["a\nb"]) != reward(["3"], ["ab"])
