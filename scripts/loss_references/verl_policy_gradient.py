"""What verl makes of a policy gradient: PPO with its dual clip, GSPO and CISPO."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from .case import Case, Inputs, Reference, Settings
from .draws import TOKENS, Draw, every, mask_bites, once
from .libraries import VERL, ActorConfig, verl
from .responses import MEAN, clips, over_tokens, responses

AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")


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
        A = over_tokens(advantages, mask)
        return function(behaviour, logprobs, A, mask, loss_agg_mode, config, rollout_is_weights=rollout_is_weights)[0]

    source = f"{VERL} verl/trainer/ppo/core_algos.py::{function.__name__}"
    return Reference(name, source, loss, shown | {"loss_agg_mode": loss_agg_mode, **(batch or {})}, compute)


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
    A = over_tokens(advantages, mask)
    logs = torch.where(mask.bool(), logprobs - behaviour, 0.0)
    sides = (logs > 10, logs < -10)
    return all((sign & side).any() for sign, side in product((A > 0, A < 0), sides)) and mask_bites(mask)


def verl_policy_gradient() -> Iterator[Case]:
    make, holes = partial(responses, by_token=True, spread=1.0), partial(responses, by_token=True, holes=True)
    dual = clips(0.2, 0.2, cap=3.0)
    for mode in AGGREGATIONS:
        ppo = verl_policy(f"ppo_{mode.replace('-', '_')}", "vanilla", mode)
        yield from every(ppo, partial(holes, spread=1.0), dual)
    asymmetric = {"clip_ratio_low": 0.1, "clip_ratio_high": 0.28, "clip_ratio_c": 2.0}
    yield from once(verl_policy("ppo_asymmetric", "vanilla", **asymmetric), make, clips(0.1, 0.28, cap=2.0))
    for name, mode, batch in (
        ("ppo_global_token_mean", "token-mean", {"dp_size": 2, "batch_num_tokens": 61}),
        ("ppo_global_seq_mean", "seq-mean-token-mean", {"dp_size": 2, "global_batch_size": 9}),
    ):
        yield from once(verl_policy(name, "vanilla", mode, batch), make, dual)
    yield from every(verl_policy("ppo_far", "vanilla"), partial(far, by=25.0), far_bites)

    rows = partial(responses, rows=7, spread=0.4, holes=True)
    yield from every(verl_policy("verl_gspo", "gspo", "seq-mean-token-mean"), rows, clips(0.2, 0.2, level=MEAN))
    clamped = verl_policy("verl_gspo_clamped", "gspo", "seq-mean-token-mean")
    yield from every(clamped, partial(far, by=12.0, whole_rows=True), far_bites)
    yield from every(verl_policy("verl_cispo", "cispo"), holes, clips(0.2, 0.2))
