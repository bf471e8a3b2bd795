"""Four times the problems: four times the time, and no more memory.

    python benchmarks/growth.py                                     # 2,500 and 10,000 problems, 16 responses each
    python benchmarks/growth.py --engine transformers --problems 24

An iteration (sample, search, reset) is streamed to Parquet, as `RolloutLoop.stream` and `TreeWriter` do it; of each
size, in a process of its own, the peak of its resident memory and the seconds of CPU that it used are shown. `replay`
answers at once with responses that the tiny model gave before, so that what is measured is everything but the engine;
`transformers` is the tiny model itself. JSON goes to benchmarks/results.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from measuring import machine
from peft import LoraConfig

from gpo_lightning.critical import Newline
from gpo_lightning.engines import Completion, Engine, Purpose, Request, Sampling, Transformers
from gpo_lightning.engines.engine import Capabilities
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.problems import ModularChains, Problem
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan, TreeWriter

RESULTS = Path(__file__).parent / "results" / "growth.json"
QUESTIONS = 32
SAMPLING = Sampling(max_tokens=48)


class Replay(Engine):
    """Answers each prompt with one of the responses recorded for it, and each prefix with the rest of such a one.

    Args:
        recorded: completions by prompt.
    """

    def __init__(self, recorded: dict[tuple[int, ...], list[Completion]]) -> None:
        super().__init__()
        self._recorded = recorded
        self._queue: list[tuple[int, Request]] = []
        self._handle = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("replay", 1024, reproducible=True)

    def start(self, policy: Policy, seed: int = 0) -> None:
        pass

    def sync(self, policy: Policy, version: int) -> None:
        self.version = version

    def submit(self, request: Request) -> int:
        self._handle += 1
        self._queue.append((self._handle, request))
        return self._handle

    def cancel(self, handle: int) -> None:
        self._queue = [item for item in self._queue if item[0] != handle]

    def poll(self) -> list[Completion]:
        batch, self._queue = self._queue[:128], self._queue[128:]
        return [self._answer(handle, request) for handle, request in batch]

    def _answer(self, handle: int, request: Request) -> Completion:
        whole = request.prefix
        prompt = next(whole[:end] for end in range(len(whole) + 1) if whole[:end] in self._recorded)
        begun = whole[len(prompt) :]
        fitting = [each for each in self._recorded[prompt] if each.tokens[: len(begun)] == begun]
        chosen = Random(request.seed).choice(fitting)
        part = slice(len(begun), len(begun) + request.max_tokens)
        tokens, logprobs = chosen.tokens[part], chosen.logprobs[part]
        return Completion(handle, tokens, logprobs, truncated=len(tokens) < len(chosen.tokens) - len(begun))


def record(policy: Policy, problems: Sequence[Problem]) -> Replay:
    """Sixteen responses of the model to each problem."""
    engine = Transformers()
    engine.start(policy)
    prompts = [encode_prompt(problem, policy.tokenizer) for problem in problems]
    asked = [
        Request(prompt, SAMPLING.max_tokens, SAMPLING, Purpose.SAMPLE, 16 * i + k)
        for i, prompt in enumerate(prompts)
        for k in range(16)
    ]
    made = engine.generate(asked)
    recorded: dict[tuple[int, ...], list[Completion]] = {}
    for request, completion in zip(asked, made, strict=True):
        recorded.setdefault(request.prefix, []).append(completion)
    return Replay(recorded)


def one(engine_name: str, count: int) -> dict[str, float]:
    """An iteration of ``count`` problems in this process."""
    policy = Policy(PolicyConfig(base="tiny", lora=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")))
    source = ModularChains(steps=4, train_size=QUESTIONS)
    questions = source.train()[:QUESTIONS]
    engine: Engine = record(policy, questions) if engine_name == "replay" else Transformers()
    engine.start(policy)
    problems = [questions[i % QUESTIONS].again(f"{i}") for i in range(count)]
    plan = RolloutPlan(count, group_size=16, reset_probability=0.1)
    loop = RolloutLoop(engine, policy.tokenizer, source, plan, SAMPLING, Newline(min_tokens=4))
    before, samples = peak(), 0
    wall, cpu = perf_counter(), process_time()
    with TemporaryDirectory() as folder, TreeWriter(Path(folder) / "rollouts.parquet") as writer:
        for tree in loop.stream(problems, 0):
            samples += len(tree.samples)
            writer.add(tree)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    found = {"problems": count, "samples": samples, "cpu_seconds": cpu, "seconds": wall}
    return {**found, "before_mib": before, "peak_mib": peak()}


def peak() -> float:
    """MiB, of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["replay", "transformers"], default="replay")
    parser.add_argument("--problems", type=int, default=2500)
    parser.add_argument("--one", action="store_true", help="this size alone, in this process; prints JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.engine, options.problems)))
        return
    rows: list[dict[str, float]] = []
    for count in (options.problems, 4 * options.problems):
        command = [sys.executable, __file__, "--one", "--engine", options.engine, "--problems", str(count)]
        rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"{options.engine} {count:7,} problems {row['samples']:9,} responses {row['cpu_seconds']:8.1f} s of CPU "
            f"{row['seconds']:8.1f} s  peak {row['peak_mib']:7.0f} MiB, {row['before_mib']:.0f} before",
            flush=True,
        )
    times = rows[1]["cpu_seconds"] / rows[0]["cpu_seconds"]
    print(f"x 4: time x {times:.2f}, peak {rows[1]['peak_mib'] - rows[0]['peak_mib']:+.0f} MiB")
    RESULTS.parent.mkdir(exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[options.engine] = {"machine": machine(), "rows": rows, "time_x": times}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
