"""The rollout phase against a bare engine, and engines side by side on the same requests.

    python benchmarks/rollouts.py                       # the embedded tiny model
    python benchmarks/rollouts.py --model smollm2 --problems 8 --rounds 1 --engines vllm

`phase`: an iteration's rollouts (`RolloutLoop`), then the requests it made once more, all at once, without anything
around the engine. Shown are tokens per second of the one over the other, the share of the phase with fewer than a
quarter of the engine's slots busy, and the in-flight curve. `sample`, `probe`: both engines on the same requests,
samples from the prompt and probes that share long prefixes; `engine: auto` follows what these show for a CPU.

All is interleaved in one run; JSON goes to benchmarks/results.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import psutil
from measuring import machine, ratio
from peft import LoraConfig

from gpo_lightning.critical import Newline
from gpo_lightning.engines import VLLM, Completion, Engine, Purpose, Request, Sampling, Transformers
from gpo_lightning.engines.engine import Capabilities
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.problems import ChainSum, ModularChains, ProblemSource
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results" / "rollouts.json"
CURVE = 20


class Metered(Engine):
    """Stands in front of an engine, and notes how much is in flight and what was asked."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.ledger = engine, engine.ledger
        self.forget()

    def forget(self) -> None:
        self.waiting: dict[int, Request] = {}
        self.answered: list[Request] = []
        self.tokens = 0
        self.changes: list[tuple[float, int]] = []

    def _note(self) -> None:
        self.changes.append((perf_counter(), len(self.waiting)))

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    def start(self, policy: Policy, seed: int = 0) -> None:
        self.engine.start(policy, seed)

    def sync(self, policy: Policy, version: int) -> None:
        self.engine.sync(policy, version)
        self.version = version

    def submit(self, request: Request) -> int:
        handle = self.engine.submit(request)
        self.waiting[handle] = request
        self._note()
        return handle

    def poll(self) -> list[Completion]:
        made = self.engine.poll()
        self.answered += [self.waiting.pop(completion.handle) for completion in made]
        self.tokens += sum(len(completion.tokens) for completion in made)
        self._note()
        return made

    def cancel(self, handle: int) -> None:
        self.engine.cancel(handle)
        del self.waiting[handle]
        self._note()


def shares(changes: "Sequence[tuple[float, int]]", slots: int) -> tuple[float, list[float]]:
    """Share of the time with fewer than a quarter of the slots busy, and the mean in flight in each twentieth of it."""
    begin, whole = changes[0][0], changes[-1][0] - changes[0][0]
    busy = min(slots, max(count for _, count in changes)) / 4
    idle, curve = 0.0, [0.0] * CURVE
    for (since, count), (until, _) in pairwise(changes):
        idle += (until - since) * (count < busy)
        for place in range(CURVE):
            low, high = begin + whole * place / CURVE, begin + whole * (place + 1) / CURVE
            curve[place] += max(0.0, min(until, high) - max(since, low)) * count * CURVE / whole
    return idle / whole, curve


def processor_seconds() -> float:
    """Of this process and those it has started."""
    here = psutil.Process()
    every = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(times.user + times.system for times in every)


def problems(model: str) -> ProblemSource:
    return ModularChains(steps=8) if model == "tiny" else ChainSum()


def phase(policy: Policy, engine: Engine, slots: int, options: argparse.Namespace) -> dict[str, Any]:
    """An iteration's rollouts and the same requests bare, in turn."""
    metered, source = Metered(engine), problems(options.model)
    plan = RolloutPlan(options.problems, group_size=8, reset_probability=1.0)
    loop = RolloutLoop(metered, policy.tokenizer, source, plan, Sampling(options.tokens), Newline(min_tokens=4))
    taken: dict[str, list[float]] = {name: [] for name in ("inside", "bare", "inside_cpu", "bare_cpu", "idle")}
    curve: list[float] = []
    for number in range(options.rounds + 1):
        metered.sync(policy, number)
        metered.forget()
        begin, cpu = perf_counter(), processor_seconds()
        loop.explore(source.train()[: options.problems], 0)
        taken["inside"].append((perf_counter() - begin) / metered.tokens)
        taken["inside_cpu"].append((processor_seconds() - cpu) / metered.tokens)
        idle, curve = shares(metered.changes, slots)
        taken["idle"].append(idle)
        engine.sync(policy, number)
        begin, cpu = perf_counter(), processor_seconds()
        made = engine.generate(metered.answered)
        drawn = sum(len(completion.tokens) for completion in made)
        taken["bare"].append((perf_counter() - begin) / drawn)
        taken["bare_cpu"].append((processor_seconds() - cpu) / drawn)
    taken = {name: values[1:] for name, values in taken.items()}  # the first round is cold
    return {
        "requests": len(metered.answered),
        "tokens": metered.tokens,
        "slots": slots,
        "tokens_per_second": 1 / median(taken["inside"]),
        "inside_over_bare": ratio(taken["bare"], taken["inside"]),
        "inside_over_bare_cpu": ratio(taken["bare_cpu"], taken["inside_cpu"]),
        "idle_share": sorted(taken["idle"]),
        "in_flight": [round(count, 1) for count in curve],
    }


