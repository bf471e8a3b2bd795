from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from gpo_lightning import GPOModule
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import GRPO
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.logprobs import token_logprobs
from gpo_lightning.policy.sharding import decoder_layers
from tests.conftest import disturb, lora

IDS = torch.tensor([[40, 107, 101, 8, 105, 100, 5, 6], [7, 107, 103, 6, 105, 100, 9, 3]])


def mask_after(start: int) -> torch.Tensor:
    mask = torch.zeros(IDS.shape)
    mask[:, start:] = 1
    return mask


def test_logprobs_are_those_of_a_plain_log_softmax(tiny_policy: Policy) -> None:
    found = tiny_policy.logprobs(IDS, torch.ones_like(IDS), mask_after(4), temperature=0.7)
    logits = tiny_policy.causal_lm(IDS).logits[:, :-1] / 0.7
    plain = logits.log_softmax(-1).gather(-1, IDS[:, 1:, None]).squeeze(-1)
    assert torch.allclose(found[:, 4:], plain[:, 3:], atol=1e-5)
    assert (found[:, :4] == 0).all()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_change_neither_value_nor_gradient(chunk: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (7,))
    plain = (hidden @ weight.T).log_softmax(-1)[range(7), targets]
    chunked = token_logprobs(hidden, targets, lambda rows: rows @ weight.T, chunk)
    assert torch.allclose(plain, chunked, atol=1e-12)
    upstream = torch.randn(7, dtype=torch.float64)
    expected = torch.autograd.grad(plain, (hidden, weight), upstream)
    for found, wanted in zip(torch.autograd.grad(chunked, (hidden, weight), upstream), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("frozen", [False, True])
def test_logits_never_stand_whole_in_memory(frozen: bool) -> None:
    seen: list[int] = []

    def head(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows @ torch.ones(4, 9)

    token_logprobs(
        torch.randn(10, 4, requires_grad=True), torch.zeros(10, dtype=torch.long), head, 4, frozen
    ).sum().backward()
    assert max(seen) == 4
    assert sum(seen) == (10 if frozen else 20), "a head that learns computes each chunk again in the backward pass"


@settings(max_examples=20)
@given(rows=st.integers(0, 9), chunk=st.integers(1, 12), cap=st.booleans(), seed=st.integers(0, 99))
def test_a_frozen_head_gives_the_gradient_of_a_plain_log_softmax(rows: int, chunk: int, cap: bool, seed: int) -> None:
    torch.manual_seed(seed)
    hidden = torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)
    weight, targets = torch.randn(11, 5, dtype=torch.float64), torch.randint(11, (rows,))

    def head(kept: torch.Tensor) -> torch.Tensor:
        logits = kept @ weight.T
        return (3 * (logits / 3).tanh() if cap else logits) / 0.7

    plain = head(hidden).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    chunked = token_logprobs(hidden, targets, head, chunk, frozen=True)
    assert torch.allclose(plain, chunked, atol=1e-12)
    upstream = torch.randn(rows, dtype=torch.float64)
    (expected,) = torch.autograd.grad(plain, hidden, upstream)
    (found,) = torch.autograd.grad(chunked, hidden, upstream)
    assert torch.allclose(found, expected, atol=1e-12)


def test_a_head_in_half_precision_accumulates_in_single() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5000, 16).bfloat16()
    hidden, targets = torch.randn(8, 16).bfloat16().requires_grad_(), torch.randint(5000, (8,))
    found = token_logprobs(hidden, targets, lambda rows: rows @ weight.T, 3, frozen=True)
    assert found.dtype == torch.float32
    logits = (hidden.detach() @ weight.T).double()
    assert torch.allclose(found.double(), logits.log_softmax(-1)[range(8), targets], atol=1e-4)
    found.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    exact = weight[targets].double() - logits.softmax(-1) @ weight.double()
    assert torch.allclose(hidden.grad.double(), exact, rtol=0, atol=2e-2 * float(exact.abs().max()))


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj", "lm_head"]])
def test_an_adapter_on_the_head_learns(modules: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    adapter = LoraConfig(r=2, target_modules=modules, task_type="CAUSAL_LM")
    policy = Policy(PolicyConfig(base="tiny", dtype="float64", lora=adapter, logit_chunk=3))
    disturb(policy)
    assert policy.head is not None
    assert policy.head.frozen == (modules == "all-linear")
    policy.logprobs(IDS, torch.ones_like(IDS), mask_after(2), 0.7).sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in policy.trainable_state().items()}  # type: ignore[union-attr]
    policy.zero_grad()
    logits = policy.causal_lm(IDS).logits[:, 1:-1] / 0.7
    logits.log_softmax(-1).gather(-1, IDS[:, 2:, None]).sum().backward()
    for name, parameter in policy.trainable_state().items():
        assert parameter.grad is not None
        assert torch.allclose(found[name], parameter.grad, rtol=0, atol=1e-6 * float(parameter.grad.abs().max())), name


@pytest.mark.parametrize("vocabulary", [192, 50_000, 2_000_000])
def test_logits_take_as_much_memory_whatever_the_vocabulary(tiny_policy: Policy, vocabulary: int) -> None:
    assert tiny_policy.head is not None
    tiny_policy.causal_lm.config.vocab_size = vocabulary
    assert 2**23 < tiny_policy.head.chunk * vocabulary <= 2**24


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(tiny_policy: Policy, side: str) -> None:
    pad = torch.zeros(2, 5, dtype=torch.long)
    order = (pad, IDS) if side == "left" else (IDS, pad)
    where = slice(5, None) if side == "left" else slice(0, 8)
    ids = torch.cat(order, 1)
    attention, mask = torch.zeros_like(ids), torch.zeros(ids.shape)
    attention[:, where], mask[:, where] = 1, mask_after(4)
    plain = tiny_policy.logprobs(IDS, torch.ones_like(IDS), mask_after(4))
    assert torch.allclose(tiny_policy.logprobs(ids, attention, mask)[:, where], plain, atol=1e-5)


