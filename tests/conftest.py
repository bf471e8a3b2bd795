"""Small fixtures with plain names: a policy of random weights, problems of three letters, scripted engines."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from peft import LoraConfig

from gpo_lightning.engines import Purpose, Scripted
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import RolloutTree, Sample

ROOT = Path(__file__).parents[1]

# A shared machine is slow now and then, which says nothing of the code; the seed of a failure is printed.
settings.register_profile("suite", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = {
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
        "vllm": None if find_spec("vllm") else "vLLM is not installed (make setup installs it where it can be had)",
    }
    for item in items:
        for marker, reason in absent.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def lora(rank: int = 4) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def disturb(policy: Policy, size: float = 0.05, seed: int = 0) -> None:
    """Move every trainable weight, as an optimiser step would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.trainable_state().values():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def tree_of(samples: list[tuple[tuple[int, ...], int, float | None]], prompt: tuple[int, ...] = (1, 2)) -> RolloutTree:
    """A tree from (response tokens, start, reward)."""
    tree = RolloutTree(Problem(id="p", task="t", answer="0", prompt="?"), prompt)
    for tokens, start, reward in samples:
        purpose = Purpose.PROBE if start else Purpose.SAMPLE
        logprobs = tuple(-0.1 * (i + 1) for i in range(len(tokens) - start))
        tree.add(Sample(tokens, start, logprobs, reward, "right" if reward else "wrong", False, purpose, 0))
    return tree


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """The folder of real benchmark files, which the repository does not carry."""
    folder = Path(os.environ.get("GPO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the benchmark data: {folder} is not there (GPO_DATA names another folder)")
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture
def tiny_policy() -> Policy:
    """The embedded model with an adapter that is not zero."""
    policy = Policy(PolicyConfig(base="tiny", lora=lora(), dtype="float32"))
    disturb(policy)
    return policy


@pytest.fixture
def scripted() -> Callable[[Callable[[tuple[int, ...]], Mapping[int, float]]], Scripted]:
    def build(next_token: Callable[[tuple[int, ...]], Mapping[int, float]]) -> Scripted:
        return Scripted(next_token, eos=2)

    return build
