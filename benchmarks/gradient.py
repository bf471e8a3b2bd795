"""Which method's batches point where success rises: cosine with the exact gradient, and what a token is worth.

    python benchmarks/gradient.py [methods ...] [--tasks ledger-8 parities-1] [--batches 24] [--problems 8]

A task is a warm start of `tiny` with the problems it was taught. Every method draws batches of its own with the same
problems; efficiency is that of `evaluation.gradients`, relative to GRPO with groups of 8. A task whose batches have a
cosine near 1 has nothing to gain; one where the oracles are no better than GRPO is a control. Writes
benchmarks/results/gradient.json; tasks and methods that were not asked for stay in it as they were.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import time
from typing import Any

import torch
from peft import LoraConfig

from gpo_lightning.critical import Exhaustive, MaxAdvantage, Newline, NoSearch, RandomStep, SearchStrategy, Selector
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.evaluation.exact import exact_success
from gpo_lightning.evaluation.gradients import (
    BatchGradient,
    batch_gradient,
    efficiency,
    success_gradient,
    uniform_share,
)
from gpo_lightning.evaluation.oracle import ExactSteps
from gpo_lightning.experience import PolicyGradient, Siblings
from gpo_lightning.experience.credit import Credit, Outcome, Segments
from gpo_lightning.losses import GRPO
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.warm_start import lessons, warm_start_names
from gpo_lightning.problems.checked import Checked
from gpo_lightning.rollouts import FirstMistake, Frontier, RolloutLoop, RolloutPlan, RolloutTree
from gpo_lightning.rollouts.starts import Critical, PromptOnly, StartStates

RESULTS = Path(__file__).parent / "results" / "gradient.json"


@dataclass(frozen=True)
class Method:
    """One way to make a batch.

    Args:
        group: responses to a problem.
        problems: a batch, in units of ``--problems``: methods that spend more on each take fewer.
        starts: where other groups start.
        resets: responses of such a group.
        search: finds critical steps where ``starts`` wants them.
        selector: chooses among them.
        credit: within a response; ``None`` for exact step advantages.
    """

    group: int = 8
    problems: float = 1.0
    starts: StartStates = PromptOnly()
    resets: int = 8
    search: SearchStrategy = NoSearch()
    selector: Selector = MaxAdvantage()
    reset_probability: float = 1.0
    credit: Credit | None = Outcome()


METHODS = {
    "GRPO, groups of 8": Method(),
    "GRPO, groups of 4": Method(group=4, problems=2.0),
    "random reset": Method(starts=Critical(), selector=RandomStep(), reset_probability=0.5),
    "paper: exhaustive 4": Method(starts=Critical(), search=Exhaustive(4), reset_probability=0.5, problems=0.5),
    "frontier, references": Method(starts=Frontier(), problems=0.75),
    "frontier, own": Method(starts=Frontier(sources=("success", "failure")), problems=0.75),
    "siblings' values": Method(credit=Siblings()),
    "siblings' values + outcome": Method(credit=Siblings(outcome=1.0)),
    "frontier + siblings": Method(starts=Frontier(), problems=0.75, credit=Siblings()),
    "frontier + segments": Method(starts=Frontier(("failure",)), problems=0.75, credit=Segments()),
    "oracle: first mistake": Method(starts=FirstMistake(), problems=0.75),
    "oracle: exact steps": Method(credit=None),
}


class Bench:
    """A task at its warm start."""

    def __init__(self, task: str, problems: int, train_size: int = 2048) -> None:
        torch.manual_seed(0)  # of the adapter
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        self.policy = Policy(PolicyConfig(base=f"tiny:{task}", dtype="float32", lora=lora))
        self._disturb()
        self.source: Checked = lessons()[task.rpartition("-")[0]].source
        self.source.train_size = train_size
        self.problems, self.size = list(self.source.train()), problems
        self.engine = Transformers(batch_size=256)
        self.engine.start(self.policy)

    def _disturb(self) -> None:
        """Take one small step in a random direction, without which half of an adapter's gradient is zero."""
        with torch.no_grad():
            for name, parameter in self.policy.trainable_state().items():
                if "lora_B" in name:
                    parameter += 1e-3 * torch.randn_like(parameter)

    def batch(self, method: Method, number: int) -> tuple[BatchGradient, list[RolloutTree]]:
        """The gradient of one batch of a method, and the rollouts it was made of."""
        count = max(1, round(self.size * method.problems))
        first = number * 2 * self.size % (len(self.problems) - 2 * self.size)
        plan = RolloutPlan(count, method.group, method.reset_probability, resets=method.resets)
        loop = RolloutLoop(
            self.engine,
            self.policy.tokenizer,
            self.source,
            plan,
            Sampling(max_tokens=160),
            Newline(min_tokens=1),
            method.search,
            method.selector,
            seed=number,
            starts=method.starts,
        )
        trees = loop.explore(list(islice(self.problems, first, first + count)), number).trees
        tokens = sum(len(its.tokens) - its.start for tree in trees for its in tree.samples)
        builder = PolicyGradient(credit=method.credit or Outcome())
        examples = builder.build(trees, Counter())
        if method.credit is None:
            examples = ExactSteps(self.policy, self.source).build(trees, Counter())
        return batch_gradient(self.policy, GRPO(), builder, examples, tokens), trees