def test_a_row_without_loss_reaches_every_trainable_weight_with_zero(tiny_policy: Policy) -> None:
    tiny_policy.logprobs(IDS, torch.ones_like(IDS), torch.zeros(IDS.shape)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in tiny_policy.trainable_state().values())


def test_the_reference_is_the_adapter_switched_off(tiny_policy: Policy) -> None:
    base = Policy(PolicyConfig(base="tiny", dtype="float32"))
    inputs = (IDS, torch.ones_like(IDS), mask_after(2))
    with tiny_policy.reference():
        reference = tiny_policy.logprobs(*inputs)
    assert not reference.requires_grad
    assert torch.allclose(reference, base.logprobs(*inputs), atol=1e-5)
    assert not torch.allclose(reference, tiny_policy.logprobs(*inputs), atol=1e-3)


def test_only_the_adapter_is_trained(tiny_policy: Policy) -> None:
    assert all("lora_" in name for name in tiny_policy.trainable_state())


def test_exported_adapter_loads_with_peft_and_goes_on(tiny_policy: Policy, tmp_path: Path) -> None:
    tiny_policy.export_adapter(tmp_path)
    by_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_policy.directory), tmp_path)
    assert torch.allclose(by_peft(IDS).logits, tiny_policy.model(IDS).logits, atol=1e-5)
    again = Policy(PolicyConfig(base="tiny", adapter=str(tmp_path), dtype="float32"))
    assert again.lora is not None
    assert again.lora.r == 4
    assert torch.allclose(again.model(IDS).logits, tiny_policy.model(IDS).logits, atol=1e-5)


def test_merged_export_is_an_ordinary_model_and_leaves_the_policy_as_it_was(
    tiny_policy: Policy, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in tiny_policy.state_dict().items()}
    tiny_policy.export_merged(tmp_path)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(merged(IDS).logits, tiny_policy.model(IDS).logits, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in tiny_policy.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_four_bit_base_trains_and_serves_what_the_trainer_computes() -> None:
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    policy = Policy(PolicyConfig(base="tiny", lora=lora(), quantization=four_bit, dtype="float32"))
    disturb(policy)
    inputs = (IDS, torch.ones_like(IDS), mask_after(2))
    policy.logprobs(*inputs).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.trainable_state().values())
    served = Policy(PolicyConfig(base=policy.engine_directory, dtype="float32"))
    with policy.reference():
        reference = policy.logprobs(*inputs)
    assert torch.allclose(served.logprobs(*inputs), reference, atol=1e-3)


def test_bad_models_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model.policy.base.*no/such/model"):
        Policy(PolicyConfig(base="no/such/model"))
    with pytest.raises(ConfigError, match=r"model.policy.quantization needs model.policy.lora"):
        PolicyConfig(quantization=BitsAndBytesConfig(load_in_4bit=True))
    with pytest.raises(ConfigError, match=r"model.policy.lora is null"), Policy(PolicyConfig(base="tiny")).reference():
        pass


def test_what_cannot_be_sharded_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = GPOModule(
        GRPO(), PolicyConfig(base="no/such/model", lora=lora(), quantization=BitsAndBytesConfig(load_in_4bit=True))
    )
    monkeypatch.setattr(GPOModule, "device_mesh", {"data_parallel": None})
    with pytest.raises(ConfigError, match=r"model.policy.quantization: 4-bit and 8-bit weights cannot be sharded"):
        module.configure_model()


def test_a_model_that_does_not_name_its_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.strategy: Linear does not say which modules are its decoder"):
        decoder_layers(torch.nn.Linear(2, 2))  # type: ignore[arg-type]


class TestValueHead:
    def test_it_is_zero_at_first_and_masked(self) -> None:
        policy = Policy(PolicyConfig(base="tiny", lora=lora(), dtype="float32"), values=True)
        inputs = (IDS, torch.ones_like(IDS), mask_after(4))
        logprobs, values = policy.logprobs_and_values(*inputs)
        assert torch.equal(logprobs, policy.logprobs(*inputs))
        assert values.shape == IDS.shape
        assert not values.any()

    def test_a_value_is_that_of_the_state_before_its_token(self) -> None:
        """The token itself, and what comes after it, change nothing."""
        policy = Policy(PolicyConfig(base="tiny", lora=lora(), dtype="float32"), values=True)
        disturb(policy)
        other = IDS.clone()
        other[:, 5:] = 9
        found, changed = (
            policy.logprobs_and_values(ids, torch.ones_like(IDS), mask_after(2))[1] for ids in (IDS, other)
        )
        assert torch.allclose(found[:, :6], changed[:, :6], atol=1e-6)
        assert not torch.allclose(found[:, 6:], changed[:, 6:], atol=1e-4)
        assert not found[:, :2].any()

    def test_it_is_trained_and_no_part_of_an_exported_adapter(self, tmp_path: Path) -> None:
        policy = Policy(PolicyConfig(base="tiny", lora=lora(), dtype="float32"), values=True)
        assert "value_head.weight" in policy.trainable_state()
        policy.export_adapter(tmp_path)
        Policy(PolicyConfig(base="tiny", adapter=str(tmp_path), dtype="float32"))

    def test_a_policy_without_one_says_so(self, tiny_policy: Policy) -> None:
        with pytest.raises(ConfigError, match="no value head"):
            tiny_policy.logprobs_and_values(IDS, torch.ones_like(IDS), mask_after(2))
