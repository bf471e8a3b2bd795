"""What only a GPU shows: the engine on the device, and its memory given back while the trainer trains."""

import pytest
import torch

from gpo_lightning.engines import VLLM, Purpose, Request, Sampling
from gpo_lightning.policy import Policy, PolicyConfig
from tests.conftest import disturb, lora

pytestmark = [pytest.mark.gpu, pytest.mark.vllm, pytest.mark.slow]

PREFIX = (40, 107, 101, 8, 108, 103, 6, 105, 100) * 8


def largest_gap(engine: VLLM, policy: Policy) -> float:
    requests = [Request(PREFIX, 16, Sampling(16), Purpose.SAMPLE, seed) for seed in range(6)]
    gaps: list[float] = []
    for made in engine.generate(requests):
        ids = torch.tensor([PREFIX + made.tokens], device="cuda")
        mask = torch.zeros_like(ids)
        mask[:, len(PREFIX) :] = 1
        with torch.no_grad():
            ours = policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(PREFIX) :].cpu()
        gaps.append(float((ours - torch.tensor(made.logprobs)).abs().max()))
    return max(gaps)


def test_engine_and_trainer_agree_before_and_after_sleep() -> None:
    policy = Policy(PolicyConfig(base="tiny", lora=lora(), dtype="float32")).cuda()
    engine = VLLM(gpu_memory=0.2, eager=True)
    engine.start(policy)
    try:
        for version in range(3):
            disturb(policy.cpu(), size=0.1, seed=version)
            policy.cuda()
            engine.onload()
            engine.sync(policy, version)
            assert largest_gap(engine, policy) < 1e-2
            before = torch.cuda.mem_get_info()[0]
            engine.offload()
            assert torch.cuda.mem_get_info()[0] > before, "sleep gives memory back"
    finally:
        engine.shutdown()
