"""After a sync the engine speaks with the trainer's own voice: same log-probabilities, no trace of older weights."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig

from gpo_lightning.engines import VLLM, Completion, Engine, Purpose, Request, Sampling, Transformers
from gpo_lightning.policy import Policy, PolicyConfig
from tests.conftest import disturb, lora
from tests.engines.definitions import check_log_probs, check_stop_texts, check_stop_tokens

PREFIX = (40, 107, 101, 8, 108, 103, 6, 105, 100) * 8
"""Longer than two blocks of vLLM's prefix cache, so that a stale cache would be used."""


def requests(count: int = 6) -> list[Request]:
    return [Request(PREFIX, 16, Sampling(16), Purpose.SAMPLE, seed) for seed in range(count)]


def trainer_logprobs(policy: Policy, completion: Completion) -> torch.Tensor:
    ids = torch.tensor([PREFIX + completion.tokens])
    mask = torch.zeros_like(ids)
    mask[:, len(PREFIX) :] = 1
    with torch.no_grad():
        return policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(PREFIX) :]


def largest_gap(policy: Policy, completions: list[Completion]) -> float:
    gaps = [(trainer_logprobs(policy, c) - torch.tensor(c.logprobs)).abs().max() for c in completions]
    return float(max(gaps))


@pytest.fixture(params=["adapter", pytest.param("whole", marks=pytest.mark.long)])
def policy(request: pytest.FixtureRequest) -> Policy:
    """Trained by an adapter, or in all its weights."""
    return Policy(PolicyConfig(base="tiny", lora=lora() if request.param == "adapter" else None, dtype="float32"))


@pytest.fixture(params=[Transformers, pytest.param(VLLM, marks=[pytest.mark.vllm, pytest.mark.slow])])
def engine(request: pytest.FixtureRequest, policy: Policy) -> Iterator[Engine]:
    started: Any = request.param()
    started.start(policy)
    yield started
    started.shutdown()


def test_engine_and_trainer_agree_after_every_sync(engine: Engine, policy: Policy) -> None:
    fixed = Completion(0, tuple(range(5, 25)), (), truncated=True)
    engine.sync(policy, 0)
    assert largest_gap(policy, engine.generate(requests())) < 1e-3
    for version in (1, 2):
        before = trainer_logprobs(policy, fixed)
        disturb(policy, size=0.1, seed=version)
        moved = (trainer_logprobs(policy, fixed) - before).abs().max()
        assert moved > 0.1, "weights that hardly move would let a stale engine pass"
        engine.sync(policy, version)
        # The prefix was computed and cached with the old weights; the first answer must not know that.
        first, *others = engine.generate(requests())
        assert first.cached == 0 or isinstance(engine, Transformers)
        assert largest_gap(policy, [first, *others]) < 1e-3
        assert engine.version == version


@pytest.mark.vllm
@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({"use_dora": True}, "merged"),
        ({"modules_to_save": ["lm_head"]}, "merged"),
        ({"target_modules": ["q_proj", "lm_head"], "rank_pattern": {"q_proj": 24}}, "adapter"),
    ],
)
def test_whatever_the_adapter_vllm_serves_what_is_trained(settings: dict[str, Any], form: str) -> None:
    chosen: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    policy = Policy(PolicyConfig(base="tiny", lora=LoraConfig(**chosen | settings), dtype="float32"))
    engine = VLLM(memory_gib=0.25)
    try:
        engine.start(policy)
        assert engine.form == form
        test_engine_and_trainer_agree_after_every_sync(engine, policy)
    finally:
        engine.shutdown()


@pytest.fixture(scope="module")
def vllm() -> Iterator[tuple[Engine, Policy]]:
    policy = Policy(PolicyConfig(base="tiny", lora=lora(), dtype="float32"))
    engine = VLLM(memory_gib=0.25)
    engine.start(policy)
    engine.sync(policy, 0)
    yield engine, policy
    engine.shutdown()


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_serves_continuations_submitted_while_others_run_and_forgets_cancelled_ones(
    vllm: tuple[Engine, Policy],
) -> None:
    engine, _ = vllm
    waiting = {engine.submit(request) for request in requests(3)}
    cancelled = engine.submit(requests(1)[0])
    engine.cancel(cancelled)
    finished = {completion.handle for completion in engine.poll()}
    late = engine.submit(requests(1)[0])
    while found := engine.poll():
        finished |= {completion.handle for completion in found}
    assert finished == waiting | {late}
    booked = engine.ledger.accounts[Purpose.SAMPLE]
    assert booked.requests == 4
    assert booked.prefilled + booked.cached == 4 * len(PREFIX)
    assert booked.cached > 0, "prefixes of more than a block are shared"


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_draws_by_the_definitions(vllm: tuple[Engine, Policy]) -> None:
    engine, policy = vllm
    check_log_probs(engine, policy)
    check_stop_texts(engine, policy)
    check_stop_tokens(engine)
