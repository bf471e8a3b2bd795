"""Every causal architecture of the installed transformers, built tiny: does the policy agree with the model?

A line each, with random weights: the policy's log-probabilities against the model's own logits, the engine's against
the policy's, a chat template there and back, and with ``--vllm`` an adapter served by vLLM. What is refused is refused
with a message.

    python benchmarks/models.py --only falcon_h1 lfm2 --vllm
"""

import argparse
import json
import logging
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gpo_lightning.engines import Engine, Purpose, Request, Sampling, Transformers
from gpo_lightning.errors import GPOError
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.tiny import tiny_tokenizer
from gpo_lightning.problems import Message, Problem
from gpo_lightning.problems.prompting import encode_prompt, encode_solution

RESULTS = Path(__file__).parent / "results" / "models.json"
AGREES = 1e-5
NOT_ADAPTED = ["conv1d", "out_proj"]
"""What peft does not adapt in layers with a state space."""
MOST_PARAMETERS = 20_000_000
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}={{ m.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant={% endif %}"
)
PREFIXES = [(40, 107, 101, 8, 105, 100), (7, 107, 103, 6, 105, 108, 101, 9, 3), (50, 107, 101)]

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim", "lru_width")
_INNER = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner", "d_inner")
_LAYERS = ("n_layer", "num_layers", "n_layers", "decoder_layers", "encoder_layers", "num_decoder_layers", "num_blocks")
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_ONES = ("n_group", "topk_group", "n_shared_experts", "num_shared_experts", "first_k_dense_replace", "n_groups")
_EIGHTS = (
    *("head_dim", "attention_head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "linear_key_head_dim"),
    *("linear_value_head_dim", "mamba_d_state", "state_size"),
)


def _sizes(**sizes: Any) -> dict[str, Any]:
    return sizes


SIZES: dict[str, Any] = {
    "vocab_size": 192,
    **dict.fromkeys(_WIDTHS, 32),
    **dict.fromkeys(_INNER, 64),
    **dict.fromkeys(_LAYERS, 2),
    "num_hidden_layers": 4,  # so that hybrids have layers of both kinds
    **dict.fromkeys(_HEADS, 4),
    "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    **dict.fromkeys(_EIGHTS, 8),
    **dict.fromkeys(_LENGTHS, 256),
    **dict.fromkeys(_EXPERTS, 4),
    **dict.fromkeys(_ONES, 1),
    **_sizes(num_experts_per_tok=2, moe_topk=2, moe_intermediate_size=32, shared_expert_intermediate_size=32),
    **_sizes(shared_intermediate_size=32, q_lora_rank=16, kv_lora_rank=16, qk_head_dim=16),
    **_sizes(linear_num_key_heads=2, linear_num_value_heads=2, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=1),
    **_sizes(mamba_d_ssm=64, mamba_num_heads=4, mamba_head_dim=16, mamba_dt_rank=4, time_step_rank=4, n_mamba_heads=2),
    **_sizes(sliding_window=16, attention_window_size=16, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    **_sizes(is_decoder=True, initializer_range=0.2),
}
ALSO: dict[str, dict[str, Any]] = {
    "falcon_h1": {"lm_head_multiplier": 0.3},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granite": {"logits_scaling": 8.0},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "local"], "hidden_size": 32},
    "zamba2": {"layer_types": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
}


@dataclass(frozen=True, slots=True)
class Line:
    """How one architecture fares.

    Args:
        name: its ``model_type``.
        head: who computes logits: ``read`` off the model, or the model's ``own`` forward.
        cache: how the transformers engine decodes: ``cached`` or ``recomputed``.
        own: largest difference of log-probabilities, policy against the model's own logits.
        engine: the same, engine against policy, after the adapter was changed.
        vllm: the same, vLLM against policy; ``None`` where it was not asked.
        chat: whether a conversation comes back from its tokens, closed as the template closes it.
        refused: the message of a refusal.
        failed: what went wrong without one.
    """

    name: str
    head: str = ""
    cache: str = ""
    own: float | None = None
    engine: float | None = None
    vllm: float | None = None
    chat: bool | None = None
    refused: str = ""
    failed: str = ""

    @property
    def agrees(self) -> bool:
        gaps = [gap for gap in (self.own, self.engine) if gap is not None]
        return len(gaps) == 2 and max(gaps) <= AGREES


def tiny_config(name: str) -> Any:
    """The configuration of an architecture with every size cut down; of a nested one, that of its text model too."""
    kind = CONFIG_MAPPING[name]
    usual = kind()
    known = set(usual.to_dict()) | set(getattr(kind, "attribute_map", {}))
    sizes = {key: value for key, value in (SIZES | ALSO.get(name, {})).items() if key in known}
    text = usual.get_text_config(decoder=True)
    if text is not usual and "text_config" in known:
        sizes["text_config"] = tiny_config(text.model_type).to_dict()
    return kind(**sizes)


def build(name: str, folder: Path) -> None:
    """Write a model of random weights with a tokenizer and a chat template.

    Raises:
        ValueError: it cannot be built tiny.
    """
    config = tiny_config(name)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"{size:,} parameters: no size of this configuration that we know makes it small")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def examine(name: str, folder: Path, vllm: bool = False) -> Line:
    """Load the model in a folder as a policy, and compare."""
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=NOT_ADAPTED)
    try:
        policy = Policy(PolicyConfig(base=str(folder), lora=lora, dtype="float32"))
    except GPOError as error:
        return Line(name, refused=str(error).replace(str(folder), name))
    _disturb(policy)
    policy.eval()
    engine = Transformers()
    return Line(
        name,
        head="own" if policy.head is None else "read",
        own=_own_gap(policy),
        engine=_engine_gap(policy, engine),
        cache=type(engine).__name__ if engine.decoder is None else engine.decoder.__name__.lower(),
        vllm=_vllm_gap(policy) if vllm else None,
        chat=_chat(policy),
    )


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


def _vllm_gap(policy: Policy) -> float:
    from gpo_lightning.engines import VLLM

    engine = VLLM(memory_gib=0.05)
    try:
        return _engine_gap(policy, engine)
    finally:
        engine.shutdown()


def _chat(policy: Policy) -> bool:
    problem = Problem("p", "t", "0", messages=(Message("user", "3+4"),), solution="7")
    asked = encode_prompt(problem, policy.tokenizer)
    answer = encode_solution(problem, policy.tokenizer, policy.eos_ids) or ()
    text = policy.tokenizer.decode([*asked, *answer])
    return text == "user=3+4<eos>\nassistant=7<eos>" and answer[-1] in policy.eos_ids


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds} s of processor time")

    signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def line(name: str, vllm: bool = False) -> Line | None:
    """Build and examine one architecture; ``None`` where it cannot be built tiny."""
    with tempfile.TemporaryDirectory() as place, _at_most(300 if vllm else 60):
        try:
            build(name, Path(place))
        except Exception as error:  # of a configuration class that does not bear our sizes
            print(f"{name}: not built: {str(error).splitlines()[0][:100]}", flush=True)
            return None
        try:
            return examine(name, Path(place), vllm)
        except Exception as error:  # what this benchmark is there to find
            return Line(name, failed=f"{type(error).__name__}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    parser.add_argument("--vllm", action="store_true", help="serve each one's adapter by vLLM too")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    lines: list[Line] = []
    for name in arguments.only:
        if (found := line(name, arguments.vllm)) is not None:
            lines.append(found)
            # Written each time, so that a stop loses nothing.
            arguments.output.write_text(json.dumps([asdict(each) for each in lines], indent=1) + "\n")
    Console(width=140).print(_table(lines))
    agree, refused, failed = (
        sum(bool(getattr(each, what)) for each in lines) for what in ("agrees", "refused", "failed")
    )
    print(
        f"{len(lines)} of {len(arguments.only)} architectures built tiny; {agree} agree to {AGREES:g}, {refused} are "
        f"refused with a message, {failed} fail without one; {time.perf_counter() - begin:.0f} s."
    )


def _table(lines: list[Line]) -> Table:
    table = Table("architecture", "head", "cache", "own logits", "engine", "vLLM", "chat", "refused or failed")
    for each in lines:
        gaps = ("" if gap is None else f"{gap:.1e}" for gap in (each.own, each.engine, each.vllm))
        chat = "" if each.chat is None else ("yes" if each.chat else "NO")
        table.add_row(each.name, each.head, each.cache, *gaps, chat, each.refused or each.failed)
    return table


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    main()
