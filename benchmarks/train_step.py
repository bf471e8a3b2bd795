"""The training step against TRL's: the same weights, tokens and loss; forward, backward and AdamW.

    uv venv /tmp/trl --python .venv/bin/python && uv pip install --python /tmp/trl/bin/python trl==1.16.0 -e .
    /tmp/trl/bin/python benchmarks/train_step.py                        # against TRL
    .venv/bin/python benchmarks/train_step.py --without-trl             # tree packing against rows by themselves

Cases: `ordinary` is groups of 8 responses of very different lengths to one prompt; `critical` is 8 continuations of 30
tokens behind a prefix of 100. Prints, and writes to benchmarks/results/train_step.json, how many times longer TRL
takes (median, least and most of interleaved rounds), loss-bearing tokens a second, and by how much memory rises.

`--model` is `smollm2` or `tiny`, or a shape with random weights: `qwen2.5-1.5b`, `qwen2.5-7b`. `--layers 6` keeps the
first six layers of it, for machines that have other things to do. `--groups 8 --micro_tokens 512 2048` also
cuts the step into passes of so many tokens, and of 8 examples.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from measuring import interleaved, machine, peak_rise, ratio
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from gpo_lightning.experience import Row
from gpo_lightning.experience.actions import ActionExample
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.labelled import LabelledExample
from gpo_lightning.experience.preference import PairExample
from gpo_lightning.losses import DPO, GRPO, KTO, Loss
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.base import load_model, load_tokenizer
from gpo_lightning.training import Scorer, TrainingStep, make_batches

RESULTS = Path(__file__).parent / "results" / "train_step.json"
LOSSES: dict[str, Loss] = {"grpo": GRPO(), "dpo": DPO(), "kto": KTO()}
PACKINGS = {"tree": "tree", "padded": "none"}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
    },
    "qwen2.5-7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}


def rows_of(case: str, groups: int, draw: random.Random) -> list[Row]:
    """``groups`` times 8 responses."""
    rows: list[Row] = []
    for _ in range(groups):
        prompt = 100 if case == "critical" else draw.randint(40, 80)
        context = tuple(draw.randrange(100, 190) for _ in range(prompt))
        for _ in range(8):
            length = 30 if case == "critical" else min(120, max(10, round(draw.lognormvariate(3.8, 0.6))))
            rows.append(Row(context, tuple(draw.randrange(100, 190) for _ in range(length)), (-1.0,) * length))
    return rows


def examples_of(loss: str, rows: Sequence[Row]) -> list[Example]:
    match loss:
        case "grpo":
            return [ActionExample(row, ((-1.0) ** i,) * len(row.actions), 0.0, i // 8) for i, row in enumerate(rows)]
        case "dpo":
            return [PairExample(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        case _:
            others = [*rows[8:], *rows[:8]]
            pairs = zip(rows, others, strict=True)
            return [LabelledExample(a, i % 2 == 0, Row(a.context, b.actions)) for i, (a, b) in enumerate(pairs)]


@dataclass(frozen=True)
class Setting:
    """What is measured, and on what."""

    base: str
    loss: str
    case: str
    dtype: str
    groups: int
    checkpointing: bool

    @property
    def lora(self) -> LoraConfig:
        return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")

    @property
    def examples(self) -> list[Example]:
        return examples_of(self.loss, rows_of(self.case, self.groups, random.Random(0)))

    @property
    def config(self) -> PolicyConfig:
        return PolicyConfig(
            base=self.base, lora=self.lora, dtype=cast(Any, self.dtype), gradient_checkpointing=self.checkpointing
        )


def ours(
    setting: Setting, packing: str, micro_batch: int | None = None, micro_tokens: int | None = None
) -> Callable[[], object]:
    """One optimiser step of this trainer, in one pass or in passes of so many examples or tokens."""
    policy = Policy(replace(setting.config, packing=cast(Any, packing))).to(_device())
    loss = LOSSES[setting.loss]
    builder = loss.default_experience()
    examples = setting.examples
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-5)
    scorer = Scorer(policy, loss, 1.0)
    step = TrainingStep(scorer, loss, parameters)
    size = micro_batch or len(examples)
    batches = make_batches(examples, builder, scorer, size, -(-len(examples) // size), micro_tokens=micro_tokens)

    def run() -> None:
        for batch in batches:
            step.backward(step.forward(batch.to(_device())))
            step.judge()
        step.close(0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def theirs(setting: Setting) -> Callable[[], object]:
    """One optimiser step of TRL: its trainer's loss on its collator's tensors."""
    trainer = _trainer(setting)
    inputs = {key: value.to(_device()) for key, value in _trl_inputs(setting, trainer).items()}
    model = trainer.model.train()
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], 1e-5)

    def run() -> None:
        loss = trainer.compute_loss(model, dict(inputs))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def _trainer(setting: Setting) -> Any:
    import trl
    from datasets import Dataset

    model = get_peft_model(load_model(setting.config), setting.lora)
    common = {
        "output_dir": tempfile.mkdtemp(),
        "report_to": "none",
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": setting.checkpointing,
        "per_device_train_batch_size": 8,
        "bf16": False,
    }
    tokenizer = load_tokenizer(setting.config)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    data: dict[str, dict[str, list[Any]]] = {
        "grpo": {"prompt": ["?"] * 8},
        "dpo": {"prompt": ["?"] * 8, "chosen": ["a"] * 8, "rejected": ["b"] * 8},
        "kto": {"prompt": ["?"] * 8, "completion": ["a"] * 8, "label": [True, False] * 4},
    }
    given = {"model": model, "processing_class": tokenizer, "train_dataset": Dataset.from_dict(data[setting.loss])}
    match setting.loss:
        case "grpo":
            args = trl.GRPOConfig(**common, num_generations=8, beta=0.0, loss_type="grpo")
            return trl.GRPOTrainer(args=args, reward_funcs=lambda completions, **_: [0.0] * len(completions), **given)
        case "dpo":
            return trl.DPOTrainer(args=trl.DPOConfig(**common), **given)
        case _:
            return trl.KTOTrainer(args=trl.KTOConfig(**common), **given)


def _trl_inputs(setting: Setting, trainer: Any) -> dict[str, Any]:
    examples = cast(list[Any], setting.examples)
    if setting.loss == "dpo":
        return trainer.data_collator([
            {
                "prompt_ids": list(e.chosen.context),
                "chosen_ids": list(e.chosen.actions),
                "rejected_ids": list(e.rejected.actions),
            }
            for e in examples
        ])  # fmt: skip
    if setting.loss == "kto":
        return trainer.data_collator([
            {
                "prompt_ids": list(e.row.context),
                "completion_ids": list(e.row.actions),
                "KL_completion_ids": list(e.mismatched.actions),
                "label": e.right,
            }
            for e in examples
        ])  # fmt: skip
    from trl.trainer.utils import pad

    sides = {"prompt": [e.row.context for e in examples], "completion": [e.row.actions for e in examples]}
    inputs: dict[str, Any] = {"advantages": torch.tensor([e.advantages[0] for e in examples])}
    for name, side in sides.items():
        where = "left" if name == "prompt" else "right"
        inputs[f"{name}_ids"] = pad([torch.tensor(ids) for ids in side], 0, where)
        inputs[f"{name}_mask"] = pad([torch.ones(len(ids), dtype=torch.long) for ids in side], 0, where)
    trainer.current_gradient_accumulation_steps = 1
    return inputs


def measure(setting: Setting, rounds: int, with_trl: bool, budgets: Sequence[int]) -> dict[str, Any]:
    runs = {"tree": ours(setting, "tree"), "padded": ours(setting, "none")}
    if with_trl:
        runs["trl"] = theirs(setting)
    if budgets:
        runs |= {f"{packing}, 8 examples": ours(setting, kind, 8) for packing, kind in PACKINGS.items()}
    for most in budgets:
        runs |= {f"{packing}, {most} tokens": ours(setting, kind, None, most) for packing, kind in PACKINGS.items()}
    memory = {name: round(peak_rise(run)) for name, run in runs.items()}
    taken = interleaved(runs, rounds)
    tokens = sum(example.tokens for example in setting.examples)
    against = "trl" if with_trl else "padded"
    return {
        "loss": setting.loss,
        "case": setting.case,
        "against": against,
        "ratio": {name: ratio(taken[against], taken[name]) for name in runs if name != against},
        "tokens_per_second": {name: round(tokens / sorted(times)[len(times) // 2], 1) for name, times in taken.items()},
        "memory_rise_mib": memory,
    }


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _base(name: str, layers: int | None) -> str:
    """The model's directory; of its first layers alone, or of random weights, in a folder made for it."""
    folder = Path(tempfile.gettempdir()) / f"gpo-{name}-{layers}"
    if layers is None and name not in SHAPES:
        return name
    if not folder.exists():
        tokenizer = load_tokenizer(PolicyConfig(base="tiny" if name in SHAPES else name))
        if name in SHAPES:
            config = Qwen2Config(**SHAPES[name], vocab_size=151_936, num_key_value_heads=4, tie_word_embeddings=False)
            with torch.device(_device()):
                model = Qwen2ForCausalLM(config).bfloat16()
        else:
            model = load_model(PolicyConfig(base=name, dtype="float32"))
        if layers is not None:
            cast(Any, model).model.layers = model.model.layers[:layers]
            model.config.num_hidden_layers = layers
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(options).items() if key != "results"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layers", type=int, help="keep only the first layers of the model")
    parser.add_argument("--losses", nargs="*", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--cases", nargs="*", choices=["ordinary", "critical"], default=["ordinary", "critical"])
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--without-trl", action="store_true")
    parser.add_argument("--micro_tokens", nargs="*", type=int, default=[], help="budgets by which to cut the step, too")
    options = parser.parse_args()
    torch.set_flush_denormal(True)  # a model that is cut short has odd probabilities; on a CPU tiny numbers take ages
    with_trl = not options.without_trl and find_spec("trl") is not None
    if not (with_trl or options.without_trl):
        print(
            "TRL is not installed here, so tree packing is compared with rows by themselves; see the top of this file."
        )
    base, rows = _base(options.model, options.layers), list[dict[str, Any]]()
    for case in options.cases:
        for loss in options.losses:
            setting = Setting(base, loss, case, options.dtype, options.groups, options.checkpointing)
            rows.append(measure(setting, options.rounds, with_trl, options.micro_tokens))
            print(json.dumps(rows[-1]), flush=True)
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(
        json.dumps({"machine": machine(), "settings": _plain(options), "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
