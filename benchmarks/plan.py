"""What runs where, what moves, how long an iteration takes and where it saturates: a plan for a model and a cluster.

    python benchmarks/plan.py                                             # the two plans of docs/scaling.md
    python benchmarks/plan.py --config path/to/config.json --gpus 16 --nodes 2 --prompts 256

Writes benchmarks/results/plan.json.

Arithmetic on data sheets, no measurement: a decoding step reads the weights and every sequence's keys and values once,
and multiplies twice per parameter and sequence; training a LoRA with recomputed activations costs 6 operations per
parameter and token, without 4. What the hardware reaches of its data sheet is an estimate, given by flags; so are the
lengths. Rates you have measured replace the arithmetic (``--decode-rate``, ``--train-rate``) and are marked.
"""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "plan.json"
RESERVE = 4e9
"""Bytes of GPU memory for context, kernels and fragmentation."""
MOST_SEQUENCES = 1024


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer with gated feed-forward layers, as ``config.json`` describes it."""

    name: str = "7B"
    hidden: int = 3584
    layers: int = 28
    heads: int = 28
    kv_heads: int = 4
    head_dim: int = 128
    intermediate: int = 18944
    vocabulary: int = 152064
    tied: bool = False

    @staticmethod
    def read(file: Path) -> "Model":
        found = json.loads(file.read_text())
        heads = found["num_attention_heads"]
        return Model(
            name=file.parent.name,
            hidden=found["hidden_size"],
            layers=found["num_hidden_layers"],
            heads=heads,
            kv_heads=found.get("num_key_value_heads") or heads,
            head_dim=found.get("head_dim") or found["hidden_size"] // heads,
            intermediate=found["intermediate_size"],
            vocabulary=found["vocab_size"],
            tied=bool(found.get("tie_word_embeddings", False)),
        )

    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's matrices: query, key, value, output, gate, up, down."""
        h, q, kv, i = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.intermediate
        return [(h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h)]

    @property
    def parameters(self) -> int:
        layer = sum(a * b for a, b in self.linears())
        return self.layers * layer + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA on every linear layer."""
        return self.layers * rank * sum(a + b for a, b in self.linears())

    @property
    def weight_bytes(self) -> float:
        return 2.0 * self.parameters

    @property
    def kv_bytes(self) -> float:
        """Keys and values of one token, bf16."""
        return 2.0 * 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind; the defaults are an H100 SXM's data sheet, and estimates of what is reached of it."""

    gpus: int = 8
    nodes: int = 1
    memory: float = 80e9
    flops: float = 989e12
    bandwidth: float = 3.35e12
    network: float = 50e9
    shared_disk: float = 2e9
    decode_share: float = 0.5
    train_share: float = 0.4
    decode_rate: float | None = None
    train_rate: float | None = None


@dataclass(frozen=True)
class Work:
    """One GPO iteration.

    ``searched`` responses of each mixed group are searched at ``search_cost`` response lengths each, in ``rounds``
    probes after one another, and ``kept`` continuations of each are trained on with the group.
    """

    prompts: int = 512
    group: int = 8
    prompt: int = 120
    response: int = 500
    mixed: float = 0.6
    searched: int = 2
    search_cost: float = 18.0
    rounds: float = 4.2
    kept: int = 8
    rank: int = 16
    micro_tokens: int = 8192
    optimiser_steps: int = 8

    @property
    def decoded(self) -> float:
        return self.prompts * self.response * (self.group + self.mixed * self.searched * self.search_cost)

    @property
    def prefilled(self) -> float:
        """With a prefix cache: each prompt once, and half a block of 16 a probe."""
        probes = self.mixed * self.searched * 2 * self.search_cost
        return self.prompts * (self.prompt + 8 * probes)

    @property
    def trained(self) -> float:
        """Kept continuations start half-way on average, but go through with their prefix."""
        return self.prompts * (self.group + self.mixed * self.searched * self.kept) * (self.prompt + self.response)

    @property
    def context(self) -> float:
        return self.prompt + self.response / 2


