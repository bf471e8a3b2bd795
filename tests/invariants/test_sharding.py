"""Invariant 1 for FSDP2: a policy whose weights lie spread over two processes learns what one process learns."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from tests.conftest import ROOT
from tests.invariants.sharded import CASES, answers, learn


@dataclass
class Ranks:
    """What the two ranks left, and the model with tied embeddings they used."""

    folder: Path
    tied: str

    def left(self, case: str, rank: int = 0) -> dict[str, Any]:
        return torch.load(self.folder / f"{list(CASES).index(case)}-rank{rank}.pt", weights_only=True)

    def exported(self, case: str, rank: int = 0) -> Path:
        return self.folder / f"{list(CASES).index(case)}-rank{rank}"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """Both ranks learn every case in one go, since most of the time is spent on imports."""
    folder, tied = tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("tied")
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=192, tie_word_embeddings=True, **shape)).save_pretrained(tied)
    tiny_tokenizer().save_pretrained(tied)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.invariants.sharded", str(folder), str(tied)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout[-3000:]}\n{done.stderr[-8000:]}")
    return Ranks(folder, str(tied))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_sharded_processes_have_the_gradients_and_weights_of_one(name: str, ranks: Ranks, tmp_path: Path) -> None:
    case, two = CASES[name], ranks.left(name)
    # As many optimiser steps, each with all the examples of both ranks.
    _, one = learn(replace(case, micro_batch=2 * case.micro_batch), ranks.tied, tmp_path)
    # Half the rows are another tree, in which single precision (of norms) rounds otherwise.
    tolerance = 2e-2 if case.policy.dtype == "bfloat16" else 1e-6 if case.policy.packing == "tree" else 1e-9
    assert len(one.gradients) == len(two["gradients"])
    for single, double in zip(one.gradients, two["gradients"], strict=True):
        scale = max(float(value.abs().max()) for value in single.values())
        assert scale > 0
        assert single.keys() == double.keys()
        for weight, gradient in single.items():
            assert gradient.dtype == double[weight].dtype
            assert torch.allclose(gradient, double[weight], rtol=0, atol=tolerance * scale), weight
    for weight, value in one.weights.items():
        assert torch.allclose(value, two["weights"][weight], rtol=0, atol=tolerance), weight


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_rank_exports_the_whole_of_what_was_learnt(name: str, ranks: Ranks) -> None:
    first, second = (load_file(next(ranks.exported(name, rank).glob("*.safetensors"))) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[weight]) for weight, value in first.items())
    found = ranks.left(name)
    loaded: dict[str, Any] = {"base": str(ranks.exported(name))}
    if CASES[name].policy.lora is not None:
        loaded = {"base": "tiny", "adapter": str(ranks.exported(name))}
    served = Policy(PolicyConfig(dtype=CASES[name].policy.dtype, **loaded))
    assert torch.allclose(answers(served), found["answers"], atol=1e-9 if served.config.dtype == "float64" else 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_rank_holds_half_of_the_weights_and_a_whole_copy_answers_as_they_do(name: str, ranks: Ranks) -> None:
    found = [ranks.left(name, rank) for rank in (0, 1)]
    policy = Policy(CASES[name].policy if CASES[name].policy.base == "tiny" else PolicyConfig(base=ranks.tied))
    assert found[0]["largest"] <= max(p.numel() for p in policy.parameters()) // 2 + 1
    assert all(torch.equal(rank["answers"], found[0]["answers"]) for rank in found)
    assert all(torch.equal(rank["answers alone"], rank["answers"]) for rank in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_holds_what_is_trained_and_nothing_else(name: str, ranks: Ranks) -> None:
    found = ranks.left(name)
    assert sorted(found["checkpointed"]) == sorted(f"policy.{weight}" for weight in found["weights"])
    assert ranks.left(name, 1)["checkpointed"] == [], "the first rank writes it"
