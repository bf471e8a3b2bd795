"""A whole iteration (generate, grade, learn) against TRL's GRPOTrainer, and against GPO written straight down.

    python -m pip install --no-deps --target /tmp/trl trl==1.16.0
    PYTHONPATH=/tmp/trl python benchmarks/iteration.py                   # SmolLM2, against TRL and naive GPO
    python benchmarks/iteration.py --model tiny --only gpo naive         # without TRL

`grpo` and `trl` make one iteration of plain GRPO; `gpo` and `naive` one of GPO, with critical steps found by the
default search, and by the paper's four continuations before every step. All have the same weights, prompts, group
sizes and limits, generate by transformers, and are paid for even digits, so that every group teaches. Interleaved
rounds; what is compared is seconds of the process for each token that is learnt from. `glue` is the share of our
iteration outside generation, forward and backward passes.
Writes benchmarks/results/iteration.json.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count, pairwise
from pathlib import Path
from typing import Any, cast

import torch
from measuring import machine, ratio, seconds
from peft import LoraConfig, get_peft_model
from torch import Tensor

from gpo_lightning.critical import ChangePoint, FixedLength, Newline, Segmenter
from gpo_lightning.critical.search import NoSearch
from gpo_lightning.critical.token_text import token_pieces
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.experience import PolicyGradient
from gpo_lightning.losses import GRPO
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.base import load_model, load_tokenizer
from gpo_lightning.problems import ChainSum, ModularChains, Problem, ProblemSource
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.problems.rewarded import judged
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan
from gpo_lightning.training import Scorer, TrainingStep, make_batches

RESULTS = Path(__file__).parent / "results" / "iteration.json"
RATE = 1e-5


def even_digits(completion: str, **_: Any) -> float:
    """The share of a response's digits that are even: hardly ever the same throughout a group."""
    digits = [letter for letter in completion if letter in "0123456789"]
    return sum(int(digit) % 2 == 0 for digit in digits) / len(digits) if digits else 0.0


@dataclass(frozen=True)
class Setting:
    """What is measured, and on what."""

    base: str
    problems: int
    tokens: int
    group_size: int = 8
    resets: int = 8
    micro_batch: int = 16

    @property
    def config(self) -> PolicyConfig:
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        return PolicyConfig(base=self.base, lora=lora, dtype="float32")

    @property
    def source(self) -> ProblemSource:
        return judged(ModularChains(steps=8) if self.base == "tiny" else ChainSum(terms=4), even_digits)

    @property
    def segmenter(self) -> Segmenter:
        """Lines, of which a model that has not learnt the task writes none."""
        return Newline(min_tokens=4) if self.base == "tiny" else FixedLength(8)


@dataclass
class Learnt:
    """What an iteration came to: tokens that bore loss, tokens generated, and seconds inside engine and passes."""

    learnt: int = 0
    generated: int = 0
    inside: float = 0.0


Iteration = Callable[[], Learnt]


@dataclass
class _Inside:
    """Adds up the seconds of calls that are not glue."""

    spent: float = 0.0

    def watch(self, thing: object, *names: str) -> None:
        for name in names:
            setattr(thing, name, self._watched(getattr(thing, name)))

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            out: list[Any] = []
            self.spent += seconds(lambda: out.append(call(*args, **kwargs)))
            return out[0]

        return watched


