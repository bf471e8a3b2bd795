"""A folded adapter computes what the adapter computes, and leaves no trace."""

from dataclasses import replace

import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor

from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.folding import Folded
from tests.conftest import disturb, lora


def policy_of(**settings: object) -> Policy:
    adapter = replace(lora(), **{name: settings.pop(name) for name in list(settings) if name == "use_dora"})  # type: ignore[arg-type]
    policy = Policy(PolicyConfig(base="tiny", lora=adapter, **settings))  # type: ignore[arg-type]
    disturb(policy)
    return policy.eval()


@torch.no_grad()
def answers(policy: Policy) -> Tensor:
    return policy.causal_lm(input_ids=torch.tensor([[40, 107, 101, 8, 105, 100, 5, 6]])).logits


def adapted(policy: Policy) -> list[Linear]:
    return [module for module in policy.modules() if isinstance(module, Linear)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
def test_it_computes_the_same_without_a_single_adapted_layer(dtype: str, tolerance: float) -> None:
    policy = policy_of(dtype=dtype)
    expected, layers = answers(policy), adapted(policy)
    folded = Folded(policy.model)
    assert layers
    with folded.within():
        assert adapted(policy) == []
        found = answers(policy)
    assert torch.allclose(found, expected, rtol=0, atol=tolerance)
    with policy.reference():
        assert not torch.allclose(answers(policy), expected, rtol=0, atol=100 * tolerance), "the adapter does something"
    assert adapted(policy) == layers
    assert torch.equal(answers(policy), expected), "to the bit"


def test_it_keeps_what_was_folded_when_the_adapter_learns_on() -> None:
    policy = policy_of(dtype="float64")
    before, folded = answers(policy), Folded(policy.model)
    disturb(policy, seed=1)
    with folded.within():
        assert torch.allclose(answers(policy), before, rtol=0, atol=1e-12)
    assert not torch.allclose(answers(policy), before, rtol=0, atol=1e-6)


def test_an_error_within_leaves_the_adapter_in_its_place() -> None:
    policy = policy_of()
    layers = adapted(policy)
    with pytest.raises(KeyError), Folded(policy.model).within():
        raise KeyError
    assert adapted(policy) == layers


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"use_dora": True}], ids=str)
def test_what_would_lose_by_it_stays_as_it_is(settings: dict[str, object]) -> None:
    policy = policy_of(**settings)
    layers = adapted(policy)
    with Folded(policy.model).within():
        assert adapted(policy) == layers
