"""Iterations whose rollouts are made beside the training (`data.overlap: 1`), against the same in turn, by the clock.

    python benchmarks/overlap.py [--model smollm2] [--problems 8] [--tokens 48] [--iterations 4] [--rounds 2]

Plain GRPO by the real trainer and the transformers engine, one thread for each of the two; rounds in turn. What is
compared is seconds that pass for each generated token, from the beginning of one iteration's training to that of the
next. It needs two cores that nobody else uses, or a GPU for each half. Writes benchmarks/results/overlap.json.
"""

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from iteration import Setting
from lightning import Callback
from measuring import machine, ratio

from gpo_lightning import GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.critical import NoSearch
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.losses import GRPO
from gpo_lightning.rollouts import PromptOnly, RolloutPlan

RESULTS = Path(__file__).parent / "results" / "overlap.json"


class Watching(Callback):
    """When each iteration's training begins, and how many tokens it learns from."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.tokens: list[int] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.begun.append(perf_counter())
        trees = pl_module.data.rollouts.trees
        self.tokens.append(sum(len(its.tokens) - its.start for tree in trees for its in tree.samples))

    @property
    def seconds_a_token(self) -> float:
        """From the first iteration's beginning to the last one's; what they learn from was all made by then."""
        return (self.begun[-1] - self.begun[0]) / sum(self.tokens[1:])


def run(overlap: int, options: argparse.Namespace, folder: Path) -> float:
    setting, watching = Setting(options.model, options.problems, options.tokens), Watching()
    module = GPOModule(
        loss=GRPO(),
        policy=setting.config,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-5),
    )
    data = RolloutDataModule(
        problems=setting.source,
        engine=Transformers(),
        plan=RolloutPlan(setting.problems, setting.group_size, reset_probability=0.0),
        sampling=Sampling(setting.tokens),
        search=NoSearch(),
        starts=PromptOnly(),
        micro_batch=setting.micro_batch,
        overlap=overlap,
    )
    settings: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = GPOTrainer(
        max_epochs=options.iterations,
        accelerator="auto",
        devices=1,
        default_root_dir=folder,
        limit_val_batches=0,
        callbacks=[watching],
        **settings,
    )
    trainer.fit(module, data)
    return watching.seconds_a_token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {"in turn": [], "overlapping": []}
    for number in range(options.rounds):
        for overlap, name in enumerate(taken):
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(run(overlap, options, Path(folder)))
            print(f"round {number}, {name}: {1000 * taken[name][-1]:.2f} ms a token", flush=True)
    found = ratio(taken["in turn"], taken["overlapping"])
    print(f"in turn / overlapping: {found['median']} ({found['least']} to {found['most']})")
    kept = {"machine": machine(), "options": vars(options), "milliseconds": taken, "ratio": found}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
