"""What a second process brings to the rollout phase: samples, searches and resets by two processes, one core each.

    python benchmarks/processes.py [--problems 32] [--repeats 3]

Two ratios, each of runs made by turns: two processes against one on one core; and, where only one of the two has
sampled anything worth a search, searches shared against searches kept. Tiny model, transformers engine. Writes
benchmarks/results/processes.json.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "processes.json"


def rank(number: int, ranks: int, port: int, problems: int, sharing: str) -> None:
    """One process: makes an iteration's rollouts when all are ready, and says how long that took."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
    import torch
    import torch.distributed as dist

    from gpo_lightning.critical import ChangePoint, MaxAdvantage, Newline
    from gpo_lightning.engines import Sampling, Transformers
    from gpo_lightning.policy import Policy, PolicyConfig
    from gpo_lightning.problems import ModularChains
    from gpo_lightning.rollouts import Alone, Dealt, Queued, RolloutLoop, RolloutPlan

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=number, world_size=ranks)
    policy, engine = Policy(PolicyConfig(base="tiny", dtype="float32", lora=None)), Transformers()
    engine.start(policy)
    engine.sync(policy, 0)
    # Chains of two steps are nearly always solved, so that rank 1 has little to search.
    source = ModularChains(steps=2 if number == 1 and sharing in ("kept", "lent") else 8, train_size=256)
    how = {"kept": Alone(), "lent": Queued(number), "dealt": Dealt(number, ranks)}.get(sharing, Alone())
    plan = RolloutPlan(group_size=8, reset_probability=1.0, resets=8)
    parts = (Newline(min_tokens=4), ChangePoint(), MaxAdvantage())
    explorer = RolloutLoop(engine, policy.tokenizer, source, plan, Sampling(96), *parts, sharing=how)
    mine = source.train()[number:problems:ranks]
    explorer.explore(source.train()[-2:], 1)
    dist.barrier()
    begin = time.perf_counter()
    made = explorer.explore(mine, 0)
    dist.barrier()
    rollouts = sum(len(tree.samples) for tree in made.trees)
    if number == 0:
        print(json.dumps({"seconds": time.perf_counter() - begin, "rollouts": rollouts}))
    dist.destroy_process_group()


def measure(ranks: int, problems: int, sharing: str) -> float:
    """Seconds of the rollout phase."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--rank"]
    numbers = [[str(each) for each in (number, ranks, port, problems)] for number in range(ranks)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([*command, *arguments, sharing], env=environment, stdout=subprocess.PIPE, text=True)
        for arguments in numbers
    ]
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("A process failed; its message is above.")
    return json.loads(said[0].splitlines()[-1])["seconds"]


def main() -> None:
    if sys.argv[1:2] == ["--rank"]:
        rank(*map(int, sys.argv[2:6]), sharing=sys.argv[6])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    settings = {"one": (1, "alone"), "two": (2, "dealt"), "kept": (2, "kept"), "lent": (2, "lent")}
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(options.repeats):
        for name, (ranks, sharing) in settings.items():
            seconds[name].append(measure(ranks, options.problems, sharing))
            print(f"{name:6}{seconds[name][-1]:8.1f} s", flush=True)
    result: dict[str, Any] = {
        "problems": options.problems,
        "seconds": seconds,
        "two_processes_over_one": median(o / t for o, t in zip(seconds["one"], seconds["two"], strict=True)),
        "shared_over_kept": median(k / t for k, t in zip(seconds["kept"], seconds["lent"], strict=True)),
    }
    print(f"Two processes are {result['two_processes_over_one']:.2f} times as fast as one, medians of paired runs.")
    print(f"Uneven: searches shared are {result['shared_over_kept']:.2f} times as fast as searches kept.")
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
