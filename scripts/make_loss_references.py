"""Writes down, number by number, what other libraries make of a loss, so that tests can do without those libraries.

    .venv-reference/bin/python scripts/make_loss_references.py [directory]      default: tests/losses/reference

Every value and every gradient comes from running the code of trl, verl or OpenRLHF as released; nothing of
gpo_lightning is imported, and no equation of a loss is written down here. What is ours: the inputs, drawn until every
clip, clamp and mask does something, and what a trainer's method is handed in place of model, accelerator and settings.

How the code is reached:
    trl         methods of trainers that were never initialised; where a formula is buried in a longer method, its
                statements are cut out of the source and run (`cut_out`)
    verl        its modules, with stand-ins for the packages they import but do not need here
    OpenRLHF    its loss modules, likewise

The environment is described in tests/losses/reference/README.md.
"""

import ast
import inspect
import json
import math
import platform
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import GRPOConfig
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.rewards import get_soft_overlong_punishment
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.sft_trainer import SFTTrainer

DIRECTORY = Path(__file__).parents[1] / "tests" / "losses" / "reference"
SEEDS = (0, 1, 2)
ROWS, TOKENS, PAIRS = 5, 5, 3
DRAWS = 20_000
MARGIN = 1e-3
"""How far from a threshold a ratio must stay, so that rounding cannot put two libraries on different sides of it."""

Inputs = dict[str, Any]
Settings = dict[str, Any]


# ---- a case ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One run of a reference: what went in, what came out."""

    name: str
    seed: int
    source: str
    loss: str
    settings: Settings
    inputs: Inputs
    value: float | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    tolerance: float = 1e-7
    """Relative, of what the equation gives: verl adds 1e-8 to some denominators; ORPO of trl goes down to float32."""

    def as_json(self) -> str:
        entries = {entry.name: plain(getattr(self, entry.name)) for entry in fields(self)}
        kept = {key: entry for key, entry in entries.items() if entry not in (None, {}) or key == "settings"}
        return json.dumps(kept, separators=(",", ":"))


@dataclass(frozen=True)
class Reference:
    """A function of another library: where it stands, what it is called, and the settings it ran with."""

    name: str
    source: str
    loss: str
    settings: Settings
    compute: Callable[..., Any]
    by: tuple[str, ...] = ("logprobs",)
    tolerance: float = 1e-7

    def scored(self, seed: int, inputs: Inputs) -> Case:
        """`compute` gives a scalar, or a scalar and named tensors; the gradients are by the inputs named in `by`."""
        leaves = {key: x.clone().requires_grad_() if key in self.by else x for key, x in inputs.items()}
        found = self.compute(**leaves)
        value, outputs = found if isinstance(found, tuple) else (found, {})
        slopes = torch.autograd.grad(value, [leaves[key] for key in self.by])
        gradients = dict(zip(self.by, slopes, strict=True))
        if not any(slope.any() for slope in slopes):
            raise RuntimeError(f"{self.name}, seed {seed}: no gradient is left, so nothing would be tested")
        return Case(**self._labels(seed, inputs), value=float(value.detach()), gradients=gradients, outputs=outputs)

    def tabulated(self, seed: int, inputs: Inputs) -> Case:
        """`compute` gives named tensors."""
        return Case(**self._labels(seed, inputs), outputs=self.compute(**inputs))

    def _labels(self, seed: int, inputs: Inputs) -> dict[str, Any]:
        shared = ("name", "source", "loss", "settings", "tolerance")
        return {"seed": seed, "inputs": inputs, **{key: getattr(self, key) for key in shared}}


def plain(thing: Any) -> Any:
    """JSON has no NaN: null stands for it. Masks and labels become 0 and 1."""
    if isinstance(thing, Tensor):
        return plain(thing.detach().tolist())
    if isinstance(thing, dict):
        return {key: plain(x.int() if isinstance(x, Tensor) and "mask" in key else x) for key, x in thing.items()}
    if isinstance(thing, list | tuple):
        return [plain(x) for x in thing]
    if isinstance(thing, float):
        return None if math.isnan(thing) else thing or 0
    return thing


# ---- inputs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """Numbers of three decimals, so that the files stay small and are read back exactly."""

    generator: torch.Generator

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        return (spread * torch.randn(*shape, generator=self.generator)).round(decimals=3)

    def logprobs(self, *shape: int) -> Tensor:
        """Rows of differing likelihood, so that means lie on both sides of -log 2."""
        scale = 0.15 + 1.6 * torch.rand(shape[0], 1, generator=self.generator)
        return (-scale * torch.randn(*shape, generator=self.generator).abs() - 0.02).round(decimals=3)

    def near(self, logprobs: Tensor, spread: float) -> Tensor:
        """Log-probabilities of a policy near by; never above -0.001."""
        return (logprobs + self.normal(*logprobs.shape, spread=spread)).clamp(max=-0.001).round(decimals=3)

    def mask(self, rows: int, tokens: int, *, holes: bool = False, empty: bool = True) -> Tensor:
        """Padded on the right; one row as long as can be, and one all padding. With `holes`, observations inside."""
        lengths = torch.randint(2, tokens, (rows,), generator=self.generator)
        first, second = torch.randperm(rows, generator=self.generator)[:2]
        lengths[first] = tokens
        if empty:
            lengths[second] = 0
        mask = (torch.arange(tokens) < lengths[:, None]).double()
        if holes:
            mask[first, 2:4], mask[:, 1] = 0, mask[:, 1] * (torch.arange(rows) % 2)
        return mask


def drawn(seed: int, make: Callable[[Draw], Inputs], bites: Callable[..., bool] = lambda **_: True) -> Inputs:
    """The first inputs of a seed on which everything that is to be tested happens."""
    draw = Draw(torch.Generator().manual_seed(seed))
    for _ in range(DRAWS):
        if bites(**(inputs := make(draw))):
            return inputs
    raise RuntimeError(f"no inputs of seed {seed} do what is asked of them in {DRAWS} draws: {bites}")


def responses(
    draw: Draw, *, rows: int = ROWS, spread: float = 0.6, holes: bool = False, by_token: bool = False, kl: bool = False
) -> Inputs:
    logprobs = draw.logprobs(rows, TOKENS)
    return {
        "logprobs": logprobs,
        "behaviour": draw.near(logprobs, spread),
        "reference": draw.near(logprobs, 0.7) if kl else None,
        "mask": draw.mask(rows, TOKENS, holes=holes),
        "advantages": draw.normal(rows, TOKENS) if by_token else draw.normal(rows),
    }


TOKEN, MEAN, SUM = "token", "mean", "sum"


def ratios(logprobs: Tensor, behaviour: Tensor, mask: Tensor, level: str) -> tuple[Tensor, Tensor]:
    """Importance ratios and which of them count, to see what is clipped; never part of a result."""
    difference = logprobs - behaviour
    if level == TOKEN:
        return difference.exp(), mask.bool()
    total, length = (difference * mask).sum(-1, keepdim=True), mask.sum(-1, keepdim=True)
    return (total / length.clamp(min=1) if level == MEAN else total).exp(), length > 0


def clips(low: float, high: float, *, level: str = TOKEN, cap: float | None = None) -> Callable[..., bool]:
    """For each sign of the advantage: a ratio below 1 - low, one above 1 + high, one between. With `cap`: one above it
    where the advantage is negative."""

    def bites(logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, **_: Any) -> bool:
        ratio, live = ratios(logprobs, behaviour, mask, level)
        A = advantages if advantages.dim() == 2 else advantages[:, None]
        bounds = [1 - low, 1 + high, *([cap] if cap else [])]
        sides = (ratio < bounds[0], ratio > bounds[1], (ratio > bounds[0]) & (ratio < bounds[1]))
        each = all((live & sign & side).any() for sign, side in product((A > 0, A < 0), sides))
        capped = cap is None or bool((live & (A < 0) & (ratio > cap)).any())
        clear = all(((ratio - bound).abs() > MARGIN).all() for bound in bounds)
        return each and capped and clear and mask_bites(mask)

    return bites


def mask_bites(mask: Tensor) -> bool:
    lengths = mask.sum(-1)
    return bool((lengths == 0).any() and (lengths % 2 == 1).any() and len(lengths.unique()) > 2)


def every(
    reference: Reference, make: Callable[[Draw], Inputs], bites: Callable[..., bool], seeds: Sequence[int] = SEEDS
) -> Iterator[Case]:
    return (reference.scored(seed, drawn(seed, make, bites)) for seed in seeds)


