"""Which passes an iteration makes, for every loss: none whose result nobody reads or is there already."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from gpo_lightning import losses
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.losses import DAPO, GRPO, KL, KTO, PPO, RLOO, Loss, PolicyGradientLoss, TruncatedWeights, VinePPO
from gpo_lightning.losses.labelled import LabelledLoss
from gpo_lightning.losses.preference import PreferenceLoss
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.training import Scorer, TrainingStep, make_batches
from tests.conftest import lora
from tests.fitting import trees
from tests.of_the_package import offered

LEARNT, OLD, REFERENCE = "learnt from", "old policy", "reference"


@dataclass
class Iteration:
    """Passes of an iteration: what they were for, and how many of the old policy and the reference come before it."""

    made: Counter[str]
    steps: int


def iteration(loss: Loss, steps: int = 1, dropout: float = 0.0) -> Iteration:
    """An iteration of so many optimiser steps, each of one micro-batch."""
    policy = Policy(PolicyConfig(base="tiny", lora=replace(lora(), lora_dropout=dropout)), values=loss.needs_values)
    layer = next(module for module in policy.modules() if isinstance(module, BaseTunerLayer))
    made: Counter[str] = Counter()

    def count(*_: Any) -> None:
        made[LEARNT if torch.is_grad_enabled() else REFERENCE if layer.disable_adapters else OLD] += 1

    policy.causal_lm.base_model.register_forward_pre_hook(count)
    builder = PolicyGradient() if isinstance(loss, VinePPO) else loss.default_experience()
    scorer = Scorer(policy, loss, 1.0)
    examples = builder.build(trees()[:2], Counter())
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    learning = TrainingStep(scorer, loss, parameters)
    batches = make_batches(examples, builder, scorer, -(-len(examples) // steps))
    for batch in batches:
        learning.backward(learning.forward(batch))
    return Iteration(made, len(batches))


EVERY: list[Loss] = [loss() for loss in offered(losses, Loss)]
POLICY_GRADIENT = [loss for loss in EVERY if isinstance(loss, PolicyGradientLoss)]
WITH_KL_IN_THE_REWARD = ("PPO", "RLOO", "ReinforcePlusPlus")
NAMES: Any = lambda value: type(value).__name__  # noqa: E731


@pytest.mark.parametrize("loss", EVERY, ids=NAMES)
def test_an_iteration_of_one_step_makes_the_passes_that_its_equation_reads(loss: Loss) -> None:
    name = type(loss).__name__
    compares = isinstance(loss, PreferenceLoss | LabelledLoss) and name not in ("SimPO", "ORPO", "CPO")
    expected = Counter({LEARNT: 1})
    if name in WITH_KL_IN_THE_REWARD:
        expected |= Counter({OLD: 1, REFERENCE: 1})
    elif name == "KTO":  # policy and reference on responses to other problems
        expected |= Counter({OLD: 1, REFERENCE: 2})
    elif compares:
        expected |= Counter({REFERENCE: 1})
    assert iteration(loss).made == expected


@pytest.mark.parametrize("loss", POLICY_GRADIENT, ids=NAMES)
def test_without_kl_nobody_asks_the_reference_nor_the_old_policy(loss: PolicyGradientLoss) -> None:
    found = iteration(replace(loss, kl=KL()), steps=3)
    assert found.steps == 3
    # The value head's estimates must be known before any advantage is.
    assert found.made == Counter({LEARNT: 3, **({OLD: 3} if isinstance(loss, PPO) else {})})


def test_a_correction_scores_beforehand_only_where_the_policy_moves_before_the_last_step() -> None:
    loss = GRPO(importance_correction=TruncatedWeights())
    assert iteration(loss).made == Counter({LEARNT: 1})
    assert iteration(loss, steps=2).made == Counter({LEARNT: 2, OLD: 2})
    assert iteration(loss, dropout=0.1).made == Counter({LEARNT: 1, OLD: 1}), "old scores are without noise"
    assert iteration(RLOO(importance_correction=TruncatedWeights())).made[OLD] == 1


def test_the_reference_is_asked_once_about_a_batch_that_is_scored_beforehand() -> None:
    loss = DAPO(kl=KL(0.1), importance_correction=TruncatedWeights())
    assert iteration(loss).made == Counter({LEARNT: 1, REFERENCE: 1})
    assert iteration(loss, steps=2).made == Counter({LEARNT: 2, OLD: 2, REFERENCE: 2})
    assert iteration(KTO(), steps=2).made == Counter({LEARNT: 2, OLD: 2, REFERENCE: 4})
