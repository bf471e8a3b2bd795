"""Every causal architecture of the installed transformers, built tiny: does the policy agree with the model?

A line each, with random weights: the policy's log-probabilities against the model's own logits, the engine's against
the policy's, a chat template there and back, and with ``--vllm`` an adapter served by vLLM. What is refused is refused
with a message.

    python benchmarks/models.py --only falcon_h1 lfm2 --vllm

What the output has already is not measured again: a stopped run goes on. The sizes are in ``models.yaml``.
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import LoraConfig
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from gpo_lightning.engines import VLLM, Engine, Purpose, Request, Sampling, Transformers
from gpo_lightning.errors import GPOError
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.problems import Message, Problem
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

RESULTS = Path(__file__).parent / "results" / "models.json"
SIZES: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
AGREES = 1e-5
SECONDS = 600
NOT_ADAPTED = ["conv1d", "out_proj", "router", "o_a_proj"]
"""What peft does not adapt in layers with a state space."""
MOST_PARAMETERS = 20_000_000
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}={{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant={% endif %}"
)
PREFIXES = [(40, 107, 101, 8, 105, 100), (7, 107, 103, 6, 105, 108, 101, 9, 3), (50, 107, 101)]


@dataclass(frozen=True, slots=True)
class Line:
    """How one architecture fares.

    Args:
        name: its ``model_type``.
        head: who computes logits: ``read`` off the model, or the model's ``own`` forward.
        cache: how the transformers engine decodes: ``cached`` or ``recomputed``.
        own: largest difference of log-probabilities, policy against the model's own logits.
        engine: the same, engine against policy, after the adapter was changed.
        vllm: the same, vLLM against policy, in a model with heads as wide as vLLM wants them; ``None`` without one.
        served: how vLLM was given the weights, ``adapter`` or ``merged``, or why it was not; empty where not asked.
        chat: whether a conversation comes back from its tokens, closed as the template closes it.
        refused: the message of a refusal.
        failed: what went wrong without one.
        not_built: why there is no tiny model of it.
    """

    name: str
    head: str = ""
    cache: str = ""
    own: float | None = None
    engine: float | None = None
    vllm: float | None = None
    served: str = ""
    chat: bool | None = None
    refused: str = ""
    failed: str = ""
    not_built: str = ""

    @property
    def agrees(self) -> bool:
        gaps = [gap for gap in (self.own, self.engine) if gap is not None]
        return len(gaps) == 2 and max(gaps) <= AGREES

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.not_built:
            return "not built"
        if self.failed:
            return "failed"
        if self.refused:
            return "refused"
        return "agrees" if self.agrees else "differs"


def tiny_config(name: str, served: bool = False) -> PretrainedConfig:
    """The configuration of an architecture with every size cut down, those of its parts too.

    Args:
        name: its ``model_type``.
        served: with heads as wide as vLLM wants them.
    """
    kind = CONFIG_MAPPING[name]
    return kind(**_sizes(kind, name, SIZES["sizes"] | (SIZES["served"] if served else {})))


def _sizes(kind: type[PretrainedConfig], name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Of the wanted sizes, what a configuration class takes, and what it is for its parts."""
    usual = kind()
    known = set(usual.to_dict()) | set(kind.attribute_map)
    sizes = {key: value for key, value in wanted.items() if key in known}
    for key in kind.sub_configs:
        part = getattr(usual, key, None)
        if isinstance(part, PretrainedConfig):
            sizes[key] = {"model_type": part.model_type, **_sizes(type(part), part.model_type, wanted)}
    for key, value in SIZES["also"].get(name, {}).items():
        sizes[key] = sizes[key] | value if isinstance(sizes.get(key), dict) else value
    return sizes


def build(name: str, folder: Path, served: bool = False) -> None:
    """Write a model of random weights with a tokenizer and a chat template; ``served`` as for :func:`tiny_config`.

    Raises:
        ValueError: it cannot be built tiny.
    """
    config = tiny_config(name, served)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters: no size of this configuration that we know makes it small")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def examine(name: str, folder: Path) -> Line:
    """Load the model in a folder as a policy, and compare."""
    try:
        policy = _policy(folder)
    except GPOError as error:
        return Line(name, refused=str(error).replace(str(folder), name))
    engine = Transformers()
    return Line(
        name,
        head="own" if policy.head is None else "read",
        own=_own_gap(policy),
        engine=_engine_gap(policy, engine),
        cache=type(engine).__name__ if engine.decoder is None else engine.decoder.__name__.lower(),
        chat=_chat(policy),
    )


def _policy(folder: Path) -> Policy:
    """In eval mode, with an adapter that is not zero."""
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=NOT_ADAPTED)
    policy = Policy(PolicyConfig(base=str(folder), lora=lora, dtype="float32"))
    _disturb(policy)
    return policy.eval()