def every_table(reference: Reference, make: Callable[[Draw], Inputs], bites: Callable[..., bool]) -> Iterator[Case]:
    return (reference.tabulated(seed, drawn(seed, make, bites)) for seed in SEEDS)


once = partial(every, seeds=SEEDS[:1])
"""For what differs from another case in one setting only."""


# ---- stand-ins ------------------------------------------------------------------------------------------------------


def accelerator(num_processes: int = 1) -> SimpleNamespace:
    """One process that gathers what it has; `num_processes` is only told to those who ask."""
    same = partial(lambda x, **_: x)
    return SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=num_processes,
        process_index=0,
        gather=same,
        reduce=same,
        gather_for_metrics=same,
        sync_gradients=True,
        parallelism_config=None,
    )


def uninitialised(trainer: type, **attributes: Any) -> Any:
    """A trainer of which only the attributes named exist, besides those every trainer reads to log metrics."""
    self = object.__new__(trainer)
    common = {
        "accelerator": accelerator(),
        "model": Forwarded({}),
        "aux_loss_enabled": False,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    vars(self).update(common | attributes)
    return self


class Forwarded:
    """A model whose forward pass is over: per-token log-probabilities, by the width of the input they belong to."""

    training = True
    is_gradient_checkpointing = False

    def __init__(self, logprobs: dict[int, Tensor]) -> None:
        self.logprobs = logprobs

    def __call__(self, input_ids: Tensor, labels: Tensor, **_: Any) -> SimpleNamespace:
        label_mask = labels[:, 1:] != -100
        logprobs = self.logprobs[input_ids.shape[1]] * label_mask
        nothing = torch.zeros_like(logprobs)
        return SimpleNamespace(
            log_probs=logprobs, label_mask=label_mask, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )


class TwoWords:
    """A model with a vocabulary of two that gives word 0 exactly the log-probabilities asked for.

    The trainer then takes them from the logits by itself. The two logits are the log-probabilities of the two words, so
    their log-sum-exp is 0 whatever they are, and the gradient by the first is that of the log-probability.
    """

    def __init__(self, logprobs: Tensor) -> None:
        self.logprobs = logprobs

    def __call__(self, *_: Any, **__: Any) -> SimpleNamespace:
        other = torch.log(-torch.expm1(self.logprobs))
        return SimpleNamespace(logits=torch.nn.functional.pad(torch.stack([self.logprobs, other], -1), (0, 0, 0, 1)))


@contextmanager
def no_float32() -> Iterator[None]:
    """`Tensor.float` leaves float64 alone, so that code which goes down to float32 runs as it stands in float64."""
    original = Tensor.float
    Tensor.float = lambda self: self if self.dtype == torch.float64 else original(self)
    try:
        yield
    finally:
        Tensor.float = original


def cut_out(method: Callable[..., Any], first: str, last: str) -> Callable[..., SimpleNamespace]:
    """Statements from the middle of a method, as a function from the variables they use to the variables they leave:
    from the one that begins with `first` to the next that begins with `last`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    for block in (block for node in ast.walk(tree) if isinstance(block := getattr(node, "body", None), list)):
        starts = [i for i, statement in enumerate(block) if ast.unparse(statement).startswith(first)]
        for start in starts:
            for end in range(start, len(block)):
                if ast.unparse(block[end]).startswith(last):
                    code = compile(ast.Module(block[start : end + 1], []), inspect.getfile(method), "exec")
                    return partial(_run, code, method.__globals__)
    raise LookupError(f"{method.__qualname__} has no statements from `{first}` to `{last}`")


def _run(code: Any, known: dict[str, Any], **variables: Any) -> SimpleNamespace:
    namespace = {**known, **variables}
    exec(code, namespace)
    return SimpleNamespace(**namespace)


def stand_in(name: str, folder: Path | None = None, **contents: Any) -> None:
    """A module in the place of one that imports too much; with `folder`, a package whose modules can be imported."""
    module = ModuleType(name)
    vars(module).update(contents)
    if folder is not None:
        module.__path__ = [str(folder)]
    sys.modules[name] = module


def home(package: str) -> Path:
    """Where a package is installed, found without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed: see tests/losses/reference/README.md")
    return Path(spec.origin).parent


class ActorConfig(SimpleNamespace):
    """In the place of verl's, which gets its fields from YAML; read by name and by `get`."""

    def get(self, key: str, default: Any) -> Any:
        return getattr(self, key, default)


@cache
def verl() -> SimpleNamespace:
    """verl's modules `core_algos`, `torch_functional` and `rollout_corr_helper`."""
    root = home("verl")
    for package in ("", "utils", "trainer", "trainer.ppo", "workers"):
        stand_in(f"verl.{package}".rstrip("."), root / package.replace(".", "/"))
    stand_in("omegaconf", DictConfig=dict)
    stand_in("tensordict", TensorDict=dict)
    stand_in("verl.protocol", DataProto=object)
    stand_in("verl.utils.device", get_device_name=lambda: "cpu", get_torch_device=lambda: torch.cpu)
    stand_in("verl.trainer.config", root / "trainer/config", AlgoConfig=type("AlgoConfig", (), {}))
    stand_in("verl.trainer.config.algorithm", RolloutCorrectionConfig=object)
    stand_in("verl.workers.config", root / "workers/config", ActorConfig=ActorConfig)
    stand_in("verl.workers.config.actor", PolicyLossConfig=object)
    groups = import_module("verl.utils.groupwise")
    vars(sys.modules["verl.utils"]).update(as_torch_index=groups.as_torch_index, group_mean_std=groups.group_mean_std)
    return SimpleNamespace(
        core=import_module("verl.trainer.ppo.core_algos"),
        functional=import_module("verl.utils.torch_functional"),
        rollout=import_module("verl.trainer.ppo.rollout_corr_helper"),
    )


@cache
def openrlhf_loss() -> ModuleType:
    root = home("openrlhf")
    stand_in("deepspeed")
    stand_in("openrlhf", root)
    stand_in("openrlhf.models", root / "models")
    return import_module("openrlhf.models.loss")


TRL, VERL, OPENRLHF = (f"{name} {version(name)}" for name in ("trl", "verl", "openrlhf"))


# ---- policy gradient ------------------------------------------------------------------------------------------------

GRPO_SHOWN = (
    "loss_type",
    "epsilon",
    "epsilon_high",
    "delta",
    "beta",
    "use_bias_correction_kl",
    "importance_sampling_level",
    "max_completion_length",
    "steps_per_generation",
)
GRPO_DEFAULTS = {entry.name: entry.default for entry in fields(GRPOConfig)} | {"steps_per_generation": 1}
OUTSIDE = {"num_items_in_batch": 1, "num_processes": 1, "current_gradient_accumulation_steps": 1}
"""What a GRPO trainer learns from its surroundings instead of its configuration."""


def grpo_loss(
    settings: Settings,
    logprobs: Tensor,
    behaviour: Tensor,
    mask: Tensor,
    advantages: Tensor,
    reference: Tensor | None = None,
    importance_sampling_ratio: Tensor | None = None,
) -> Tensor:
    values = GRPO_DEFAULTS | OUTSIDE | settings
    own = {
        key: values[key]
        for key in (
            "loss_type",
            "beta",
            "importance_sampling_level",
            "max_completion_length",
            "top_entropy_quantile",
            "current_gradient_accumulation_steps",
        )
    }
    trainer = uninitialised(
        GRPOTrainer,
        **own,
        accelerator=accelerator(values["num_processes"]),
        args=SimpleNamespace(**values),
        epsilon_low=values["epsilon"],
        epsilon_high=values["epsilon"] if values["epsilon_high"] is None else values["epsilon_high"],
        off_policy_mask_threshold=None,
        use_vllm=importance_sampling_ratio is not None,
        vllm_importance_sampling_correction=True,
        _entropy_bonus_enabled=False,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    )
    batch = prompts_and_completions(mask) | {
        "advantages": advantages,
        "old_per_token_logps": behaviour,
        "ref_per_token_logps": reference,
        "importance_sampling_ratio": importance_sampling_ratio,
        "num_items_in_batch": torch.tensor(values["num_items_in_batch"]),
    }
    return GRPOTrainer._compute_loss(trainer, None, batch)


def prompts_and_completions(mask: Tensor) -> Inputs:
    ids, prompt = torch.zeros_like(mask).long(), torch.zeros(len(mask), 1).long()
    return {"prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": ids, "completion_mask": mask}


def grpo(name: str, **settings: Any) -> Reference:
    shown = {key: GRPO_DEFAULTS[key] for key in GRPO_SHOWN} | settings
    source = f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer._compute_loss"
    return Reference(name, source, shown["loss_type"], shown, partial(grpo_loss, settings))


def trl_policy_gradient() -> Iterator[Case]:
    plain_clip, kl = clips(0.2, 0.2), partial(responses, kl=True)
    window = {
        "num_items_in_batch": 61,
        "num_processes": 2,
        "steps_per_generation": 4,
        "current_gradient_accumulation_steps": 3,
    }
    yield from every(grpo("grpo", loss_type="grpo"), responses, plain_clip)
    yield from every(
        grpo("grpo_asymmetric", loss_type="grpo", epsilon=0.1, epsilon_high=0.3), responses, clips(0.1, 0.3)
    )
    yield from every(grpo("grpo_token_advantages", loss_type="grpo"), partial(responses, by_token=True), plain_clip)
    yield from every(grpo("grpo_two_sided", loss_type="grpo", delta=1.6), responses, clips(0.2, 0.2, cap=1.6))
    yield from every(grpo("grpo_kl", loss_type="grpo", beta=0.04, use_bias_correction_kl=False), kl, plain_clip)
    yield from every(grpo("grpo_kl_corrected", loss_type="grpo", beta=0.04), kl, plain_clip)
    yield from once(
        grpo("grpo_two_sided_kl_corrected", loss_type="grpo", delta=1.6, beta=0.04), kl, clips(0.2, 0.2, cap=1.6)
    )
    yield from once(
        grpo("grpo_accumulated", loss_type="grpo", current_gradient_accumulation_steps=3), responses, plain_clip
    )
    yield from every(grpo("bnpo", loss_type="bnpo"), responses, plain_clip)
    yield from every(
        grpo("dapo", loss_type="dapo", epsilon_high=0.28, num_items_in_batch=23), responses, clips(0.2, 0.28)
    )
    yield from once(grpo("dapo_window", loss_type="dapo", epsilon_high=0.28, **window), responses, clips(0.2, 0.28))
    yield from every(grpo("dr_grpo", loss_type="dr_grpo", max_completion_length=9), responses, plain_clip)
    yield from every(
        grpo("cispo", loss_type="cispo", epsilon_high=5.0, num_items_in_batch=23),
        partial(responses, spread=1.4),
        clips(0.2, 4.0),
    )
    several, level = partial(responses, rows=7, spread=0.4), {"importance_sampling_level": "sequence"}
    yield from every(grpo("gspo", loss_type="grpo", **level), several, clips(0.2, 0.2, level=MEAN))
    yield from once(
        grpo("gspo_asymmetric", loss_type="grpo", epsilon=0.05, epsilon_high=0.08, **level),
        several,
        clips(0.05, 0.08, level=MEAN),
    )
    yield from every(
        grpo("gspo_kl_corrected", loss_type="grpo", beta=0.04, **level),
        partial(several, kl=True),
        clips(0.2, 0.2, level=MEAN),
    )
    yield from every(rloo("rloo", epsilon=0.2, epsilon_high=None), several, clips(0.2, 0.2, level=SUM))
    yield from once(rloo("rloo_asymmetric", epsilon=0.3, epsilon_high=0.6), several, clips(0.3, 0.6, level=SUM))


def rloo(name: str, **settings: Any) -> Reference:
    source = f"{TRL} trl/trainer/rloo_trainer.py::RLOOTrainer._compute_loss; behaviour summed under the mask before"
    return Reference(name, source, "rloo", settings, partial(rloo_loss, settings))


def rloo_loss(
    settings: Settings, logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, reference: None
) -> Tensor:
    low, high = settings["epsilon"], settings["epsilon_high"]
    trainer = uninitialised(
        RLOOTrainer,
        epsilon_low=low,
        epsilon_high=low if high is None else high,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    )
    batch = {"old_logps": (behaviour * mask).sum(1), "advantages": advantages}
    return RLOOTrainer._compute_loss(trainer, None, prompts_and_completions(mask) | batch)


def verl_policy(
    name: str, loss: str, loss_agg_mode: str = "token-mean", batch: Settings | None = None, **settings: Any
) -> Reference:
    function = verl().core.POLICY_LOSS_REGISTRY[loss]
    shown = {"clip_ratio": 0.2, "clip_ratio_low": None, "clip_ratio_high": None, "clip_ratio_c": 3.0} | settings
    config = ActorConfig(**shown, global_batch_info=batch or {})

    def compute(
        logprobs: Tensor,
        behaviour: Tensor,
        mask: Tensor,
        advantages: Tensor,
        reference: None = None,
        rollout_is_weights: Tensor | None = None,
    ) -> Tensor:
        return function(
            behaviour, logprobs, advantages, mask, loss_agg_mode, config, rollout_is_weights=rollout_is_weights
        )[0]

    source = f"{VERL} verl/trainer/ppo/core_algos.py::{function.__name__}"
    return Reference(name, source, loss, shown | {"loss_agg_mode": loss_agg_mode, **(batch or {})}, compute)


AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")


def verl_policy_gradient() -> Iterator[Case]:
    make, wide = partial(responses, by_token=True), partial(responses, by_token=True, spread=1.0)
    dual = clips(0.2, 0.2, cap=3.0)
    for mode in AGGREGATIONS:
        yield from every(verl_policy(f"ppo_{mode.replace('-', '_')}", "vanilla", mode), partial(wide, holes=True), dual)
    yield from once(
        verl_policy("ppo_asymmetric", "vanilla", clip_ratio_low=0.1, clip_ratio_high=0.28, clip_ratio_c=2.0),
        wide,
        clips(0.1, 0.28, cap=2.0),
    )
    yield from once(
        verl_policy("ppo_global_token_mean", "vanilla", batch={"dp_size": 2, "batch_num_tokens": 61}), wide, dual
    )
    yield from once(
        verl_policy("ppo_global_seq_mean", "vanilla", "seq-mean-token-mean", {"dp_size": 2, "global_batch_size": 9}),
        wide,
        dual,
    )
    yield from every(verl_policy("ppo_far", "vanilla"), partial(far, by=25.0), far_bites)
    gspo = verl_policy("verl_gspo", "gspo", "seq-mean-token-mean")
    rows = partial(responses, rows=7, spread=0.4)
    yield from every(gspo_of_rows(gspo), partial(rows, holes=True), clips(0.2, 0.2, level=MEAN))
    clamped = verl_policy("verl_gspo_clamped", "gspo", "seq-mean-token-mean")
    yield from every(gspo_of_rows(clamped), partial(far, by=12.0, whole_rows=True), far_bites)
    yield from every(verl_policy("verl_cispo", "cispo"), partial(make, holes=True), clips(0.2, 0.2))


def gspo_of_rows(reference: Reference) -> Reference:
    """verl spreads the advantage of a response over its tokens before the loss sees it."""

    def compute(advantages: Tensor, mask: Tensor, **inputs: Any) -> Tensor:
        return reference.compute(advantages=advantages[:, None].expand_as(mask), mask=mask, **inputs)

    return Reference(reference.name, reference.source, reference.loss, reference.settings, compute)


def far(draw: Draw, *, by: float, whole_rows: bool = False) -> Inputs:
    """Some log-ratios beyond every bound of stability, up and down: single tokens, or all tokens of a response."""
    rows = 7
    inputs = responses(draw, rows=rows, by_token=not whole_rows)
    way = torch.arange(rows)[:, None].expand(rows, TOKENS) if whole_rows else torch.arange(rows * TOKENS).view(rows, -1)
    for lowered, key in ((0, "logprobs"), (2, "behaviour")):
        inputs[key] = (inputs[key] - by * (way % 3 == lowered)).round(decimals=3)
    return inputs


def far_bites(logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, **_: Any) -> bool:
    """Log-ratios above 10 and below -10 with advantages of both signs."""
    A = advantages if advantages.dim() == 2 else advantages[:, None]
    logs = torch.where(mask.bool(), logprobs - behaviour, 0.0)
    sides = (logs > 10, logs < -10)
    return all((sign & side).any() for sign, side in product((A > 0, A < 0), sides)) and mask_bites(mask)


def openrlhf_policy_gradient() -> Iterator[Case]:
    source = f"{OPENRLHF} openrlhf/models/loss.py::PolicyLoss"
    for name, level, settings in (
        ("openrlhf_ppo", TOKEN, {"policy_loss_type": "ppo", "dual_clip": 3.0, "token_level_loss": True}),
        ("openrlhf_ppo_by_response", TOKEN, {"policy_loss_type": "ppo", "dual_clip": None, "token_level_loss": False}),
        ("openrlhf_gspo", MEAN, {"policy_loss_type": "gspo", "dual_clip": None, "token_level_loss": False}),
    ):
        settings |= {"clip_eps_low": 0.2, "clip_eps_high": 0.28}
        loss = openrlhf_loss().PolicyLoss(**settings)

        def compute(
            logprobs: Tensor, behaviour: Tensor, mask: Tensor, advantages: Tensor, reference: None, loss: Any = loss
        ) -> Tensor:
            A = advantages if advantages.dim() == 2 else advantages[:, None].expand_as(mask)
            return loss(logprobs, behaviour, A, action_mask=mask)[0]

        make = (
            partial(responses, by_token=True, spread=1.0) if level == TOKEN else partial(responses, rows=7, spread=0.4)
        )
        bites = clips(0.2, 0.28, level=level, cap=settings["dual_clip"])
        yield from once(Reference(name, source, settings["policy_loss_type"], settings, compute), make, bites)


def policy_gradient() -> Iterator[Case]:
    yield from trl_policy_gradient()
    yield from verl_policy_gradient()
    yield from openrlhf_policy_gradient()


# ---- divergence from a reference, and values ------------------------------------------------------------------------


def divergence() -> Iterator[Case]:
    core = verl().core
    for kind in ("k1", "k2", "k3", "k1+", "k3+"):

        def compute(logprobs: Tensor, reference: Tensor, mask: Tensor, kind: str = kind) -> tuple[Tensor, Inputs]:
            found = core.kl_penalty(logprobs, reference, kind)
            return core.agg_loss(found, mask, "token-mean"), {"per_token": found}

        source = f"{VERL} verl/trainer/ppo/core_algos.py::kl_penalty, agg_loss token-mean"
        name = f"kl_{kind.replace('+', '_straight_through')}"
        yield from every(Reference(name, source, kind, {"kl_penalty": kind}, compute), apart, clamps_at_ten)


def apart(draw: Draw) -> Inputs:
    """Policy and reference, near by but for one token in four, where the reference likes it much more or much less."""
    inputs = responses(draw, kl=True, holes=True)
    jump = (torch.arange(ROWS * TOKENS) % 8).view(ROWS, TOKENS)
    shift = 4.0 * (jump == 1) - 22.0 * (jump == 5)
    reference = (inputs["reference"] + shift).clamp(max=-0.001).round(decimals=3)
    logprobs = torch.where(jump == 1, inputs["logprobs"] - 6, inputs["logprobs"]).round(decimals=3)
    return {"logprobs": logprobs, "reference": reference, "mask": inputs["mask"]}


def clamps_at_ten(logprobs: Tensor, reference: Tensor, mask: Tensor) -> bool:
    """The low-variance estimate is above 10 for a token each way, and below for others; a log-ratio is below -20."""
    difference, live = reference - logprobs, mask.bool()
    estimate = difference.exp() - difference - 1
    seen = [live & (estimate > 10) & (difference > 0), live & (difference < -20), live & (estimate < 9)]
    return all(x.any() for x in seen) and bool(((estimate - 10).abs() > 0.01).all()) and mask_bites(mask)


def value() -> Iterator[Case]:
    core = verl().core
    for mode in ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean"):

        def compute(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, mode: str = mode) -> Tensor:
            return core.compute_value_loss(values, returns, old_values, mask, 0.2, loss_agg_mode=mode)[0]

        settings = {"cliprange_value": 0.2, "loss_agg_mode": mode}
        source = f"{VERL} verl/trainer/ppo/core_algos.py::compute_value_loss"
        name = f"value_{mode.replace('-', '_')}"
        yield from every(Reference(name, source, "value", settings, compute, by=("values",)), valued, clips_values)
    clipped = openrlhf_loss().ValueLoss(clip_eps=0.2)

    def theirs(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        return clipped(values, old_values, returns, action_mask=mask)

    source = f"{OPENRLHF} openrlhf/models/loss.py::ValueLoss"
    settings = {"clip_eps": 0.2, "token_level_loss": True}
    yield from every(
        Reference("openrlhf_value", source, "value", settings, theirs, by=("values",)), valued, clips_values
    )


def valued(draw: Draw) -> Inputs:
    values = draw.normal(ROWS, TOKENS)
    return {
        "values": values,
        "old_values": (values + draw.normal(ROWS, TOKENS, spread=0.3)).round(decimals=3),
        "returns": (values + draw.normal(ROWS, TOKENS, spread=0.5)).round(decimals=3),
        "mask": draw.mask(ROWS, TOKENS, holes=True),
    }


def clips_values(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> bool:
    """Inside the range, and above and below it, both where the clipped value is worse and where it is better."""
    move, live = values - old_values, mask.bool()
    worse = (old_values + move.clamp(-0.2, 0.2) - returns).abs() > (values - returns).abs()
    outside = [live & side & case for side, case in product((move > 0.2, move < -0.2), (worse, ~worse))]
    return all(x.any() for x in [*outside, live & (move.abs() < 0.2)]) and mask_bites(mask)


# ---- advantages -----------------------------------------------------------------------------------------------------

GROUPS = (0, 0, 0, 1, 2, 2, 2, 2, 3)
"""A group of one, and a group whose rewards are all equal."""


def outcomes(draw: Draw) -> Inputs:
    rewards = draw.normal(len(GROUPS)) + draw.normal(len(GROUPS)).sign()
    mask = draw.mask(len(GROUPS), TOKENS, holes=True)
    return {"rewards": rewards.round(decimals=3), "groups": list(GROUPS), "mask": mask}


def equal_groups(draw: Draw) -> Inputs:
    """Six completions in two groups; the rewards of the second are equal."""
    rewards = draw.normal(3).repeat_interleave(2)
    rewards[:3] = draw.normal(3)
    rewards[3:] = rewards[3]
    return {"rewards": rewards, "groups": [0, 0, 0, 1, 1, 1], "mask": draw.mask(6, TOKENS)}


def at_the_end(rewards: Tensor, mask: Tensor) -> Tensor:
    """Rewards of responses as verl takes them: at the last token that counts, or the very last where none does."""
    places = torch.arange(TOKENS) * mask
    last = torch.where(mask.sum(-1) > 0, places.argmax(-1), TOKENS - 1)
    return torch.zeros_like(mask).scatter(1, last[:, None], rewards[:, None])


def verl_outcome(name: str, estimator: str, **settings: Any) -> Reference:
    function = verl().core.get_adv_estimator_fn(estimator)

    def compute(rewards: Tensor, groups: Sequence[int], mask: Tensor) -> Inputs:
        advantages, _ = function(at_the_end(rewards, mask), mask, index=np.array(groups), **settings)
        return {"advantages": advantages}

    source = f"{VERL} verl/trainer/ppo/core_algos.py::{function.__name__}"
    return Reference(name, source, estimator, settings, compute)


def verl_advantages() -> Iterator[Case]:
    always = mask_of_inputs_bites
    yield from every_table(verl_outcome("verl_grpo", "grpo", norm_adv_by_std_in_grpo=True), outcomes, always)
    yield from every_table(verl_outcome("verl_grpo_unscaled", "grpo", norm_adv_by_std_in_grpo=False), outcomes, always)
    yield from every_table(
        verl_outcome("verl_grpo_equal_rewards", "grpo", norm_adv_by_std_in_grpo=True), equal_groups, always
    )
    yield from every_table(verl_outcome("verl_rloo", "rloo"), outcomes, always)
    yield from every_table(
        verl_outcome("reinforce_plus_plus_baseline", "reinforce_plus_plus_baseline"), outcomes, always
    )
    yield from every_table(verl_reinforce_plus_plus(), token_rewards, always)
    yield from every_table(verl_gae(), token_rewards_and_values, always)
    yield from every_table(verl_whiten(True), to_whiten, always)
    yield from every_table(verl_whiten(False), to_whiten, always)


def mask_of_inputs_bites(mask: Tensor, **_: Any) -> bool:
    return mask_bites(mask)


def token_rewards(draw: Draw) -> Inputs:
    mask = draw.mask(ROWS, TOKENS, holes=True)
    rewards = draw.normal(ROWS, TOKENS, spread=0.2) * mask + at_the_end(draw.normal(ROWS), mask)
    return {"token_rewards": rewards.round(decimals=3), "mask": mask}


def token_rewards_and_values(draw: Draw) -> Inputs:
    return token_rewards(draw) | {"values": draw.normal(ROWS, TOKENS)}


def verl_reinforce_plus_plus() -> Reference:
    function, settings = verl().core.compute_reinforce_plus_plus_outcome_advantage, {"gamma": 0.97}

    def compute(token_rewards: Tensor, mask: Tensor) -> Inputs:
        advantages, returns = function(token_rewards, mask, config=SimpleNamespace(**settings))
        return {"advantages": advantages, "returns": returns}

    source = f"{VERL} verl/trainer/ppo/core_algos.py::{function.__name__}"
    return Reference("reinforce_plus_plus", source, "reinforce_plus_plus", settings, compute)


def verl_gae() -> Reference:
    function, settings = verl().core.compute_gae_advantage_return, {"gamma": 0.97, "lam": 0.9}

    def compute(token_rewards: Tensor, values: Tensor, mask: Tensor) -> Inputs:
        advantages, returns = function(token_rewards, values, mask, **settings)
        return {"advantages": advantages, "returns": returns}

    source = f"{VERL} verl/trainer/ppo/core_algos.py::{function.__name__}; advantages whitened, returns not"
    return Reference("gae", source, "gae", settings, compute)


def to_whiten(draw: Draw) -> Inputs:
    return {
        "values": (draw.normal(ROWS, TOKENS, spread=2.0) + 1.0).round(decimals=3),
        "mask": draw.mask(ROWS, TOKENS, holes=True),
    }


def verl_whiten(shift_mean: bool) -> Reference:
    def compute(values: Tensor, mask: Tensor) -> Inputs:
        return {"whitened": verl().functional.masked_whiten(values, mask, shift_mean=shift_mean)}

    source = f"{VERL} verl/utils/torch_functional.py::masked_whiten"
    return Reference(
        f"masked_whiten{'' if shift_mean else '_keeping_mean'}",
        source,
        "masked_whiten",
        {"shift_mean": shift_mean},
        compute,
    )


def trl_advantages() -> Iterator[Case]:
    one, two = partial(rewards_per_func, functions=1), partial(rewards_per_func, functions=2)
    for scale in ("group", "batch", "none"):
        yield from every_table(trl_grpo_advantages(f"trl_grpo_{scale}", scale_rewards=scale), one, lambda **_: True)
    yield from every_table(
        trl_grpo_advantages("trl_grpo_two_rewards", reward_weights=[1.0, 0.5]), two, unscorable_somewhere
    )
    yield from every_table(
        trl_grpo_advantages(
            "trl_grpo_normalize_then_sum",
            reward_weights=[1.0, 0.5],
            multi_objective_aggregation="normalize_then_sum",
        ),
        two,
        unscorable_somewhere,
    )
    yield from every_table(trl_rloo_advantages("trl_rloo", beta=0.0), rloo_rewards, mask_of_inputs_bites)
    yield from every_table(trl_rloo_advantages("trl_rloo_kl", beta=0.05), rloo_rewards, mask_of_inputs_bites)
    yield from every_table(
        trl_rloo_advantages("trl_rloo_normalised", beta=0.05, normalize_advantages=True, reward_clip_range=[-1.0, 1.0]),
        rloo_rewards,
        mask_of_inputs_bites,
    )


GENERATIONS = 3


def rewards_per_func(draw: Draw, functions: int) -> Inputs:
    """Three groups of three. With two reward functions, some rewards are missing and one completion has none at all."""
    rewards = draw.normal(3 * GENERATIONS, functions)
    rewards[-GENERATIONS:, 0] = 1.0
    if functions > 1:
        rewards[1, :], rewards[2, 1], rewards[5, 0] = math.nan, math.nan, math.nan
    return {"rewards_per_func": rewards}


def unscorable_somewhere(rewards_per_func: Tensor) -> bool:
    missing = rewards_per_func.isnan()
    return bool(missing.all(1).any() and (missing.any(1) & ~missing.all(1)).any())


def trl_grpo_advantages(name: str, **settings: Any) -> Reference:
    defaults = {"scale_rewards": "group", "multi_objective_aggregation": "sum_then_normalize", "reward_weights": [1.0]}
    shown = defaults | settings | {"num_generations": GENERATIONS}
    run = cut_out(GRPOTrainer._generate_and_score_completions, "unscorable_mask =", "advantages = torch.nan_to_num")

    def compute(rewards_per_func: Tensor) -> Inputs:
        owner = SimpleNamespace(**shown | {"reward_weights": torch.tensor(shown["reward_weights"])})
        owner.reward_funcs = shown["reward_weights"]
        found = run(self=owner, rewards_per_func=rewards_per_func, num_generations=GENERATIONS, device="cpu")
        return {"advantages": found.advantages}

    source = f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer._generate_and_score_completions, its statements from"
    return Reference(name, f"{source} `unscorable_mask =` to `advantages = torch.nan_to_num`", "grpo", shown, compute)


def rloo_rewards(draw: Draw) -> Inputs:
    """Four groups of two, one completion of which has no reward."""
    inputs = responses(draw, rows=8, kl=True)
    rewards = draw.normal(8, 1, spread=1.5)
    rewards[2] = math.nan
    return {"rewards_per_func": rewards, **{key: inputs[key] for key in ("behaviour", "reference", "mask")}}


def trl_rloo_advantages(name: str, **settings: Any) -> Reference:
    shown = {"normalize_advantages": False, "reward_clip_range": None, "reward_weights": [1.0]} | settings
    shown["num_generations"] = 2
    run = cut_out(RLOOTrainer._generate_and_score_completions, "unscorable_mask =", "advantages = torch.nan_to_num")

    def compute(rewards_per_func: Tensor, behaviour: Tensor, reference: Tensor, mask: Tensor) -> Inputs:
        found = run(
            self=SimpleNamespace(**shown | {"reward_weights": torch.tensor(shown["reward_weights"])}),
            rewards_per_func=rewards_per_func,
            old_per_token_logps=behaviour,
            ref_per_token_logps=reference,
            completion_mask=mask,
            num_generations=2,
            device="cpu",
            gather=lambda x: x,
        )
        return {"advantages": found.advantages}

    source = f"{TRL} trl/trainer/rloo_trainer.py::RLOOTrainer._generate_and_score_completions, its statements from"
    return Reference(name, f"{source} `unscorable_mask =` to `advantages = torch.nan_to_num`", "rloo", shown, compute)


def advantages() -> Iterator[Case]:
    yield from trl_advantages()
    yield from verl_advantages()
    yield overlong(20, 5)
    yield overlong(8, 8)


def overlong(longest: int, cache_length: int) -> Case:
    settings = {"max_completion_len": longest, "soft_punish_cache": cache_length}
    punish = get_soft_overlong_punishment(**settings)

    def compute(lengths: Sequence[int]) -> Inputs:
        return {"rewards": torch.tensor(punish(completion_ids=[[0] * length for length in lengths]))}

    source = f"{TRL} trl/rewards/other_rewards.py::get_soft_overlong_punishment"
    reference = Reference(f"overlong_{longest}_{cache_length}", source, "soft_overlong_punishment", settings, compute)
    return reference.tabulated(0, {"lengths": [0, 1, 4, 7, 8, 9, 14, 15, 16, 17, 19, 20, 21, 40]})


# ---- corrections for the sampler ------------------------------------------------------------------------------------


def corrections() -> Iterator[Case]:
    yield from trl_corrections()
    yield from trl_off_policy_mask()
    yield from verl_corrections()


def sampled(
    draw: Draw, *, unknown: bool = False, holes: bool = False, by_token: bool = False, kl: bool = False
) -> Inputs:
    """Responses with what the sampler thought of its own tokens; with `unknown`, it does not say for one of them."""
    inputs = responses(draw, kl=kl, holes=holes, by_token=by_token)
    sampler = draw.near(inputs["behaviour"], 0.6)
    if unknown:
        sampler[inputs["mask"].sum(-1).argmax(), 0] = math.nan
    return inputs | {"sampler": sampler}


def leaves(low: float, high: float, level: str) -> Callable[..., bool]:
    """Ratios of policy to sampler below, above and inside [low, high]."""

    def bites(behaviour: Tensor, sampler: Tensor, mask: Tensor, **_: Any) -> bool:
        ratio, live = ratios(behaviour, torch.where(sampler.isnan(), behaviour, sampler), mask, level)
        sides = (ratio < low, ratio > high, (ratio > low) & (ratio < high))
        clear = all(((ratio - bound).abs() > MARGIN).all() for bound in (low, high))
        return all((live & side).any() for side in sides) and clear and mask_bites(mask)

    return bites


def trl_corrections() -> Iterator[Case]:
    begins = "if self.use_vllm and self.vllm_importance_sampling_correction:\n    mask ="
    run = cut_out(GRPOTrainer._generate_and_score_completions, begins, begins)
    for mode, (low, high) in product(
        ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"), ((None, 3.0), (0.5, 2.0))
    ):
        settings = {
            "vllm_importance_sampling_mode": mode,
            "vllm_importance_sampling_clip_min": low,
            "vllm_importance_sampling_clip_max": high,
        }
        # the KL penalty of the second half shows that the correction leaves it alone
        training = {"loss_type": "grpo", "beta": 0.0 if low is None else 0.04}

        def compute(
            behaviour: Tensor,
            sampler: Tensor,
            mask: Tensor,
            settings: Settings = settings,
            training: Settings = training,
            **inputs: Any,
        ) -> tuple[Tensor, Inputs]:
            owner = SimpleNamespace(use_vllm=True, vllm_importance_sampling_correction=True, **settings)
            ratio = run(
                self=owner,
                completion_mask=mask,
                tool_mask=None,
                old_per_token_logps=behaviour,
                sampling_per_token_logps=sampler,
            ).vllm_importance_sampling_ratio
            loss = grpo_loss(training, behaviour=behaviour, mask=mask, importance_sampling_ratio=ratio, **inputs)
            return loss, {"importance_sampling_ratio": ratio}

        source = (
            f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer._generate_and_score_completions, its statement "
            "`if self.use_vllm and self.vllm_importance_sampling_correction: mask = ...`; then _compute_loss"
        )
        shown = settings | {"epsilon": 0.2, "use_bias_correction_kl": True} | training
        level = TOKEN if mode.startswith("token") else SUM
        make = partial(sampled, unknown=True, kl=low is not None)
        name = f"trl_{mode}{'' if low is None else '_two_bounds'}"
        draws = every if low is None else once
        yield from draws(Reference(name, source, "grpo", shown, compute), make, leaves(low or 0.6, high, level))


def trl_off_policy_mask() -> Iterator[Case]:
    settings = {"off_policy_mask_threshold": 0.1}

    def compute(logprobs: Tensor, sampler: Tensor, mask: Tensor, advantages: Tensor) -> Inputs:
        return {"keep": GRPOTrainer.get_off_policy_mask(advantages[:, None], logprobs, sampler, mask, 0.1)}

    def make(draw: Draw) -> Inputs:
        inputs = sampled(draw)
        return {key: inputs[key] for key in ("logprobs", "sampler", "mask", "advantages")}

    def bites(logprobs: Tensor, sampler: Tensor, mask: Tensor, advantages: Tensor) -> bool:
        distance = ((sampler - logprobs) * mask).sum(-1) / mask.sum(-1).clamp(min=1)
        sides = product((advantages > 0, advantages < 0), (distance > 0.1, distance < 0.1))
        return all((sign & side).any() for sign, side in sides) and mask_bites(mask)

    source = f"{TRL} trl/trainer/grpo_trainer.py::GRPOTrainer.get_off_policy_mask"
    yield from every_table(Reference("trl_off_policy_mask", source, "opsm", settings, compute), make, bites)


def verl_corrections() -> Iterator[Case]:
    rollout, loss = verl().rollout, verl_policy("", "vanilla")
    source = f"{VERL} verl/trainer/ppo/rollout_corr_helper.py"
    make = partial(sampled, holes=True, by_token=True)

    for name, level, settings in (
        ("verl_token_truncate", TOKEN, {"rollout_is": "token", "rollout_is_threshold": 2.0}),
        ("verl_sequence_truncate", SUM, {"rollout_is": "sequence", "rollout_is_threshold": 2.0}),
        ("verl_token_mask", TOKEN, {"rollout_is": "token", "rollout_is_threshold": "0.5_2.0"}),
        (
            "verl_token_truncate_normalised",
            TOKEN,
            {"rollout_is": "token", "rollout_is_threshold": 2.0, "rollout_is_batch_normalize": True},
        ),
    ):

        def weighted(
            behaviour: Tensor, sampler: Tensor, mask: Tensor, settings: Settings = settings, **inputs: Any
        ) -> tuple[Tensor, Inputs]:
            weights, _ = rollout.compute_rollout_correction_weights(behaviour - sampler, mask, **settings)
            found = loss.compute(behaviour=behaviour, mask=mask, rollout_is_weights=weights, **inputs)
            return found, {"importance_sampling_ratio": weights}

        path = f"{source}::compute_rollout_correction_weights; then compute_policy_loss_vanilla"
        shown = loss.settings | settings
        yield from every(Reference(name, path, "vanilla", shown, weighted), make, leaves(0.5, 2.0, level))

    for rule, threshold in (
        ("token_k1", "0.5_2.0"),
        ("seq_sum_k1", "0.5_2.0"),
        ("seq_mean_k1", "0.9_1.1"),
        ("seq_mean_k3", "0.2"),
        ("seq_max_k2", "0.5"),
    ):

        def kept(behaviour: Tensor, sampler: Tensor, mask: Tensor, rule: str = rule, limit: str = threshold) -> Tensor:
            return rollout.compute_rollout_rejection_mask(behaviour - sampler, mask, rule, limit)[0]

        def rejected(
            behaviour: Tensor, sampler: Tensor, mask: Tensor, kept: Callable[..., Tensor] = kept, **inputs: Any
        ) -> tuple[Tensor, Inputs]:
            left = kept(behaviour, sampler, mask)
            return loss.compute(behaviour=behaviour, mask=left, **inputs), {"kept_mask": left}

        def some(
            logprobs: Tensor,
            behaviour: Tensor,
            sampler: Tensor,
            mask: Tensor,
            kept: Callable[..., Tensor] = kept,
            **_: Any,
        ) -> bool:
            left = kept(behaviour, sampler, mask)
            unclipped = (logprobs - behaviour).abs() < 0.15
            return bool((left * unclipped).any() and left.sum() < mask.sum()) and mask_bites(mask)

        path = f"{source}::compute_rollout_rejection_mask; then compute_policy_loss_vanilla"
        shown = loss.settings | {"rollout_rs": rule, "rollout_rs_threshold": threshold}
        yield from once(Reference(f"verl_reject_{rule}", path, "vanilla", shown, rejected), make, some)


# ---- preferences ----------------------------------------------------------------------------------------------------

PAIR = ("chosen", "rejected")


def pairs(draw: Draw, *, reference: bool = True, prompt: int = 0) -> Inputs:
    inputs: Inputs = {}
    for side in PAIR:
        inputs[side] = draw.logprobs(PAIRS, TOKENS)
        inputs[f"{side}_mask"] = draw.mask(PAIRS, TOKENS, empty=False)
        if reference:
            inputs[f"reference_{side}"] = draw.near(inputs[side], 0.8)
        if prompt:
            inputs[f"prompt_{side}"] = draw.logprobs(PAIRS, prompt)
    return inputs


def margins(inputs: Inputs) -> Tensor:
    """Log-probability of chosen over rejected, over the reference where there is one; only to see what is clipped."""
    sides = [((inputs[side] - inputs.get(f"reference_{side}", 0.0)) * inputs[f"{side}_mask"]).sum(-1) for side in PAIR]
    return sides[0] - sides[1]


def both_signs(**inputs: Any) -> bool:
    """Pairs ordered rightly and wrongly; odd lengths and even."""
    lengths = torch.cat([inputs[f"{side}_mask"].sum(-1) for side in PAIR])
    margin = margins(inputs)
    return bool((margin > 1).any() and (margin < -1).any() and (lengths % 2 == 1).any() and (lengths % 2 == 0).any())


def beyond_hinge(beta: float, **inputs: Any) -> bool:
    margin = beta * margins(inputs)
    return both_signs(**inputs) and bool((margin > 1).any() and ((margin - 1).abs() > MARGIN).all())


def dpo(name: str, *losses: str, **settings: Any) -> Reference:
    defaults = {
        "beta": 0.1,
        "label_smoothing": 0.0,
        "loss_weights": None,
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "discopop_tau": 0.05,
    }
    shown = {"loss_type": list(losses)} | defaults | settings

    def compute(
        chosen: Tensor,
        rejected: Tensor,
        chosen_mask: Tensor,
        rejected_mask: Tensor,
        reference_chosen: Tensor,
        reference_rejected: Tensor,
    ) -> Tensor:
        own = {key: shown[key] for key in ("beta", "label_smoothing", "ld_alpha", "f_divergence_type")}
        trainer = uninitialised(
            DPOTrainer,
            **own,
            loss_types=list(losses),
            loss_weights=shown["loss_weights"] or [1.0] * len(losses),
            args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=shown["discopop_tau"]),
            precompute_ref_logps=False,
            use_weighting=False,
            ref_model=Forwarded({TOKENS + 1: torch.cat([reference_chosen, reference_rejected])}),
        )
        model = Forwarded({TOKENS + 1: torch.cat([chosen, rejected])})
        return DPOTrainer._compute_loss(trainer, model, after_one_token(torch.cat([chosen_mask, rejected_mask])), False)

    source = f"{TRL} trl/trainer/dpo_trainer.py::DPOTrainer._compute_loss"
    return Reference(name, source, "+".join(losses), shown, compute, by=PAIR)


def after_one_token(mask: Tensor) -> Inputs:
    """A prompt of one token before each completion."""
    mask = torch.nn.functional.pad(mask, (1, 0)).long()
    return {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}


def trl_dpo() -> Iterator[Case]:
    yield from every(dpo("dpo", "sigmoid"), pairs, both_signs)
    yield from every(dpo("dpo_hinge", "hinge", beta=0.5), pairs, partial(beyond_hinge, 0.5))
    for loss in ("ipo", "apo_zero", "apo_down"):
        yield from every(dpo(f"dpo_{loss}", loss), pairs, both_signs)
    yield from every(dpo("dpo_robust", "robust", label_smoothing=0.15), pairs, both_signs)
    for loss in ("nca_pair", "bco_pair", "sppo_hard", "sigmoid_norm", "sft"):
        yield from once(dpo(f"dpo_{loss}", loss), pairs, both_signs)
    for loss in ("exo_pair", "aot"):
        yield from once(dpo(f"dpo_{loss}", loss, label_smoothing=0.15), pairs, both_signs)
    yield from once(dpo("dpo_discopop", "discopop"), pairs, both_signs)
    yield from once(dpo("dpo_with_sft", "sigmoid", "sft", loss_weights=[1.0, 0.3]), pairs, both_signs)
    yield from once(dpo("dpo_length_desensitised", "sigmoid", ld_alpha=0.5), pairs, both_signs)
    # an ignored setting: the value is that of `dpo` on the same inputs
    yield from once(dpo("dpo_sigmoid_ignores_label_smoothing", "sigmoid", label_smoothing=0.15), pairs, both_signs)
    yield from once(dpo("dpo_empty_rejected", "sigmoid"), with_an_empty_response, both_signs)
    yield from once(dpo("dpo_ipo_empty_rejected", "ipo"), with_an_empty_response, both_signs)


def with_an_empty_response(draw: Draw) -> Inputs:
    inputs = pairs(draw)
    inputs["rejected_mask"][0] = 0
    return inputs


def openrlhf_dpo() -> Iterator[Case]:
    for name, settings in (
        ("openrlhf_dpo", {"beta": 0.1, "label_smoothing": 0.0, "ipo": False}),
        ("openrlhf_cdpo", {"beta": 0.1, "label_smoothing": 0.15, "ipo": False}),
        ("openrlhf_ipo", {"beta": 0.1, "label_smoothing": 0.0, "ipo": True}),
    ):
        loss = openrlhf_loss().DPOLoss(**settings)

        def compute(
            chosen: Tensor,
            rejected: Tensor,
            chosen_mask: Tensor,
            rejected_mask: Tensor,
            reference_chosen: Tensor,
            reference_rejected: Tensor,
            loss: Any = loss,
        ) -> Tensor:
            sides = (chosen, chosen_mask), (rejected, rejected_mask)
            references = (reference_chosen, chosen_mask), (reference_rejected, rejected_mask)
            return loss(*((logprobs * mask).sum(-1) for logprobs, mask in (*sides, *references)))[0]

        source = f"{OPENRLHF} openrlhf/models/loss.py::DPOLoss; log-probs summed under the mask before"
        yield from every(Reference(name, source, "dpo", settings, compute, by=PAIR), pairs, both_signs)


def labelled(
    chosen: Tensor,
    rejected: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    prompt_chosen: Tensor | None,
    prompt_rejected: Tensor | None,
) -> tuple[TwoWords, Inputs]:
    """Model and batch of a CPO or ORPO trainer: a first token, what the prompt has besides it, the response."""
    batch, logprobs = {}, []
    for side, response, mask, prompt in (
        ("chosen", chosen, chosen_mask, prompt_chosen),
        ("rejected", rejected, rejected_mask, prompt_rejected),
    ):
        prompt = response[:, :0] if prompt is None else prompt
        read = torch.cat([torch.ones(len(mask), 1 + prompt.shape[1]), mask], 1).long()
        said = torch.cat([torch.zeros(len(mask), 1 + prompt.shape[1]), mask], 1).bool()
        ids = torch.zeros_like(read)
        batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"] = ids, read
        batch[f"{side}_labels"] = ids.masked_fill(~said, -100)
        logprobs.append(torch.cat([prompt, response], 1))
    return TwoWords(torch.cat(logprobs)), batch


def cpo(name: str, loss_type: str, **settings: Any) -> Reference:
    defaults = {"beta": 0.1, "label_smoothing": 0.0, "cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0}
    shown = {"loss_type": loss_type} | defaults | settings

    def compute(chosen: Tensor, rejected: Tensor, chosen_mask: Tensor, rejected_mask: Tensor) -> Tensor:
        trainer = uninitialised(CPOTrainer, **shown, is_encoder_decoder=False, pad_token_id=0)
        model, batch = labelled(chosen, rejected, chosen_mask, rejected_mask, None, None)
        return CPOTrainer.get_batch_loss_metrics(trainer, model, batch)[0]

    source = f"{TRL} trl/experimental/cpo/cpo_trainer.py::CPOTrainer.get_batch_loss_metrics, which calls cpo_loss"
    return Reference(name, source, loss_type, shown, compute, by=PAIR)


def trl_cpo() -> Iterator[Case]:
    make, alone = partial(pairs, reference=False), {"cpo_alpha": 0.0}
    yield from every(cpo("cpo", "sigmoid"), make, both_signs)
    yield from every(cpo("cpo_without_nll", "sigmoid", **alone), make, both_signs)
    yield from every(cpo("cpo_smoothed", "sigmoid", label_smoothing=0.15, **alone), make, both_signs)
    yield from every(cpo("cpo_hinge", "hinge", beta=0.5), make, partial(beyond_hinge, 0.5))
    yield from every(cpo("cpo_ipo", "ipo"), make, both_signs)
    yield from every(cpo("simpo", "simpo", beta=2.0, simpo_gamma=1.0, **alone), make, both_signs)
    yield from once(cpo("simpo_trl_defaults", "simpo", **alone), make, both_signs)
    yield from once(
        cpo("simpo_smoothed", "simpo", beta=2.0, simpo_gamma=1.0, label_smoothing=0.15, **alone), make, both_signs
    )
    yield from once(cpo("cpo_simpo", "simpo", beta=2.0, simpo_gamma=1.0), make, both_signs)


def orpo_trainer(beta: float) -> Any:
    return uninitialised(ORPOTrainer, beta=beta, is_encoder_decoder=False, padding_value=0)


def orpo_ratio(chosen: Tensor, rejected: Tensor, chosen_mask: Tensor, rejected_mask: Tensor) -> Tensor:
    trainer = orpo_trainer(0.1)
    model, batch = labelled(chosen, rejected, chosen_mask, rejected_mask, None, None)
    means = ORPOTrainer.concatenated_forward(trainer, model, batch)[:2]
    return -ORPOTrainer.odds_ratio_loss(trainer, *means)[0].mean()


def orpo(
    chosen: Tensor,
    rejected: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    prompt_chosen: Tensor,
    prompt_rejected: Tensor,
) -> Tensor:
    model, batch = labelled(chosen, rejected, chosen_mask, rejected_mask, prompt_chosen, prompt_rejected)
    return ORPOTrainer.get_batch_loss_metrics(orpo_trainer(0.1), model, batch)[0]


def in_float64(compute: Callable[..., Tensor], **inputs: Any) -> Tensor:
    with no_float32():
        return compute(**inputs)


def trl_orpo() -> Iterator[Case]:
    settings, rough = {"beta": 0.1}, 1e-5
    without, with_prompt = partial(pairs, reference=False), partial(pairs, reference=False, prompt=3)
    source = f"{TRL} trl/experimental/orpo/orpo_trainer.py::ORPOTrainer"
    term, whole = f"{source}.odds_ratio_loss, negated mean", f"{source}.get_batch_loss_metrics"
    both = (*PAIR, "prompt_chosen")
    double = "; Tensor.float made to leave float64 alone"
    for reference, make in (
        (
            Reference("orpo_ratio", term + double, "odds_ratio", settings, partial(in_float64, orpo_ratio), PAIR),
            without,
        ),
        (Reference("orpo", whole + double, "orpo", settings, partial(in_float64, orpo), both), with_prompt),
    ):
        yield from every(reference, make, both_branches)
    for reference, make in (
        (Reference("orpo_ratio_float32", term, "odds_ratio", settings, orpo_ratio, PAIR, rough), without),
        (Reference("orpo_float32", whole, "orpo", settings, orpo, both, rough), with_prompt),
    ):
        yield from once(reference, make, both_branches)


def both_branches(**inputs: Any) -> bool:
    """Mean log-probabilities on both sides of -log 2, where log(1 - exp x) changes its form."""
    means = torch.cat([(inputs[side] * (mask := inputs[f"{side}_mask"])).sum(-1) / mask.sum(-1) for side in PAIR])
    return both_signs(**inputs) and bool((means > -0.6).any() and (means < -0.8).any())


def preference() -> Iterator[Case]:
    yield from trl_dpo()
    yield from openrlhf_dpo()
    yield from trl_cpo()
    yield from trl_orpo()


# ---- unpaired judgements --------------------------------------------------------------------------------------------

KL_TOKENS = 4


def judged(draw: Draw, *, desirable: Sequence[bool] | None = None) -> Inputs:
    """Responses, which of them are desirable, and mismatched responses for the reference point."""
    logprobs, mismatched = draw.logprobs(ROWS, TOKENS), draw.logprobs(ROWS, KL_TOKENS)
    labels = draw.normal(ROWS) > 0 if desirable is None else torch.tensor(desirable)
    return {
        "logprobs": logprobs,
        "reference": draw.near(logprobs, 0.8),
        "mask": draw.mask(ROWS, TOKENS),
        "desirable_mask": labels,
        "kl_logprobs": mismatched,
        "kl_reference": draw.near(mismatched, 0.4),
        "kl_mask": draw.mask(ROWS, KL_TOKENS, empty=False),
    }


def reference_point(*, positive: bool, mixed: bool = True) -> Callable[..., bool]:
    """The mean divergence of the mismatched responses is as asked, and clearly so; `mixed`: both judgements occur."""

    def bites(
        mask: Tensor, desirable_mask: Tensor, kl_logprobs: Tensor, kl_reference: Tensor, kl_mask: Tensor, **_: Any
    ) -> bool:
        mean = ((kl_logprobs - kl_reference) * kl_mask).sum(-1).mean()
        balanced = not mixed or 2 <= desirable_mask.sum() <= 3
        return bool((mean if positive else -mean) > 0.1) and balanced and mask_bites(mask)

    return bites


def kto(name: str, loss_type: str = "kto", **settings: Any) -> Reference:
    shown = {"loss_type": loss_type, "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0} | settings

    def compute(
        logprobs: Tensor,
        reference: Tensor,
        mask: Tensor,
        desirable_mask: Tensor,
        kl_logprobs: Tensor,
        kl_reference: Tensor,
        kl_mask: Tensor,
    ) -> Tensor:
        widths = (TOKENS + 1, KL_TOKENS + 1)
        model, ref_model = (
            Forwarded(dict(zip(widths, x, strict=True))) for x in ((logprobs, kl_logprobs), (reference, kl_reference))
        )
        trainer = uninitialised(
            KTOTrainer,
            **shown,
            calculate_KL=loss_type == "kto",
            precompute_ref_logps=False,
            ref_model=ref_model,
            args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        )
        mismatched = {f"KL_{key}": x for key, x in after_one_token(kl_mask).items()}
        batch = after_one_token(mask) | mismatched | {"label": desirable_mask}
        return KTOTrainer._compute_loss(trainer, model, batch, False)

    source = f"{TRL} trl/trainer/kto_trainer.py::KTOTrainer._compute_loss"
    return Reference(name, source, loss_type, shown, compute)


def unpaired() -> Iterator[Case]:
    above, below = reference_point(positive=True), reference_point(positive=False)
    weights = {"desirable_weight": 1.33, "undesirable_weight": 0.8}
    yield from every(kto("kto", beta=0.3), judged, above)
    yield from every(kto("kto_clamped", beta=0.3), judged, below)
    yield from every(kto("kto_weighted", **weights), judged, above)
    one_sided = reference_point(positive=True, mixed=False)
    yield from every(kto("kto_only_desirable", **weights), partial(judged, desirable=[True] * ROWS), one_sided)
    yield from every(kto("kto_only_undesirable", **weights), partial(judged, desirable=[False] * ROWS), one_sided)
    yield from every(kto("apo_zero_unpaired", "apo_zero_unpaired", beta=0.3), judged, above)


# ---- supervised -----------------------------------------------------------------------------------------------------


def sft(name: str, loss_type: str, num_items_in_batch: int | None = None, num_processes: int = 1) -> Reference:
    args = {"loss_type": loss_type, "average_tokens_across_devices": True}

    def compute(logprobs: Tensor, mask: Tensor) -> Tensor:
        trainer = uninitialised(
            SFTTrainer,
            accelerator=accelerator(num_processes),
            args=SimpleNamespace(**args),
            compute_loss_func=None,
            label_smoother=None,
            get_tp_size=lambda: 1,
        )
        batch = after_one_token(mask)
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
        return SFTTrainer.compute_loss(
            trainer, Forwarded({TOKENS + 1: logprobs}), inputs, num_items_in_batch=num_items_in_batch
        )

    source = f"{TRL} trl/trainer/sft_trainer.py::SFTTrainer.compute_loss"
    shown = args | {"num_items_in_batch": num_items_in_batch, "num_processes": num_processes}
    return Reference(name, source, loss_type, shown, compute)


def supervised() -> Iterator[Case]:
    def make(draw: Draw) -> Inputs:
        return {"logprobs": draw.logprobs(ROWS, TOKENS), "mask": draw.mask(ROWS, TOKENS)}

    yield from every(sft("sft", "nll"), make, mask_of_inputs_bites)
    yield from every(sft("sft_window", "nll", num_items_in_batch=61, num_processes=2), make, mask_of_inputs_bites)
    yield from every(sft("dft", "dft"), make, mask_of_inputs_bites)


# ---- files ----------------------------------------------------------------------------------------------------------

FAMILIES: tuple[Callable[[], Iterable[Case]], ...] = (
    policy_gradient,
    divergence,
    value,
    advantages,
    corrections,
    preference,
    unpaired,
    supervised,
)
LIBRARIES = ("trl", "verl", "openrlhf", "torch", "transformers", "numpy")


def write(directory: Path, family: str, cases: list[Case]) -> None:
    """One case a line, so that a difference between two versions of a file can be read."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    head = f'{{"made_by": "scripts/make_loss_references.py",\n"versions": {json.dumps(versions)},\n"cases": [\n'
    body = ",\n".join(case.as_json() for case in cases)
    (directory / f"{family}.json").write_text(f"{head}{body}\n]}}\n")


def show(cases: Iterable[Case]) -> None:
    for case in cases:
        steepest = max((float(slope.abs().max()) for slope in case.gradients.values()), default=None)
        number = "-" if case.value is None else f"{case.value:.15g}"
        slope = "-" if steepest is None else f"{steepest:.6g}"
        where = case.source.split(";")[0].split(", ")[0].rsplit("/", 1)[-1]
        print(f"{case.name:<38}{case.seed:>2}  {number:>22}  {slope:>12}  {where}")


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    # constants the references make by themselves would otherwise be float32, and drag the result down with them
    torch.set_default_dtype(torch.float64)
    directory.mkdir(parents=True, exist_ok=True)
    print(f"{'name':<36}seed  {'value':>22}  {'max |grad|':>12}  source")
    for family in FAMILIES:
        cases = list(family())
        show(cases)
        write(directory, family.__name__, cases)
    size = sum(path.stat().st_size for path in directory.glob("*.json"))
    print(f"{size / 1000:.0f} kB in {directory}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY)