def measure(task: str, methods: dict[str, Method], batches: int, problems: int) -> dict[str, Any]:
    """Every method's row for a task."""
    bench = Bench(task, problems)
    sample = bench.problems[: batches * 2 * problems][:1024]
    success = exact_success(bench.policy, bench.source, sample)
    target = success_gradient(bench.policy, bench.source, sample)
    by_id = {problem.id: float(its) for problem, its in zip(sample, success, strict=True)}
    print(f"\n{task}: success {float(success.mean()):.2%}")
    print(f"{'method':28} {'cosine':>7} {'relative efficiency':>20} {'tokens a batch':>15} {'seconds':>8}", flush=True)
    rows: dict[str, Any] = {}
    shares: list[dict[str, float]] = []
    base = 0.0
    for name, method in methods.items():
        begun = time()
        made = [bench.batch(method, number) for number in range(batches)]
        found = efficiency([gradient for gradient, _ in made], target)
        base = base or found.gain
        relative, error = found.gain / max(base, 1e-300), found.error / max(base, 1e-300)
        if name == "GRPO, groups of 8":
            trees = [tree for _, its in made for tree in its]
            shares = [vars_of(its) for its in uniform_share(trees, by_id)]
        rows[name] = vars_of(found) | {"relative": relative, "relative_error": error}
        row = f"{name:28} {found.cosine:7.3f} {relative:11.2f} ± {2 * error:4.2f} {found.tokens:17,.0f}"
        print(f"{row} {time() - begun:8.0f}", flush=True)
    for its in shares:
        print(f"  uniform groups at success {its['low']:.2f} to {its['high']:.2f}: {its['uniform']} of {its['groups']}")
    return {"success": float(success.mean()), "batches": batches, "uniform": shares, "methods": rows}


def vars_of(record: Any) -> dict[str, Any]:
    """Fields of a slotted dataclass."""
    return {name: getattr(record, name) for name in record.__slots__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--tasks", nargs="+", default=["ledger-8"], choices=warm_start_names())
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--problems", type=int, default=8, help="of a batch of groups of 8")
    options = parser.parse_args()
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"no method is called {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    old: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in options.tasks:
        found = measure(task, {name: METHODS[name] for name in options.methods}, options.batches, options.problems)
        rows = old.get(task, {}).get("methods", {}) | found["methods"]
        old[task] = found | {"methods": rows, "uniform": found["uniform"] or old.get(task, {}).get("uniform", [])}
        RESULTS.write_text(json.dumps(old, indent=1) + "\n")


if __name__ == "__main__":
    main()
