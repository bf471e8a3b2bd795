"""Invariant 4: our losses against the numbers of trl, verl and OpenRLHF, in value and gradient.

The numbers are those of the libraries' own code (tests/losses/reference/README.md). What differs on purpose is said
where it differs; what we do not offer is listed in NOT_OFFERED, so that no case is passed over in silence.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from math import isnan, nan
from typing import Any

import pytest
import torch
from torch import Tensor

from gpo_lightning.experience import Batch, Row, Rows, Scores
from gpo_lightning.experience.actions import ActionBatch
from gpo_lightning.experience.advantages import (
    AdvantageEstimator,
    GroupMean,
    LeaveOneOut,
    generalised_advantages,
    returns_to_go,
    whiten,
)
from gpo_lightning.experience.labelled import LabelledBatch
from gpo_lightning.experience.overlong import punishment
from gpo_lightning.experience.preference import PairBatch
from gpo_lightning.losses import (
    CPO,
    DPO,
    IPO,
    KL,
    KTO,
    ORPO,
    RLOO,
    SFT,
    APODown,
    APOZero,
    APOZeroUnpaired,
    ClippedWeight,
    FixedLengthMean,
    HingeDPO,
    Loss,
    MaskedWeights,
    PolicyGradientLoss,
    ResponseMean,
    ResponseSum,
    RobustDPO,
    SequenceClip,
    SimPO,
    TokenClip,
    TokenMean,
    TruncatedWeights,
)
from gpo_lightning.losses.parts import Aggregation, ImportanceCorrection, Surrogate
from gpo_lightning.losses.ppo import value_loss
from tests.losses.conftest import FOLDER, compared

Case = dict[str, Any]

NOT_OFFERED = {
    "another way to scale or to sum rewards": (
        "trl_grpo_batch trl_grpo_two_rewards trl_grpo_normalize_then_sum trl_rloo_normalised"
    ),
    "whitening that keeps the mean": "masked_whiten_keeping_mean",
    "a k1 or k3 with k2's gradient": "kl_k1_straight_through kl_k3_straight_through",
    "weights made to have mean 1, rejection by KL": (
        "verl_token_truncate_normalised verl_reject_token_k1 verl_reject_seq_sum_k1 verl_reject_seq_mean_k1 "
        "verl_reject_seq_mean_k3 verl_reject_seq_max_k2 trl_off_policy_mask"
    ),
    "further relatives of DPO and CPO": (
        "dpo_nca_pair dpo_bco_pair dpo_sppo_hard dpo_sigmoid_norm dpo_sft dpo_exo_pair dpo_aot dpo_discopop "
        "dpo_with_sft dpo_length_desensitised cpo_hinge cpo_ipo simpo_smoothed cpo_simpo dft"
    ),
    "label smoothing that is ignored": "dpo_sigmoid_ignores_label_smoothing",
    "rounding to float32 on the way": "orpo_ratio_float32 orpo_float32",
}
OMITTED = {name for names in NOT_OFFERED.values() for name in names.split()}


def cases(family: str) -> list[Any]:
    found = json.loads((FOLDER / f"{family}.json").read_text())["cases"]
    return [pytest.param(c, id=f"{c['name']}-{c['seed']}") for c in found if c["name"] not in OMITTED]


def table(numbers: Any) -> Tensor:
    """Float64, NaN for null."""
    if numbers and isinstance(numbers[0], list):
        return torch.stack([table(row) for row in numbers])
    return torch.tensor([nan if x is None else float(x) for x in numbers], dtype=torch.float64)


def agree(
    case: Case, value: Tensor | None, inputs: dict[str, Tensor], outputs: dict[str, Tensor] | None = None
) -> None:
    """Value, gradient by every input named in the case, and outputs: within 1e-6."""
    pairs = [(found, table(case["outputs"][name])) for name, found in (outputs or {}).items()]
    if value is not None:
        names = list(case["gradients"])
        gradients = torch.autograd.grad(value, [inputs[name] for name in names])
        pairs += [(gradient, table(case["gradients"][n])) for n, gradient in zip(names, gradients, strict=True)]
        pairs.append((value.detach(), torch.tensor(case["value"], dtype=torch.float64)))
    gaps = [(found.detach() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3) for found, wanted in pairs]
    gap = float(max(gaps))
    source, number, worst = compared.get(case["name"], (case["source"], 0, 0.0))
    compared[case["name"]] = (source, number + 1, max(worst, gap))
    assert gap <= 1e-6


def rows_of(mask: Tensor, rollout_logprobs: Tensor | None = None) -> Rows:
    ids = torch.ones(mask.shape, dtype=torch.long)
    return Rows(ids, ids, mask, torch.zeros_like(mask) if rollout_logprobs is None else rollout_logprobs)


def leaf(numbers: Any) -> Tensor:
    return table(numbers).requires_grad_()


def test_every_case_is_compared_or_listed_as_not_offered() -> None:
    made = {c["name"] for file in FOLDER.glob("*.json") for c in json.loads(file.read_text())["cases"]}
    assert made >= OMITTED
    families = ("policy_gradient", "divergence", "value", "advantages", "corrections", "preference", "unpaired")
    taken = {case.values[0]["name"] for family in (*families, "supervised") for case in cases(family)}
    assert made == taken | OMITTED


# ---- policy gradient ------------------------------------------------------------------------------------------------

AVERAGES: dict[str, Aggregation] = {
    "grpo": ResponseMean(),
    "bnpo": TokenMean(),
    "dapo": TokenMean(),
    "cispo": TokenMean(),
    "rloo": ResponseMean(),
    "token-mean": TokenMean(),
    "seq-mean-token-sum": ResponseSum(),
    "seq-mean-token-sum-norm": ResponseSum(),
    "seq-mean-token-mean": ResponseMean(),
    "token-sum": ResponseSum(),
}


def trl_loss(settings: Case, rloo: bool = False) -> PolicyGradientLoss:
    low, high = settings["epsilon"], settings.get("epsilon_high") or settings["epsilon"]
    kind = settings.get("loss_type", "rloo")
    surrogate: Surrogate = TokenClip(low, high, settings.get("delta"))
    if kind == "cispo":
        surrogate = ClippedWeight(0.0, high)
    elif kind == "rloo":
        surrogate = SequenceClip(low, high, ratio_of="sum")
    elif settings.get("importance_sampling_level") == "sequence":
        surrogate = SequenceClip(low, high)
    average = FixedLengthMean(settings["max_completion_length"]) if kind == "dr_grpo" else AVERAGES[kind]
    kl = KL(settings.get("beta", 0.0) if kind != "rloo" else 0.0, weighted=settings.get("use_bias_correction_kl", True))
    return PolicyGradientLoss(surrogate, average, kl, correction_of(settings))


def correction_of(settings: Case) -> ImportanceCorrection | None:
    mode = settings.get("vllm_importance_sampling_mode")
    if mode is not None:
        level, kind = mode.split("_")
        made = {"truncate": TruncatedWeights, "mask": MaskedWeights}[kind]
        floor = settings["vllm_importance_sampling_clip_min"] or 0.0
        return made(level, settings["vllm_importance_sampling_clip_max"], floor)
    if "rollout_is" in settings:
        bounds = str(settings["rollout_is_threshold"]).split("_")
        if len(bounds) == 2:
            return MaskedWeights(settings["rollout_is"], float(bounds[1]), float(bounds[0]))
        return TruncatedWeights(settings["rollout_is"], float(bounds[0]))
    return None


def verl_loss(case: Case) -> PolicyGradientLoss:
    settings = case["settings"]
    if "policy_loss_type" in settings:  # OpenRLHF
        low, high = settings["clip_eps_low"], settings["clip_eps_high"]
        by_token = settings["token_level_loss"]
        if settings["policy_loss_type"] == "gspo":
            return PolicyGradientLoss(SequenceClip(low, high), ResponseMean())
        return PolicyGradientLoss(
            TokenClip(low, high, settings["dual_clip"]), TokenMean() if by_token else ResponseMean()
        )
    low = settings["clip_ratio_low"] or settings["clip_ratio"]
    high = settings["clip_ratio_high"] or settings["clip_ratio"]
    surrogate: Surrogate = TokenClip(low, high, settings["clip_ratio_c"])
    if "gspo" in case["name"]:
        surrogate = SequenceClip(low, high)
    elif "cispo" in case["name"]:
        surrogate = ClippedWeight(1 - low, 1 + high)
    return PolicyGradientLoss(
        surrogate, AVERAGES[settings["loss_agg_mode"]], importance_correction=correction_of(settings)
    )


def trl_normaliser(settings: Case, loss: PolicyGradientLoss, mask: Tensor) -> float:
    if "num_items_in_batch" in settings:
        share = settings.get("current_gradient_accumulation_steps", 1) / settings["steps_per_generation"]
        return settings["num_items_in_batch"] / settings.get("num_processes", 1) * share
    weight = sum(loss.aggregation.weight(example(int(row.sum()))) for row in mask)
    return weight * settings.get("current_gradient_accumulation_steps", 1)


def verl_normaliser(settings: Case, loss: PolicyGradientLoss, mask: Tensor) -> float:
    """verl leaves responses without a token out of means over responses; with us there are none."""
    mode, processes = settings.get("loss_agg_mode"), settings.get("dp_size", 1)
    if mode == "token-sum":
        return 1.0
    if "batch_num_tokens" in settings:
        return settings["batch_num_tokens"] / processes
    if "global_batch_size" in settings:
        return settings["global_batch_size"] / processes
    if mode == "seq-mean-token-sum-norm":
        return float((mask.sum(-1) > 0).sum()) * mask.shape[-1]
    return sum(loss.aggregation.weight(example(int(row.sum()))) for row in mask if row.any())


def example(tokens: int) -> Any:
    from gpo_lightning.experience.actions import ActionExample

    return ActionExample(Row((1,), (2,) * tokens), (0.0,) * tokens)


@pytest.mark.parametrize("case", [*cases("policy_gradient"), *cases("corrections")])
def test_policy_gradient(case: Case) -> None:
    given, settings = case["inputs"], case["settings"]
    mask, logprobs, advantages = table(given["mask"]), leaf(given["logprobs"]), table(given["advantages"])
    old = table(given["behaviour"])
    engine = table(given["sampler"]) if "sampler" in given else old
    trl = case["source"].startswith("trl")
    loss = trl_loss(settings) if trl else verl_loss(case)
    normaliser = (trl_normaliser if trl else verl_normaliser)(settings, loss, mask)
    spread = advantages if advantages.ndim == 2 else advantages[:, None].expand_as(mask)
    reference = table(given["reference"]) if given["reference"] else None
    prior = Scores(old, reference) if loss.importance_correction is not None else None
    rows = rows_of(mask, engine)
    batch = ActionBatch(rows, (normaliser,), spread * mask, spread[:, 0], mask[:, 0], old_scores=prior)
    (total,) = loss(Scores(logprobs, reference), batch).sums
    if case["name"].startswith("rloo"):
        # A response without a token has no action and no loss here; trl counts its advantage, which is a constant.
        total = total - advantages[mask.sum(-1) == 0].sum()
    outputs: dict[str, Tensor] = {}
    if loss.importance_correction is not None:
        weights = loss.importance_correction.weights(old, engine, mask)
        wanted = table(case["outputs"]["importance_sampling_ratio"])
        outputs["importance_sampling_ratio"] = torch.where(mask > 0, weights, wanted)
    agree(case, total / normaliser, {"logprobs": logprobs}, outputs)


@pytest.mark.parametrize("case", cases("divergence"))
def test_kl_estimates(case: Case) -> None:
    given = case["inputs"]
    mask, logprobs = table(given["mask"]), leaf(given["logprobs"])
    kind = case["settings"]["kl_penalty"]
    limit = 10.0 if kind == "k3" else None
    estimate = KL(1.0, kind, limit=limit).estimate(logprobs, table(given["reference"]))
    agree(case, (estimate * mask).sum() / mask.sum(), {"logprobs": logprobs}, {"per_token": estimate})


@pytest.mark.parametrize("case", cases("value"))
def test_value_loss(case: Case) -> None:
    given, settings = case["inputs"], case["settings"]
    mask, values = table(given["mask"]), leaf(given["values"])
    clip = settings.get("cliprange_value") or settings["clip_eps"]
    losses = value_loss(values, table(given["old_values"]), table(given["returns"]), clip)
    average = AVERAGES[settings.get("loss_agg_mode", "token-mean")]
    weight = sum(average.weight(example(int(row.sum()))) for row in mask if row.any())
    agree(case, average.sum(losses, mask) / weight, {"values": values})


# ---- advantages -----------------------------------------------------------------------------------------------------


def by_group(estimator: AdvantageEstimator, rewards: Sequence[float], groups: Sequence[Any]) -> Tensor:
    made = [0.0] * len(rewards)
    for group in set(groups):
        places = [i for i, number in enumerate(groups) if number == group]
        for i, advantage in zip(
            places, estimator.advantages([None if isnan(rewards[i]) else rewards[i] for i in places]), strict=True
        ):
            made[i] = advantage
    return torch.tensor(made, dtype=torch.float64)


def trl_advantages(case: Case, estimator: AdvantageEstimator) -> dict[str, Tensor]:
    rewards = table(case["inputs"]["rewards_per_func"])[:, 0]
    groups = [i // case["settings"]["num_generations"] for i in range(len(rewards))]
    return {"advantages": by_group(estimator, rewards.tolist(), groups)}


def trl_rloo_advantages(case: Case) -> dict[str, Tensor]:
    """The KL taken from the reward, by the loss itself."""
    given, settings = case["inputs"], case["settings"]
    mask, rewards = table(given["mask"]), table(given["rewards_per_func"])[:, 0]
    groups = torch.arange(len(rewards)) // settings["num_generations"]
    loss = RLOO(kl=KL(settings["beta"], "k1", "reward"))
    prior = Scores(table(given["behaviour"]), table(given["reference"]))
    batch = ActionBatch(rows_of(mask), (1.0,), mask * 0, rewards, groups, old_scores=prior)
    if settings["beta"] == 0:
        return trl_advantages(case, LeaveOneOut())
    penalised = rewards - loss.penalties(batch).sum(-1)
    direct = by_group(LeaveOneOut(), penalised.tolist(), groups.tolist())
    # What was not graded never reaches a batch.
    graded = ~rewards.isnan()
    batch = ActionBatch(rows_of(mask[graded]), (1.0,), mask[graded] * 0, rewards[graded], groups[graded])
    (made,) = loss.default_experience().reestimate([batch], [penalised[graded]])  # type: ignore[attr-defined]
    assert torch.allclose(made.advantages, direct[graded, None] * mask[graded])
    return {"advantages": direct}


def verl_group_advantages(case: Case, estimator: AdvantageEstimator, whitened: bool = False) -> dict[str, Tensor]:
    """A group of one has no advantage with us, since nothing can be said of it; verl leaves it its reward."""
    given = case["inputs"]
    mask, groups = table(given["mask"]), given["groups"]
    wanted = table(case["outputs"]["advantages"])
    alone = torch.tensor([groups.count(group) == 1 for group in groups])
    made = by_group(estimator, given["rewards"], groups).where(~alone, table(given["rewards"]))[:, None] * mask
    if whitened:
        (made,) = whiten([made], [mask])
    compared_here = (mask > 0) & (~alone[:, None] | whitened)
    return {"advantages": made.where(compared_here, wanted)}


def token_advantages(case: Case) -> dict[str, Tensor]:
    given, settings = case["inputs"], case["settings"]
    mask, rewards = table(given["mask"]), table(given["token_rewards"])
    if case["name"] == "gae":
        made, returns = generalised_advantages(
            rewards, table(given["values"]), mask, settings["gamma"], settings["lam"]
        )
    else:
        made = returns = returns_to_go(rewards, mask, settings["gamma"])
    (white,) = whiten([made], [mask])
    wanted = {name: table(numbers) for name, numbers in case["outputs"].items()}
    return {
        "advantages": torch.where(mask > 0, white, wanted["advantages"]),
        "returns": torch.where(mask > 0, returns, wanted["returns"]),
    }


def whitened(case: Case) -> dict[str, Tensor]:
    mask = table(case["inputs"]["mask"])
    (made,) = whiten([table(case["inputs"]["values"])], [mask])
    return {"whitened": torch.where(mask > 0, made, table(case["outputs"]["whitened"]))}


def overlong(case: Case) -> dict[str, Tensor]:
    limit, cache = case["settings"]["max_completion_len"], case["settings"]["soft_punish_cache"]
    made = [punishment(int(length), limit, cache) for length in case["inputs"]["lengths"]]
    return {"rewards": torch.tensor(made, dtype=torch.float64)}


ADVANTAGES: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    "trl_grpo_group": partial(trl_advantages, estimator=GroupMean()),
    "trl_grpo_none": partial(trl_advantages, estimator=GroupMean(scale=False)),
    "trl_rloo": trl_rloo_advantages,
    "trl_rloo_kl": trl_rloo_advantages,
    "verl_grpo": partial(verl_group_advantages, estimator=GroupMean(epsilon=1e-6)),
    "verl_grpo_equal_rewards": partial(verl_group_advantages, estimator=GroupMean(epsilon=1e-6)),
    "verl_grpo_unscaled": partial(verl_group_advantages, estimator=GroupMean(scale=False)),
    "verl_rloo": partial(verl_group_advantages, estimator=LeaveOneOut()),
    "reinforce_plus_plus_baseline": partial(verl_group_advantages, estimator=GroupMean(scale=False), whitened=True),
    "reinforce_plus_plus": token_advantages,
    "gae": token_advantages,
    "masked_whiten": whitened,
    "overlong_20_5": overlong,
    "overlong_8_8": overlong,
}


@pytest.mark.parametrize("case", cases("advantages"))
def test_advantages(case: Case) -> None:
    agree(case, None, {}, ADVANTAGES[case["name"]](case))


# ---- pairs, labels, demonstrations ----------------------------------------------------------------------------------


def preference_loss(case: Case) -> Loss:
    settings, name = case["settings"], case["name"].removesuffix("_empty_rejected")
    beta, smoothing = settings["beta"], settings.get("label_smoothing", 0.0)
    return {
        "dpo": lambda: DPO(beta),
        "dpo_hinge": lambda: HingeDPO(beta),
        "dpo_ipo": lambda: IPO(beta),
        "dpo_apo_zero": lambda: APOZero(beta),
        "dpo_apo_down": lambda: APODown(beta),
        "dpo_robust": lambda: RobustDPO(beta, smoothing),
        "openrlhf_dpo": lambda: DPO(beta),
        "openrlhf_cdpo": lambda: DPO(beta, smoothing),
        "openrlhf_ipo": lambda: IPO(beta, per_token=False),
        "cpo": lambda: CPO(beta, smoothing, settings["cpo_alpha"]),
        "cpo_without_nll": lambda: CPO(beta, smoothing, settings["cpo_alpha"]),
        "cpo_smoothed": lambda: CPO(beta, smoothing, settings["cpo_alpha"]),
        "simpo": lambda: SimPO(beta, settings["simpo_gamma"]),
        "simpo_trl_defaults": lambda: SimPO(beta, settings["simpo_gamma"]),
        "orpo_ratio": lambda: ORPO(beta),
        "orpo": lambda: ORPO(beta, likelihood="prompt_and_response"),
    }[name]()


@pytest.mark.parametrize("case", cases("preference"))
def test_preference(case: Case) -> None:
    given = case["inputs"]
    inputs = {side: leaf(given[side]) for side in ("chosen", "rejected")}
    masks = [table(given[f"{side}_mask"]) for side in inputs]
    prompts = {side: leaf(given[f"prompt_{side}"]) for side in inputs if f"prompt_{side}" in given}
    mask, logprobs = torch.cat(masks), torch.cat(list(inputs.values()))
    attention = mask
    if prompts:
        prompt = torch.cat(list(prompts.values()))
        mask, logprobs = torch.cat([prompt.detach() * 0, mask], 1), torch.cat([prompt, logprobs], 1)
        attention = torch.cat([torch.ones_like(prompt), attention], 1)
    reference = None
    if "reference_chosen" in given:
        reference = torch.cat([table(given[f"reference_{side}"]) for side in inputs])
    loss = preference_loss(case)
    rows = Rows(attention.long(), attention.long(), mask, mask * 0)
    pairs = len(masks[0])
    terms = loss(Scores(logprobs, reference), PairBatch(rows, (float(pairs),)))
    value = terms.sums[0] / pairs
    if isinstance(loss, CPO):
        value = value + terms.sums[1] / masks[0].sum()
    elif case["name"] == "orpo":
        value = value + terms.sums[1] / attention[:pairs].sum()
    agree(case, value, inputs | {f"prompt_{side}": prompt for side, prompt in prompts.items()})


@pytest.mark.parametrize("case", cases("unpaired"))
def test_labelled(case: Case) -> None:
    given, settings = case["inputs"], case["settings"]
    mask, logprobs = table(given["mask"]), leaf(given["logprobs"])
    weights = (settings["desirable_weight"], settings["undesirable_weight"])
    kind = APOZeroUnpaired if settings["loss_type"] == "apo_zero_unpaired" else KTO
    loss = kind(settings["beta"], *weights)
    drift = (table(given["kl_logprobs"]) - table(given["kl_reference"])) * table(given["kl_mask"])
    right = table(given["desirable_mask"]).bool()
    scores = Scores(logprobs, table(given["reference"]), divergence=drift.sum(-1).mean())
    (total,) = loss(scores, LabelledBatch(rows_of(mask), (1.0,), right)).sums
    # A response without a token is no response here; trl counts it, with a log-ratio of 0.
    empty = torch.zeros((), dtype=torch.float64)
    for i in (mask.sum(-1) == 0).nonzero().flatten().tolist():
        label = right[i : i + 1]
        weight = weights[0] if bool(label) else weights[1]
        empty = empty + loss.response_losses(mask[i : i + 1].sum(-1), label, scores.divergence).sum() * weight  # type: ignore[arg-type]
    agree(case, (total + empty) / len(mask), {"logprobs": logprobs})


@pytest.mark.parametrize("case", cases("supervised"))
def test_supervised(case: Case) -> None:
    mask, logprobs = table(case["inputs"]["mask"]), leaf(case["inputs"]["logprobs"])
    (total,) = SFT()(Scores(logprobs), Batch(rows_of(mask), (1.0,))).sums
    settings = case["settings"]
    items = settings["num_items_in_batch"] or float(mask.sum())
    agree(case, total / items * settings["num_processes"], {"logprobs": logprobs})
