"""Engines side by side on the same requests: samples from the prompt, then probes that share long prefixes.

    python benchmarks/rollouts.py                       # the embedded tiny model
    python benchmarks/rollouts.py --model smollm2 --prompts 8 --rounds 1

Prints tokens per second of each engine and their ratio, interleaved in one run, and writes JSON to benchmarks/results.
`engine: auto` follows what this shows for a CPU.
"""

import argparse
import json
import platform
from pathlib import Path
from statistics import median
from time import perf_counter

from peft import LoraConfig

from gpo_lightning.engines import VLLM, Engine, Purpose, Request, Sampling, Transformers
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.problems import ChainSum, ModularChains
from gpo_lightning.problems.prompting import encode_prompt

RESULTS = Path(__file__).parent / "results" / "rollouts.json"


def requests(policy: Policy, model: str, prompts: int, tokens: int) -> dict[str, list[Request]]:
    """``sample``: groups of 8 from each prompt; ``probe``: 4 continuations from every eighth token of one response."""
    source = ModularChains(steps=8) if model == "tiny" else ChainSum()
    heads = [encode_prompt(problem, policy.tokenizer) for problem in source.train()[:prompts]]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "smollm2"], default="tiny")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = Policy(PolicyConfig(base=options.model, lora=lora))
    engines: dict[str, Engine] = {"transformers": Transformers(), "vllm": VLLM()}
    started: dict[str, float] = {}
    for name, engine in engines.items():
        begin = perf_counter()
        engine.start(policy)
        engine.sync(policy, 0)
        started[name] = perf_counter() - begin
    rows: list[dict[str, object]] = []
    for work, asked in requests(policy, options.model, options.prompts, options.tokens).items():
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
            f"({ratios[0]:.2f}-{ratios[-1]:.2f})"
        )
    print("start: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in started.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[options.model] = {"machine": platform.processor() or platform.machine(), "start": started, "rows": rows}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    engines["vllm"].shutdown()


if __name__ == "__main__":
    main()