@dataclass(frozen=True)
class Engine:
    """One engine of ``tensor`` GPUs and the memory it has for keys and values."""

    model: Model
    cluster: Cluster
    tensor: int
    cache: float

    def sequences(self, context: float) -> int:
        return max(0, min(MOST_SEQUENCES, int(self.cache // (context * self.model.kv_bytes))))

    def step(self, sequences: float, context: float) -> tuple[float, str]:
        """Seconds of a decoding step, on paper, and what bounds it."""
        reads = (self.model.weight_bytes + sequences * context * self.model.kv_bytes) / self.cluster.bandwidth
        multiplies = 2 * self.model.parameters * sequences / self.cluster.flops
        return max(reads, multiplies) / self.tensor, "HBM" if reads > multiplies else "compute"

    def rate(self, context: float, sequences: float | None = None) -> float:
        """Tokens a second, on paper."""
        many = self.sequences(context) if sequences is None else sequences
        return many / self.step(many, context)[0] if many else 0.0


def memory(model: Model, work: Work, shards: int) -> dict[str, float]:
    """Bytes a GPU while training."""
    adapter = model.adapter(work.rank)
    return {
        "weights": model.weight_bytes / shards,
        "adapter and optimiser": 16.0 * adapter / shards,
        # One tensor kept a layer, and the working set of the layer that is computed again.
        "activations": work.micro_tokens
        * (2.0 * model.hidden * model.layers + 8.0 * (model.hidden + model.intermediate)),
        "logits": 2 * 4.0 * 1024 * model.vocabulary,
    }


def _tensor(model: Model, cluster: Cluster, resident: float) -> int:
    """The fewest GPUs an engine needs so that a third of what it may use is left for its cache."""
    room = 0.9 * cluster.memory - RESERVE - resident
    for tensor in (1, 2, 4, 8):
        if tensor <= cluster.gpus and model.weight_bytes / tensor < 2 / 3 * room:
            return tensor
    raise SystemExit(
        f"{model.name}: no engine of up to 8 GPUs of {cluster.memory / 1e9:.0f} GB holds weights and cache."
    )


def _shards(model: Model, cluster: Cluster, work: Work) -> int:
    """The fewest GPUs that share the trainer's weights."""
    for shards in sorted({1, cluster.gpus // cluster.nodes, cluster.gpus}):
        if sum(memory(model, work, shards).values()) < 0.9 * cluster.memory - RESERVE:
            return shards
    raise SystemExit(f"{model.name} cannot be trained on {cluster.gpus} GPUs: lower --micro-tokens or quantise.")


def plan(model: Model, cluster: Cluster, work: Work) -> dict[str, Any]:
    """Trainer and engines on the same GPUs, taking turns."""
    shards = _shards(model, cluster, work)
    needed = memory(model, work, shards)
    resident = needed["weights"] + needed["adapter and optimiser"]
    tensor = _tensor(model, cluster, resident)
    cache = tensor * (0.9 * cluster.memory - RESERVE - resident) - model.weight_bytes
    engine, engines = Engine(model, cluster, tensor, cache), max(1, cluster.gpus // tensor)
    seconds, basis, bound, alive = _phases(engine, engines, work)
    total = sum(seconds.values())
    return {
        "model": model.name,
        "parameters": model.parameters,
        "gpus": cluster.gpus,
        "nodes": cluster.nodes,
        "engines": engines,
        "tensor_parallel": tensor,
        "trainer": "DDP" if shards == 1 else f"FSDP2 over {shards}",
        "memory_per_gpu": needed | {"cache": cache / tensor},
        "bytes_per_sync": {
            "adapter": 2.0 * model.adapter(work.rank),
            "adapter, all engines": 2.0 * model.adapter(work.rank) * engines,
            "whole model, all engines": model.weight_bytes * engines,
        },
        "tokens": {"decoded": work.decoded, "prefilled": work.prefilled, "trained": work.trained},
        "tokens_per_second_needed": {"decoded": work.decoded / total, "trained": work.trained / total},
        "sequences_per_engine": alive,
        "seconds": seconds,
        "basis": basis,
        "iteration_seconds": total,
        "longest": max(seconds, key=lambda phase: seconds[phase]),
        "decode_bound": bound,
    }


def _phases(engine: Engine, engines: int, work: Work) -> tuple[dict[str, float], dict[str, str], str, float]:
    """Seconds by phase, whence each figure comes, what bounds decoding, and sequences at once an engine."""
    model, cluster = engine.model, engine.cluster
    alive = min(engine.sequences(work.context), work.prompts * work.group / engines)
    step, bound = engine.step(alive, work.context)
    busy = work.decoded / (engines * alive) * step / cluster.decode_share if alive else float("inf")
    if cluster.decode_rate is not None:
        busy = work.decoded / (cluster.decode_rate * engines * engine.tensor)
    # However many GPUs there are, a response is one token after another, and a search one probe after another.
    chain = work.response * (1 + work.rounds / 2) * engine.step(1, work.context)[0] / cluster.decode_share
    train_rate = cluster.train_rate or cluster.train_share * cluster.flops / (6 * model.parameters)
    adapter = 2.0 * model.adapter(work.rank)
    seconds = {
        "decode": max(busy, chain),
        "prefill": work.prefilled * 2 * model.parameters / (cluster.gpus * cluster.flops * cluster.train_share),
        "train": work.trained / (train_rate * cluster.gpus),
        "all-reduce": work.optimiser_steps * (2 * 2 * adapter / cluster.network if cluster.gpus > 1 else 0.0),
        "sync": adapter * (1 + engines) / cluster.shared_disk,
    }
    basis = dict.fromkeys(seconds, "arithmetic x estimated share")
    basis["decode"] = "measured rate" if cluster.decode_rate is not None and busy >= chain else basis["decode"]
    basis["train"] = "measured rate" if cluster.train_rate is not None else basis["train"]
    basis["sync"] = basis["all-reduce"] = "arithmetic on estimated links"
    return seconds, basis, "one token after another" if chain >= busy else bound, alive


def saturation(model: Model, cluster: Cluster, work: Work) -> list[dict[str, float]]:
    """The same iteration on more and more GPUs, and what share of each is put to use."""
    rows: list[dict[str, float]] = []
    per_node = max(1, cluster.gpus // cluster.nodes)
    first: float | None = None
    for doublings in range(8):
        gpus = per_node * 2**doublings
        seconds = plan(model, replace(cluster, gpus=gpus, nodes=2**doublings), work)["iteration_seconds"]
        first = first or seconds * gpus
        rows.append({"gpus": gpus, "seconds": seconds, "efficiency": first / (seconds * gpus)})
    return rows


def show(found: dict[str, Any]) -> str:
    def giga(number: float) -> str:
        return f"{number / 1e9:.2f} GB"

    lines = [
        f"## {found['model']} ({found['parameters'] / 1e9:.2f} B parameters), {found['gpus']} GPUs, "
        f"{found['nodes']} node(s)",
        f"{found['engines']} engines of {found['tensor_parallel']} GPU(s), {found['sequences_per_engine']:.0f} "
        f"sequences each at once; trainer: {found['trainer']}; they take turns on the same GPUs.",
        "",
        "| memory of a GPU | |",
        "|---|---|",
        *(f"| {name} | {giga(size)} |" for name, size in found["memory_per_gpu"].items()),
        "",
        "| moved at a sync | |",
        "|---|---|",
        *(f"| {name} | {giga(size)} |" for name, size in found["bytes_per_sync"].items()),
        "",
        "| phase | seconds | share | whence |",
        "|---|---|---|---|",
    ]
    for phase, seconds in found["seconds"].items():
        share = seconds / found["iteration_seconds"]
        lines.append(f"| {phase} | {seconds:.2f} | {share:.0%} | {found['basis'][phase]} |")
    needed = found["tokens_per_second_needed"]
    lines += [
        f"| **iteration** | **{found['iteration_seconds']:.1f}** | | decoding bound by: {found['decode_bound']} |",
        "",
        f"Over the whole iteration: {needed['decoded']:,.0f} tokens/s generated, {needed['trained']:,.0f} trained.",
    ]
    if "saturation" in found:
        lines += ["", "| GPUs, same iteration | seconds | put to use |", "|---|---|---|"]
        lines += [f"| {r['gpus']:.0f} | {r['seconds']:.1f} | {r['efficiency']:.0%} |" for r in found["saturation"]]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A plan for a model and a cluster.")
    parser.add_argument("--config", type=Path, help="config.json of a Hugging Face model")
    parser.add_argument("--output", type=Path, default=RESULTS)
    for kind in (Model, Cluster, Work):
        for name, value in asdict(kind()).items():
            if name == "tied":
                parser.add_argument("--tied", action="store_const", const=True)
            else:
                convert = str if name == "name" else int if isinstance(value, int) else float
                parser.add_argument(f"--{name.replace('_', '-')}", type=convert, help=f"default {value}")
    return parser.parse_args()


def main() -> None:
    given = {name: value for name, value in vars(_arguments()).items() if value is not None}
    file, output = given.pop("config", None), given.pop("output")

    def of(base: Any) -> Any:
        return replace(base, **{name: value for name, value in given.items() if name in asdict(base)})

    model = of(Model.read(file) if file is not None else Model())
    jobs = [(of(Cluster()), of(Work()))]
    if not {"gpus", "nodes"} & set(given):
        jobs.append((of(Cluster(gpus=64, nodes=8)), of(Work(prompts=4096))))
    plans = [plan(model, cluster, work) | {"saturation": saturation(model, cluster, work)} for cluster, work in jobs]
    print("\n\n".join(map(show, plans)))
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = [{"cluster": asdict(cluster), "work": asdict(work)} for cluster, work in jobs]
    output.write_text(json.dumps({"settings": settings, "plans": plans}, indent=1) + "\n")


if __name__ == "__main__":
    main()
