"""What the ranks of test_sharding run: each case learns one iteration, and rank 0 leaves what came of it.

torchrun --standalone --nproc-per-node 2 -m tests.invariants.sharded OUT TIED
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.engines import Transformers
from gpo_lightning.experience import (
    Demonstrations,
    ExperienceBuilder,
    MismatchedResponses,
    PolicyGradient,
    PreferencePairs,
)
from gpo_lightning.losses import DAPO, DPO, GRPO, KL, KTO, PPO, SFT, Loss, TokenClip
from gpo_lightning.policy import PolicyConfig
from gpo_lightning.problems import ModularChains
from gpo_lightning.rollouts import Rollouts
from tests.conftest import disturb, lora
from tests.fitting import quiet, trees

DOUBLE = PolicyConfig(base="tiny", lora=lora(), dtype="float64", packing="none")


@dataclass(frozen=True)
class Case:
    """One iteration to learn. `shares`: how many of the four problems each rank has."""

    loss: Loss
    experience: ExperienceBuilder
    policy: PolicyConfig = DOUBLE
    shares: tuple[int, int] = (2, 2)
    micro_batch: int = 32
    accumulate: int = 1
    micro_tokens: int | None = None
    clip: float | None = None
    optimiser: Any = torch.optim.SGD


FROM_PROMPT = PolicyGradient(starts=("prompt",))
CASES = {
    "grpo": Case(GRPO(TokenClip(0.2, 0.3)), FROM_PROMPT),
    "grpo with a reference": Case(DAPO(kl=KL(0.1)), PolicyGradient(starts=("prompt",), keep_uniform=True)),
    "packed rows": Case(GRPO(TokenClip(0.2, 0.3)), FROM_PROMPT, replace(DOUBLE, packing="tree"), shares=(3, 1)),
    "dpo": Case(DPO(), PreferencePairs(starts=("prompt",), pairs=8)),
    # All on one rank, for a response is matched with another problem of its own rank.
    "kto, scored before the step, by one rank": Case(
        KTO(), MismatchedResponses(starts=("prompt",)), shares=(4, 0), micro_batch=8, accumulate=4
    ),
    "ppo with its value head": Case(PPO(), FROM_PROMPT),
    "uneven shares": Case(DAPO(kl=KL(0.1)), FROM_PROMPT, shares=(3, 1), micro_batch=8, accumulate=3),
    "a rank without examples": Case(PPO(), FROM_PROMPT, shares=(4, 0), micro_batch=8, accumulate=4),
    "clipped, by Adam": Case(GRPO(), FROM_PROMPT, clip=1e-3, optimiser=torch.optim.AdamW),
    "recomputed activations": Case(
        GRPO(TokenClip(0.2, 0.3)), FROM_PROMPT, replace(DOUBLE, gradient_checkpointing=True)
    ),
    "cut by tokens, with more of them on one rank": Case(
        DAPO(kl=KL(0.1)), FROM_PROMPT, shares=(3, 1), micro_batch=8, accumulate=3, micro_tokens=50
    ),
    "every weight": Case(SFT(), Demonstrations(), replace(DOUBLE, lora=None)),
    "every weight, embeddings tied": Case(SFT(), Demonstrations(), replace(DOUBLE, base="TIED", lora=None)),
    "bfloat16 under a float32 adapter and head": Case(PPO(), FROM_PROMPT, replace(DOUBLE, dtype="bfloat16")),
}


class Given(RolloutDataModule):
    """Rollouts that need no engine; everything else is the real thing."""

    def __init__(self, case: Case) -> None:
        super().__init__(
            ModularChains(),
            Transformers(),
            experience=case.experience,
            micro_batch=case.micro_batch,
            micro_tokens=case.micro_tokens,
        )
        self.case = case

    def _make(self, *_: Any) -> Rollouts:
        first = self.case.shares[0]
        own = [slice(None)] if self._ranks == 1 else [slice(first), slice(first, None)]
        return Rollouts(trees()[own[self._rank]])


@dataclass
class StepResult(Callback):
    """Gradients before, and weights after, each optimiser step: whole, on every rank."""

    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        found = {n: p.grad for n, p in pl_module.policy.named_parameters() if p.grad is not None}
        self.gradients.append({name: whole(value).clone() for name, value in found.items()})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.policy.gather()
        self.weights = {name: value.detach().clone() for name, value in pl_module.policy.trainable_state().items()}


def whole(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


class Started(GPOModule):
    """Begins with an adapter that is not zero, so that the policy differs from its reference."""

    def configure_model(self) -> None:
        mesh, self._device_mesh = self._device_mesh, None
        super().configure_model()
        if self.policy.lora is not None:
            disturb(self.policy)
        if mesh is not None:
            self._device_mesh = mesh
            self.policy.shard(mesh["data_parallel"])


def learn(
    case: Case, tied: str, folder: Path, callbacks: Sequence[Callback] = (), **trainer: Any
) -> tuple[GPOModule, StepResult]:
    policy = replace(case.policy, base=tied) if case.policy.base == "TIED" else case.policy
    torch.manual_seed(0)
    module = Started(case.loss, policy, optimizer=lambda parameters: case.optimiser(parameters, lr=0.1))
    learnt = StepResult()
    quiet(
        GPOTrainer,
        accumulate_grad_batches=case.accumulate,
        gradient_clip_val=case.clip,
        use_distributed_sampler=False,
        callbacks=[learnt, *callbacks],
        default_root_dir=folder,
        **trainer,
    ).fit(module, datamodule=Given(case))
    return module, learnt


def sharded(devices: int = 2) -> dict[str, Any]:
    strategy = ModelParallelStrategy(devices, 1, save_distributed_checkpoint=False, process_group_backend="gloo")
    return {"strategy": strategy, "devices": devices}


def answers(policy: Any) -> torch.Tensor:
    """Log-probabilities of some tokens."""
    ids = torch.tensor([[40, 107, 101, 8, 105, 100, 5, 6], [7, 107, 103, 6, 105, 100, 9, 3]])
    mask = torch.ones(ids.shape)
    mask[:, 0] = 0
    with torch.no_grad():
        return cast(torch.Tensor, policy.eval().logprobs(ids, torch.ones_like(ids), mask))


def main(arguments: Sequence[str]) -> None:
    out, tied = Path(arguments[0]), arguments[1]
    rank = int(os.environ["RANK"])
    for number, (name, case) in enumerate(CASES.items()):
        module, learnt = learn(case, tied, out, **sharded())
        kept = max(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in module.parameters())
        folder = out / f"{number}-rank{rank}"
        if module.policy.lora is not None:
            module.policy.export_adapter(folder)
        else:
            module.policy.export_merged(folder)
        result = {
            "gradients": learnt.gradients,
            "weights": learnt.weights,
            "checkpointed": list(module.trainer.strategy.lightning_module_state_dict()),
            "answers": answers(module.policy),
            "answers alone": answers(module.policy.standalone()),
            "largest": kept,
            "exported": sorted(file.name for file in folder.iterdir()),
        }
        torch.save(result, out / f"{number}-rank{rank}.pt")
        print(f"{name}: learnt", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
