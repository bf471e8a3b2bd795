"""One of two ranks that explore together (`python -m tests.rollouts.two_ranks RANK PORT static`); prints its trees.

Rank 0's problems are worth a search, rank 1's are not: the policy always solves them.
"""

import json
import sys
from collections.abc import Mapping

import torch.distributed as dist

from gpo_lightning.critical import Exhaustive, MaxAdvantage, Newline
from gpo_lightning.engines import Purpose, Sampling, Scripted
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan
from gpo_lightning.rollouts.work_queue import dynamic_balance, static_balance
from tests.rollouts.test_loop import EOS, LINES, Pivots, Words, pivot_policy

EASY = 8
COUNT = 12


def policy(tokens: tuple[int, ...]) -> Mapping[int, float]:
    if tokens[0] != EASY:
        return pivot_policy(tokens)
    written = len(tokens) - 1
    return {3: 1.0} if written < LINES else {6: 1.0} if written == LINES else {EOS: 1.0}


def main(rank: int, port: str, how: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    balance = static_balance(rank, 2) if how == "static" else dynamic_balance(rank, room=8)
    plan = RolloutPlan(group_size=8, reset_probability=1.0, resets=24)
    parts = (Newline(min_tokens=1), Exhaustive(4), MaxAdvantage())
    engine = Scripted(policy, eos=EOS, context=100)
    loop = RolloutLoop(engine, Words(), Pivots(), plan, Sampling(20), *parts, balance=balance)  # type: ignore[arg-type]
    prompt = "?" if rank == 0 else "row\n"
    found: list[list[str]] = []
    for iteration in range(2):
        problems = [Problem(f"{rank}-{iteration}-{i}", "pivot", "1", prompt=prompt) for i in range(COUNT)]
        trees = loop.explore(problems, iteration).trees
        for tree in trees:
            resets = sum(sample.purpose is Purpose.RESET for sample in tree.samples)
            found.append([tree.problem.id, str(len(tree.curves)), str(resets > 0)])
    print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