def ours(setting: Setting, search: bool) -> Iteration:
    """An iteration of this trainer, of GPO or of plain GRPO, with the parts that `gpo fit` has."""
    policy = Policy(setting.config).to(_device())
    engine, source, loss, inside = Transformers(batch_size=256), setting.source, GRPO(), _Inside()
    # Like the naive one, it searches in every problem, whatever its responses came to.
    plan = RolloutPlan(setting.problems, setting.group_size, float(search), mixed_only=False, resets=setting.resets)
    loop = RolloutLoop(
        engine,
        policy.tokenizer,
        source,
        plan,
        Sampling(setting.tokens),
        segmenter=setting.segmenter,
        search=ChangePoint() if search else NoSearch(),
    )
    builder, scorer = PolicyGradient(), Scorer(policy, loss, 1.0)
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer, step = torch.optim.AdamW(parameters, RATE), TrainingStep(scorer, loss, parameters)
    inside.watch(engine, "poll", "sync")
    inside.watch(step, "forward", "backward")
    inside.watch(optimizer, "step")
    problems, numbers = source.train(), count()

    def run() -> Learnt:
        number, before = next(numbers), inside.spent
        rollouts = loop.run(policy, problems[: setting.problems], number)
        generated = sum(len(s.tokens) - s.start for tree in rollouts.trees for s in tree.samples)
        examples = builder.build(rollouts.trees, rollouts.counts)
        cuts = max(1, -(-len(examples) // setting.micro_batch))
        for batch in make_batches(examples, builder, scorer, setting.micro_batch, cuts):
            step.backward(step.forward(batch.to(policy.device)))
            step.judge()
        step.close(number)
        optimizer.step()
        optimizer.zero_grad()
        return Learnt(sum(example.tokens for example in examples), generated, inside.spent - before)

    return run


def trl(setting: Setting) -> Iteration:
    """An iteration of TRL's GRPOTrainer: its own generation, rewards and loss."""
    import trl as library  # pyright: ignore[reportMissingImports]
    from datasets import Dataset

    source = setting.source
    problems = source.train()[: setting.problems]
    tokenizer = load_tokenizer(setting.config)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    prompts = [str(tokenizer.decode(list(encode_prompt(problem, tokenizer)))) for problem in problems]
    by_prompt, learnt = dict(zip(prompts, problems, strict=True)), Learnt()

    def reward(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        learnt.learnt = learnt.generated = sum(map(len, completion_ids))
        asked = [by_prompt[prompt] for prompt in prompts]
        return [grade.reward or 0.0 for grade in source.grade_all(list(zip(asked, completions, strict=True)))]

    cuts = setting.problems * setting.group_size // setting.micro_batch
    args = library.GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        per_device_train_batch_size=setting.micro_batch,
        gradient_accumulation_steps=cuts,
        steps_per_generation=cuts,
        num_generations=setting.group_size,
        max_completion_length=setting.tokens,
        gradient_checkpointing=False,
        beta=0.0,
        loss_type="grpo",
    )
    trainer: Any = library.GRPOTrainer(
        model=cast(Any, get_peft_model(load_model(setting.config), cast(Any, setting.config.lora))),
        args=args,
        reward_funcs=reward,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
    )
    trainer.current_gradient_accumulation_steps = cuts
    model = trainer.model.train()
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], RATE)

    def run() -> Learnt:
        batch = [{"prompt": prompt} for prompt in prompts for _ in range(setting.group_size)]
        for _ in range(cuts):
            inputs = trainer._prepare_inputs(batch)
            trainer.compute_loss(model, inputs).backward()
            trainer._step += 1
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return Learnt(learnt.learnt, learnt.generated)

    return run


