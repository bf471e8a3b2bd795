"""What a search costs outside the engine, by its steps: the strategy's arithmetic, and the loop's bookkeeping.

    python benchmarks/search_cost.py [--steps 8 16 32 64 128 256] [--together 1 16] [--strategies change_point]

*Arithmetic*: simulated trajectories (``benchmarks/search/profiles.py``) searched side by side; milliseconds of CPU and
sequential rounds for each. *Bookkeeping*: the rollout loop with an engine that answers at once; what the loop itself
takes a searched trajectory. Prints both and writes JSON to benchmarks/results.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

import torch

from gpo_lightning.critical import Bisect, ChangePoint, Exhaustive, MaxAdvantage, Newline, SearchStrategy
from gpo_lightning.engines import Completion, Purpose, Request, Sampling, Scripted
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.rewards import Grader, MarkedAnswer
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan

sys.path.insert(0, str(Path(__file__).parent / "search"))
import profiles  # pyright: ignore[reportMissingImports]

RESULTS = Path(__file__).parent / "results" / "search_cost.json"
STRATEGIES: dict[str, SearchStrategy] = {
    "change_point": ChangePoint(),
    "exhaustive 4": Exhaustive(4),
    "bisect 16": Bisect(16),
}
_LINE = 4
"""Tokens of a step."""
_END, _NEWLINE, _WORD, _RIGHT, _WRONG = range(5)


def arithmetic(strategy: SearchStrategy, steps: int, together: int, seconds: float) -> dict[str, float]:
    """Milliseconds of CPU and rounds a trajectory; repeated until ``seconds`` are spent."""
    spent, trajectories, rounds, probes = 0.0, 0, 0, 0
    while trajectories == 0 or spent < seconds:
        searching = made = profiles.simulated("several_pivots", steps, together, seed=trajectories + 3)
        while searching:
            states = [trajectory.state for trajectory in searching]
            begin = process_time()
            targets = strategy.targets(states, MaxAdvantage())
            spent += process_time() - begin
            searching = [t for t, target in zip(searching, targets, strict=True) if t.probe_up_to(target)]
            rounds += len(searching)
        states = [trajectory.state for trajectory in made]
        begin = process_time()
        strategy.values(states)
        strategy.critical(states, MaxAdvantage(), [Random(0)] * together)
        spent += process_time() - begin
        trajectories += together
        probes += sum(len(seen) for trajectory in made for seen in trajectory.rewards) - profiles.SIBLINGS * together
    return {"ms": 1000 * spent / trajectories, "rounds": rounds / trajectories, "probes": probes / trajectories}


class Words:
    """A tokenizer of five words."""

    texts = ("", "\n", "word ", "#1", "#0")
    chat_template = None
    name_or_path = "words"

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [_WORD] * len(text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(self.texts[i] for i in ids)


class Questions(ProblemSource):
    """Problems whose answer is 1."""

    def __init__(self, count: int) -> None:
        self.count = count

    def train(self) -> list[Problem]:
        return [Problem(f"p{i}", "words", "1", prompt="?") for i in range(self.count)]

    def heldout(self) -> list[Problem]:
        return []

    @property
    def grader(self) -> Grader:
        return MarkedAnswer("#")


class Instant(Scripted):
    """Writes lines of four words, and a right answer half of the time; notes how long it took."""

    def __init__(self, steps: int) -> None:
        super().__init__(lambda prefix: {}, eos=_END)
        self.length, self.seconds = (steps - 1) * _LINE, 0.0

    def poll(self) -> list[Completion]:
        begin = perf_counter()
        batch = [self._queue.popleft() for _ in range(min(32, len(self._queue)))]
        made = [self._complete(handle, request) for handle, request in batch]
        for (_, request), completion in zip(batch, made, strict=True):
            self.ledger.book(request, completion)
        self.seconds += perf_counter() - begin
        return made

    def _complete(self, handle: int, request: Request) -> Completion:
        begin = len(request.prefix) - 1
        tokens = [_NEWLINE if place % _LINE == _LINE - 1 else _WORD for place in range(begin, self.length)]
        tokens += [Random(request.seed).choice((_RIGHT, _WRONG)), _END]
        return Completion(handle, tuple(tokens), (-0.5,) * len(tokens), truncated=False)


def bookkeeping(strategy: SearchStrategy, steps: int, problems: int) -> dict[str, float]:
    """Milliseconds a searched trajectory that pass outside the engine, all phases together."""
    engine, source = Instant(steps), Questions(problems)
    loop = RolloutLoop(
        engine,
        Words(),  # pyright: ignore[reportArgumentType]
        source,
        RolloutPlan(problems=problems, group_size=8, reset_probability=1.0),
        Sampling(max_tokens=steps * _LINE + 8),
        Newline(min_tokens=1, max_steps=steps),
        strategy,
    )
    begin = perf_counter()
    made = loop.explore(source.train(), 0)
    seconds = perf_counter() - begin - engine.seconds
    searched = sum(len(tree.curves) for tree in made.trees)
    samples = sum(sample.purpose is Purpose.PROBE for tree in made.trees for sample in tree.samples)
    return {"ms": 1000 * seconds / searched, "probes": samples / searched}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--together", type=int, nargs="+", default=[1, 16], help="trajectories searched side by side")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--seconds", type=float, default=2.0, help="least CPU time of each figure")
    parser.add_argument("--problems", type=int, default=16, help="searched by the rollout loop at once")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    print(f"{'strategy':14}{'steps':>6}{'side by side':>14}{'ms':>10}{'rounds':>8}{'probes':>8}{'loop, ms':>10}")
    for name in options.strategies:
        strategy = STRATEGIES[name]
        strategy.targets([profiles.simulated("flat", 4, 1, 0)[0].state], MaxAdvantage())  # warm
        for steps in options.steps:
            loop = bookkeeping(strategy, steps, options.problems)
            for together in options.together:
                found = arithmetic(strategy, steps, together, options.seconds)
                rows.append({"strategy": name, "steps": steps, "together": together, **found, "loop_ms": loop["ms"]})
                print(
                    f"{name:14}{steps:6}{together:14}{found['ms']:10.1f}{found['rounds']:8.1f}{found['probes']:8.0f}"
                    f"{loop['ms']:10.1f}",
                    flush=True,
                )
    options.output.parent.mkdir(exist_ok=True)
    machine = platform.processor() or platform.machine()
    options.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