def requests(policy: Policy, model: str, prompts: int, tokens: int) -> dict[str, list[Request]]:
    """``sample``: groups of 8 from each prompt; ``probe``: 4 continuations from every eighth token of one response."""
    heads = [encode_prompt(problem, policy.tokenizer) for problem in problems(model).train()[:prompts]]
    draw, made = Sampling(tokens), dict[str, list[Request]]()
    made["sample"] = [
        Request(head, tokens, draw, Purpose.SAMPLE, 8 * i + k) for i, head in enumerate(heads) for k in range(8)
    ]
    bodies = [head + head for head in heads]
    made["probe"] = [
        Request(body[: len(head) + cut], tokens // 2, draw, Purpose.PROBE, cut + k)
        for head, body in zip(heads, bodies, strict=True)
        for cut in range(0, len(head), 8)
        for k in range(4)
    ]
    return made


def speed(engine: Engine, asked: list[Request]) -> float:
    """Generated tokens per second."""
    begin = perf_counter()
    made = engine.generate(asked)
    return sum(len(completion.tokens) for completion in made) / (perf_counter() - begin)


def side_by_side(policy: Policy, engines: dict[str, Engine], options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for work, asked in requests(policy, options.model, options.problems, options.tokens).items():
        found: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(options.rounds + 1):
            for name, engine in engines.items():
                found[name].append(speed(engine, asked))
        speeds = {name: median(values[1:]) for name, values in found.items()}
        ratios = sorted(v / t for v, t in zip(found["vllm"][1:], found["transformers"][1:], strict=True))
        rows.append({"work": work, "requests": len(asked), **speeds, "ratio": ratios})
        print(
            f"{work:7s} {len(asked):4d} requests  transformers {speeds['transformers']:8,.0f} tokens/s  "
            f"vllm {speeds['vllm']:8,.0f} tokens/s  vllm/transformers {median(ratios):.2f} "
            f"({ratios[0]:.2f}-{ratios[-1]:.2f})",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "smollm2"], default="tiny")
    parser.add_argument("--engines", nargs="+", choices=["transformers", "vllm"], default=["transformers", "vllm"])
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--slots", type=int, default=64, help="continuations that an engine works on at once")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = Policy(PolicyConfig(base=options.model, lora=lora))
    every: dict[str, Engine] = {
        "transformers": Transformers(batch_size=options.slots),
        "vllm": VLLM(options={"max_num_seqs": options.slots}),
    }
    engines = {name: every[name] for name in options.engines}
    started: dict[str, float] = {}
    for name, engine in engines.items():
        begin = perf_counter()
        engine.start(policy)
        engine.sync(policy, 0)
        started[name] = perf_counter() - begin
    phases: dict[str, Any] = {}
    for name, engine in engines.items():
        phases[name] = found = phase(policy, engine, options.slots, options)
        print(
            f"phase   {found['requests']:4d} requests  {name:12s} {found['tokens_per_second']:8,.0f} tokens/s  "
            f"inside/bare {found['inside_over_bare']['median']:.2f} "
            f"(CPU seconds {found['inside_over_bare_cpu']['median']:.2f})  "
            f"idle {100 * median(found['idle_share']):.0f} %  in flight {found['in_flight']}",
            flush=True,
        )
    rows = side_by_side(policy, engines, options) if len(engines) == 2 else []
    print("start: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in started.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[options.model] = {"machine": machine(), "load": psutil.getloadavg(), "start": started}
    kept[options.model] |= {"phase": phases, "rows": rows}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    for engine in engines.values():
        engine.shutdown()


if __name__ == "__main__":
    main()
