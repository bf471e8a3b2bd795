"""Makes the weights of the embedded model `tiny` anew: supervised training on worked solutions of modular chains.

    make tiny                      writes gpo_lightning/policy/embedded/weights, in about four minutes on one core

The teacher is careless on purpose: now and then it adds where it should multiply or subtract, and goes on from there as
if nothing had happened. So the policy can do the arithmetic, but slips as its teacher does, at steps one can point to:
what critical steps are about.

Matrices learn by Muon; embeddings, head and norms by AdamW.
"""

import argparse
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from string import ascii_lowercase

import torch
from torch.nn.functional import cross_entropy

from gpo_lightning.engines import Purpose, Sampling, Transformers
from gpo_lightning.evaluation import Benchmark
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.evaluation.report import Tally
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.resolve import WEIGHTS
from gpo_lightning.policy.embedded.tiny import tiny_model, tiny_tokenizer
from gpo_lightning.problems import ModularChains
from gpo_lightning.problems.modular_chains import ANSWER_MARK, Operation, parse_prompt

BATCH, WARM_UP, DECAY_SHARE = 16, 20, 0.4
MUON_RATE, ADAM_RATE = 0.02, 8e-3
LENGTHS = (8, 3, 6, 10, 4, 7, 2, 9, 5)
"""Steps of a chain, in the order batches take them: the policy must not know one length only."""
MISREAD = {"*": 0.15, "-": 0.15, "+": 0.0}
"""How often the teacher takes an operation for an addition."""


def batches(steps: int, seed: int) -> Iterator[tuple[torch.Tensor, int]]:
    """``[BATCH, T]`` prompts with the teacher's solutions, all of one length, and the length of a prompt."""
    tokenizer, draw = tiny_tokenizer(), random.Random(seed)
    shares = {length: -(-steps // len(LENGTHS)) * BATCH for length in LENGTHS}
    problems = {k: iter(ModularChains(steps=k, train_size=size, seed=seed).train()) for k, size in shares.items()}
    for step in range(steps):
        chosen = list(islice(problems[LENGTHS[step % len(LENGTHS)]], BATCH))
        prompts = [tokenizer.encode(problem.prompt) for problem in chosen]
        solutions = [tokenizer.encode(careless_solution(problem.prompt, draw)) for problem in chosen]
        ends = [tokenizer.eos_token_id]
        rows = [prompt + solution + ends for prompt, solution in zip(prompts, solutions, strict=True)]
        yield torch.tensor(rows), len(prompts[0])


def careless_solution(prompt: str, draw: random.Random, modulus: int = 97) -> str:
    """A worked solution in the form of `worked_solution`, but for the operations the teacher misreads.

    From `37a+5b*3?` it may go on `a37+5=42`, `b42+3=45`, `#45`: wrong at b, and true to itself afterwards.
    """
    value, operations = parse_prompt(prompt)
    lines: list[str] = []
    for name, asked in zip(ascii_lowercase, operations, strict=False):
        misread = draw.random() < MISREAD[asked.symbol]
        operation = Operation("+", asked.operand) if misread else asked
        result = operation.apply(value, modulus)
        lines.append(f"{name}{value}{operation.symbol}{operation.operand}={result}")
        value = result
    return "\n".join([*lines, f"{ANSWER_MARK}{value}"])


def train(steps: int, seed: int) -> torch.nn.Module:
    model = tiny_model(seed)
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    held = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in held]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.1),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps)) for optimizer in optimizers
    ]
    for step, (batch, prompt) in enumerate(batches(steps, seed)):
        logits = model(batch[:, :-1]).logits[:, prompt - 1 :]
        loss = cross_entropy(logits.flatten(0, 1), batch[:, prompt:].flatten())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    return model


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate: a short rise, then a straight fall to zero over the last part."""
    return min(1.0, (step + 1) / WARM_UP) * min(1.0, (steps - step) / (DECAY_SHARE * steps))


def success(directory: Path, steps: int, temperature: float) -> str:
    policy = Policy(PolicyConfig(base=str(directory), dtype="float32"))
    source = ModularChains(steps=steps)
    engine = Transformers()
    engine.start(policy)
    sampling, problems = Sampling(max_tokens=96, temperature=temperature), tuple(source.heldout())
    tally = Tally(Benchmark(f"{steps} steps", source, problems, len(problems), sampling))
    trees, _ = respond(engine, policy.tokenizer, source, problems, sampling, samples=1, seed=0)
    tally.update(trees)
    return f"{tally.report().overall.accuracy}, {engine.ledger.accounts[Purpose.EVALUATION].generated:,} tokens"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    model = train(arguments.steps, arguments.seed)
    model.save_pretrained(arguments.output)
    tiny_tokenizer().save_pretrained(arguments.output)
    for steps in (4, 8, 10):
        for temperature in (1.0, 0.0):
            measured = success(arguments.output, steps, temperature)
            print(f"{steps} steps, temperature {temperature}: held-out success {measured}", flush=True)


if __name__ == "__main__":
    main()
