"""Warm starts: `tiny`, taught a built-in task by a careless author, so that it solves a known share of the problems.

    tiny:ledger-8      `tiny` that solves about 8 % of `problems.Ledger()`

They are made on demand, in one to five minutes on a core, and cached. The author slips at every chance with one
probability, and the policy learns to slip as often: right in form, wrong at steps one can point to. Solutions of
several lengths are taught, up to a quarter longer than what is evaluated. The task itself is learnt from the
author of 30 %, and the others' slips in a short while after that.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy.embedded.cache import make_once
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.problems import CarryAddition, Ledger, ModularChains, Parities
from gpo_lightning.problems.checked import Checked
from gpo_lightning.problems.step_checked import Step

_LOG = logging.getLogger(__name__)
_TOLD = 5
"""Times that is said how far it is."""
FIRST, *LATER = LEVELS = (30, 8, 1)
"""Success of the warm starts at temperature 1, in per cent, roughly; the first is learnt from nothing."""
LATER_SHARE = 0.3
"""Updates that another level takes after the first, as a share."""
REMARK_WEIGHT = 0.1
"""Of the tokens that do not matter, in the loss: any will do, but they must not become all the same."""


@dataclass(frozen=True)
class Lesson:
    """What a warm start is taught.

    Args:
        source: the task, at the length that is evaluated.
        updates: optimiser steps.
        rate: the highest learning rate.
        batch: solutions a step.
    """

    source: Checked
    updates: int = 400
    rate: float = 2e-3
    batch: int = 16


def lessons() -> dict[str, Lesson]:
    """The lessons by name; their sources are those that are evaluated."""
    return {
        "chains": Lesson(ModularChains(steps=14), updates=150, rate=1e-3),
        "ledger": Lesson(Ledger(), updates=500),
        "late": Lesson(Ledger(late=True), updates=500),
        "parities": Lesson(Parities(), rate=3e-3),
        "carry": Lesson(CarryAddition(), updates=300),
    }


def warm_start_names() -> list[str]:
    """Every name that may follow `tiny:`."""
    return [f"{task}-{level}" for task in lessons() for level in LEVELS]


def warm_start_directory(name: str, base: Path) -> Path:
    """The model directory of a warm start, made on the first call and found in the cache afterwards.

    Raises:
        ConfigError: there is no warm start of that name.
    """
    task, _, level = name.rpartition("-")
    if name not in warm_start_names():
        raise ConfigError(f"model.policy.base: there is no tiny:{name}; there are: {', '.join(warm_start_names())}.")
    lesson = lessons()[task]
    if int(level) != FIRST:
        base = warm_start_directory(f"{task}-{FIRST}", base)
        lesson = replace(lesson, updates=round(LATER_SHARE * lesson.updates), rate=lesson.rate / 2)
    return make_once(f"tiny-{name}-v1", lambda draft: _write(name, lesson, int(level) / 100, base, draft))


def slip_rate(source: Checked, success: float, problems: int = 200) -> float:
    """How often an author slips at a chance who is to be right in a share of the solutions, by bisection."""
    draw = Random(0)
    chances = [source.chances(source.training_prompt(draw)) for _ in range(problems)]
    low, high = 0.0, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        right = sum((1 - rate) ** count for count in chances) / len(chances)
        low, high = (rate, high) if right > success else (low, rate)
    return low


def _write(name: str, lesson: Lesson, success: float, base: Path, directory: Path) -> None:
    _LOG.warning("tiny:%s is not in the cache yet; it is taught now, some minutes on a core, and kept there.", name)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    teach(model, lesson, success)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(base).save_pretrained(directory)


def teach(model: PreTrainedModel, lesson: Lesson, success: float, seed: int = 0) -> None:
    """Supervised learning from the careless author's solutions."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lesson.rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lesson.rate, total_steps=lesson.updates, pct_start=0.1)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = _batches(lesson, slip_rate(lesson.source, success), seed)
        for done, (tokens, weights) in enumerate(batches, start=1):
            logits = model(tokens[:, :-1]).logits
            losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
            weights = weights[:, 1:].flatten()
            optimizer.zero_grad()
            ((losses * weights).sum() / weights.sum()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if done % max(1, lesson.updates // _TOLD) == 0:
                _LOG.warning("Taught %d of %d steps.", done, lesson.updates)
    model.eval()


def _batches(lesson: Lesson, rate: float, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """``[B, T]`` prompts with the author's solutions, all of one length, and the weight of each token."""
    tokenizer, draw = tiny_tokenizer(), Random(f"{seed}/{lesson.source.task}/{rate}")
    full = lesson.source.steps
    sources = [lesson.source.resized(steps) for steps in (full, max(1, full * 3 // 4), full + full // 4, full)]
    for update in range(lesson.updates):
        source = sources[update % len(sources)]
        prompts = [source.training_prompt(draw) for _ in range(lesson.batch)]
        rows = [_row(tokenizer, p, source.solve(p, lambda: draw.random() < rate, draw)) for p in prompts]
        yield torch.tensor([tokens for tokens, _ in rows]), torch.tensor([weights for _, weights in rows])


def _row(tokenizer: Tokenizer, prompt: str, steps: Sequence[Step]) -> tuple[list[int], list[float]]:
    tokens = tokenizer.encode(prompt)
    weights = [0.0] * len(tokens)
    for index, step in enumerate(steps):
        for text, weight in ((step.text, 1.0), (step.remark, REMARK_WEIGHT), ("\n", float(index < len(steps) - 1))):
            ids = tokenizer.encode(text) if text and weight else []
            tokens, weights = tokens + ids, weights + [weight] * len(ids)
    return [*tokens, cast(int, tokenizer.eos_token_id)], [*weights, 1.0]