class Naive:
    """GPO as one writes it down at first: a call of ``generate`` for each prefix, rows padded, whole logits."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.source = setting, setting.source
        self.tokenizer = load_tokenizer(setting.config)
        self.model: Any = get_peft_model(load_model(setting.config), cast(Any, setting.config.lora)).to(_device())
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, RATE)
        self.problems = self.source.train()[: setting.problems]
        self.learnt = Learnt()

    def __call__(self) -> Learnt:
        self.learnt = Learnt()
        groups = [group for problem in self.problems for group in self.rollouts(problem)]
        self.learn(groups)
        return self.learnt

    def rollouts(self, problem: Problem) -> list[tuple[tuple[int, ...], list[tuple[int, ...]], Tensor]]:
        """The group at the prompt and the one at the critical step: where it starts, its continuations, rewards."""
        prompt = encode_prompt(problem, self.tokenizer)
        group = self.continue_(prompt, self.setting.group_size)
        rewards = self.rewards(problem, [()] * len(group), group)
        response = group[0]
        boundaries = self.setting.segmenter.boundaries(token_pieces(self.tokenizer, response))
        values = [float(rewards.mean())]
        for boundary in boundaries[1:-1]:
            probes = self.continue_(prompt + response[:boundary], 4)
            values.append(float(self.rewards(problem, [response[:boundary]] * 4, probes).mean()))
        values.append(float(rewards[0]))
        drops = [after - before for before, after in pairwise(values)]
        prefix = response[: boundaries[max(range(len(drops)), key=drops.__getitem__)]]
        again = self.continue_(prompt + prefix, self.setting.resets)
        return [
            (prompt + prefix, again, self.rewards(problem, [prefix] * len(again), again)),
            (prompt, group, rewards),
        ]

    @torch.no_grad()
    def continue_(self, prefix: Sequence[int], times: int) -> list[tuple[int, ...]]:
        ids = torch.tensor([list(prefix)], device=_device())
        rows = self.model.eval().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            num_return_sequences=times,
            max_new_tokens=self.setting.tokens,
            pad_token_id=self.tokenizer.eos_token_id,
        )
        ends = self.tokenizer.eos_token_id
        drawn = rows[:, len(prefix) :].tolist()
        found = [tuple(row[: row.index(ends) + 1] if ends in row else row) for row in drawn]
        self.learnt.generated += sum(map(len, found))
        return found

    def rewards(self, problem: Problem, before: Sequence[tuple[int, ...]], after: Sequence[tuple[int, ...]]) -> Tensor:
        whole = [list(a + b) for a, b in zip(before, after, strict=True)]
        texts = [str(self.tokenizer.decode(ids, skip_special_tokens=True)) for ids in whole]
        grades = self.source.grade_all([(problem, text) for text in texts])
        return torch.tensor([grade.reward or 0.0 for grade in grades])

    def learn(self, groups: list[tuple[tuple[int, ...], list[tuple[int, ...]], Tensor]]) -> None:
        """GRPO's loss; on the first update of a rollout its ratio is 1, so that log-probs alone are needed."""
        self.model.train()
        for prefix, completions, rewards in groups:
            advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
            width = max(map(len, completions))
            ids = torch.zeros(len(completions), len(prefix) + width, dtype=torch.long)
            mask, bearing = torch.zeros_like(ids), torch.zeros_like(ids)
            for row, completion in enumerate(completions):
                size = len(prefix) + len(completion)
                ids[row, :size] = torch.tensor([*prefix, *completion])
                mask[row, :size], bearing[row, len(prefix) : size] = 1, 1
            ids, mask, bearing = (each.to(_device()) for each in (ids, mask, bearing))
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            logprobs = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
            ratio_ = (logprobs - logprobs.detach()).exp()
            terms = ratio_ * advantages[:, None].to(_device()) * bearing[:, 1:]
            (-(terms.sum(-1) / bearing.sum(-1)).mean() / len(groups)).backward()
            self.learnt.learnt += int(bearing.sum())
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(runs: dict[str, Iteration], rounds: int) -> dict[str, Any]:
    """Interleaved rounds; the first of each does not count."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    shares: dict[str, list[Learnt]] = {name: [] for name in runs}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            out: list[Learnt] = []
            took = seconds(lambda run=run, out=out: out.append(run()))
            print(f"round {number} {name:6s} {took:7.2f} s  {out[0].learnt:6,d} tokens learnt from", flush=True)
            if number:
                taken[name].append(took)
                shares[name].append(out[0])
                spent[name].append(took / max(out[0].learnt, 1))
    rows = {
        name: {
            "seconds": [round(each, 3) for each in taken[name]],
            "learnt": [each.learnt for each in shares[name]],
            "generated": [each.generated for each in shares[name]],
            "milliseconds_a_token": [round(1000 * each, 3) for each in spent[name]],
            "glue": [round(1 - each.inside / took, 4) for each, took in zip(shares[name], taken[name], strict=True)]
            if shares[name][0].inside
            else None,
        }
        for name in runs
    }
    pairs = [(theirs, own) for theirs, own in (("trl", "grpo"), ("naive", "gpo")) if {theirs, own} <= set(runs)]
    return {"rows": rows, "ratio": {f"{a} / {b}": ratio(spent[a], spent[b]) for a, b in pairs}}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


MAKERS: dict[str, Callable[[Setting], Iteration]] = {
    "grpo": lambda setting: ours(setting, search=False),
    "trl": trl,
    "gpo": lambda setting: ours(setting, search=True),
    "naive": Naive,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="tiny, smollm2, a hub id or a directory")
    parser.add_argument("--problems", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=48, help="most tokens of a response")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    names = [name for name in options.only if name != "trl" or find_spec("trl") is not None]
    if len(names) < len(options.only):
        print("TRL is not installed here, so plain GRPO is measured alone; see the top of this file.")
    setting = Setting(options.model, options.problems, options.tokens)
    torch.manual_seed(0)
    found = measure({name: MAKERS[name](setting) for name in names}, options.rounds)
    print(json.dumps(found["ratio"], indent=1))
    kept = json.loads(options.results.read_text()) if options.results.exists() else {}
    settings = {"problems": setting.problems, "tokens": setting.tokens, "group_size": setting.group_size}
    kept[options.model] = {"machine": machine(), "settings": {**settings, "resets": setting.resets}, **found}
    options.results.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