def _disturb(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.trainable_state().values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def _own_gap(policy: Policy) -> float:
    """In a batch that is padded on the right, as in training."""
    width = max(map(len, PREFIXES))
    ids, attention = torch.zeros(len(PREFIXES), width, dtype=torch.long), torch.zeros(len(PREFIXES), width)
    for row, prefix in enumerate(PREFIXES):
        ids[row, : len(prefix)], attention[row, : len(prefix)] = torch.tensor(prefix), 1
    mask = attention.clone()
    mask[:, 0] = 0
    found = policy.logprobs(ids, attention.long(), mask)
    gap = 0.0
    for row, prefix in enumerate(PREFIXES):
        alone = torch.tensor([prefix])
        logits = policy.causal_lm(input_ids=alone, attention_mask=torch.ones_like(alone), use_cache=False).logits
        plain = logits[0, :-1].log_softmax(-1).gather(-1, alone[0, 1:, None]).squeeze(-1)
        gap = max(gap, float((found[row, 1 : len(prefix)] - plain).abs().max()))
    return gap


@torch.no_grad()
def _engine_gap(policy: Policy, engine: Engine) -> float:
    engine.start(policy)
    engine.sync(policy, 0)
    requests = [Request(prefix, 8, Sampling(8), Purpose.SAMPLE, seed) for prefix in PREFIXES for seed in range(2)]
    gap = 0.0
    for request, made in zip(requests, engine.generate(requests), strict=True):
        ids = torch.tensor([request.prefix + made.tokens])
        mask = torch.zeros(ids.shape)
        mask[:, len(request.prefix) :] = 1
        ours = policy.logprobs(ids, torch.ones_like(ids), mask)[0, len(request.prefix) :].double()
        gap = max(gap, float((ours - torch.tensor(made.logprobs, dtype=torch.float64)).abs().max()))
    return gap


def by_vllm(found: Line) -> Line:
    """The same line with what vLLM says of the model, where its registry has it."""
    from vllm.model_executor.models import ModelRegistry

    with tempfile.TemporaryDirectory() as place:
        try:
            build(found.name, Path(place), served=True)
            policy = _policy(Path(place))
            if type(policy.causal_lm).__name__ not in ModelRegistry.get_supported_archs():
                return replace(found, served="not in its registry")
            engine = VLLM(memory_gib=0.05)
            try:
                gap = _engine_gap(policy, engine)
            finally:
                engine.shutdown()
            return replace(found, vllm=gap, served=engine.form)
        except Exception as error:  # of vLLM, whose sizes are its own
            return replace(found, served=_said(error))


def _chat(policy: Policy) -> bool:
    problem = Problem("p", "t", "0", messages=(Message("user", "3+4"),), solution="7")
    asked = encode_prompt(problem, policy.tokenizer)
    answer = list(encode_solution(problem, policy.tokenizer, policy.eos_ids) or ())
    text = policy.tokenizer.decode([*asked, *answer])
    return text == "user=3+4<eos>\nassistant=7<eos>" and answer[-1] in policy.eos_ids


def line(name: str) -> Line:
    """Build and examine one architecture."""
    with tempfile.TemporaryDirectory() as place:
        try:
            build(name, Path(place))
        except Exception as error:  # of a configuration class that does not bear our sizes
            return Line(name, not_built=_said(error))
        try:
            return examine(name, Path(place))
        except Exception as error:  # what this benchmark is there to find
            return Line(name, failed=_said(error))


def _said(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:200]}"


def alone(measure: Callable[[], Line], otherwise: Callable[[str], Line]) -> Line:
    """A line from a process of its own: one that hangs, crashes or grows is a line and no more.

    Args:
        measure: gives the line.
        otherwise: the line where it did not, given the reason.
    """
    receiver, sender = Pipe(duplex=False)
    process = get_context("fork").Process(target=lambda: sender.send(measure()))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(SECONDS) else otherwise(f"not done within {SECONDS} s")
    except EOFError:
        return otherwise("the process died")
    finally:
        process.kill()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    parser.add_argument("--vllm", action="store_true", help="serve each one's adapter by vLLM too")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--anew", action="store_true", help="measure those again that the output has")
    arguments = parser.parse_args()
    lines: dict[str, Line] = {}
    if arguments.output.exists():
        lines = {each["name"]: Line(**each) for each in json.loads(arguments.output.read_text())}
    for name in arguments.only:
        begin, before = time.perf_counter(), lines.get(name)
        found = before
        if found is None or arguments.anew:
            found = alone(partial(line, name), lambda why, name=name: Line(name, failed=why))
        if arguments.vllm and found.agrees and not found.served:
            found = alone(partial(by_vllm, found), lambda why, found=found: replace(found, served=why))
        if found is before:
            continue
        lines[name] = found
        seconds = time.perf_counter() - begin
        print(f"{name}: {found.verdict}, {found.served} {found.vllm or ''}, {seconds:.0f} s", flush=True)
        # Written each time, so that a stop loses nothing.
        whole = json.dumps([asdict(lines[each]) for each in sorted(lines)], indent=1) + "\n"
        unfinished = arguments.output.with_suffix(".partial")
        unfinished.write_text(whole)
        unfinished.replace(arguments.output)
    Console(width=140).print(_table([lines[name] for name in sorted(lines)]))
    verdicts = Counter(each.verdict for each in lines.values())
    print(f"{len(lines)} architectures:", ", ".join(f"{verdicts[each]} {each}" for each in verdicts))


def _table(lines: list[Line]) -> Table:
    table = Table("architecture", "head", "cache", "own logits", "engine", "vLLM", "chat", "refused or failed")
    for each in lines:
        gaps = ["" if gap is None else f"{gap:.1e}" for gap in (each.own, each.engine, each.vllm)]
        gaps[-1] = gaps[-1] and f"{gaps[-1]} {each.served}"
        chat = "" if each.chat is None else ("yes" if each.chat else "NO")
        table.add_row(each.name, each.head, each.cache, *gaps, chat, each.refused or each.failed or each.not_built)
    return table


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bar()
    main()
