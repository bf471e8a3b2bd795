"""How tokens are drawn: the same on all engines, with the log-probs of the distribution that was drawn from."""

from itertools import pairwise
from math import exp, log
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from gpo_lightning.engines import Completion, Purpose, Request, Sampling, Scripted, Transformers
from gpo_lightning.engines.drawing import draw
from gpo_lightning.errors import ConfigError
from gpo_lightning.losses import DPO, GRPO, SFT, Loss
from gpo_lightning.losses.parts import TruncatedWeights
from gpo_lightning.policy import Policy
from tests.engines.definitions import check_log_probs, check_stop_texts, check_stop_tokens, reference


def test_the_engine_draws_by_the_definitions(tiny_policy: Policy) -> None:
    engine = Transformers()
    engine.start(tiny_policy)
    check_log_probs(engine, tiny_policy)
    check_stop_texts(engine, tiny_policy)
    check_stop_tokens(engine)


@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=12, unique=True),
    st.floats(0.2, 3),
    st.floats(0.05, 1),
    st.integers(0, 6),
    st.floats(0, 0.5),
    st.floats(0.8, 2),
    st.floats(0, 0.999),
)
def test_any_shape_is_what_the_definitions_say(
    logits: list[float], temperature: float, top_p: float, top_k: int, min_p: float, penalty: float, luck: float
) -> None:
    how = Sampling(8, temperature, top_p, top_k, min_p, penalty)
    likely = sorted(reference(logits, Sampling(8, temperature, repetition_penalty=penalty), {0}).values())
    assume(all(above - below > 1e-9 for below, above in pairwise(likely)))  # of equals, any may be kept
    ids, logprobs = draw(torch.tensor([logits]).double(), torch.tensor([luck]).double(), [how], [(0,)])
    kept = reference(logits, how, {0})
    token = int(ids)
    if token not in kept or abs(log(kept[token]) - float(logprobs)) > 1e-6:
        # On the very edge of a threshold rounding may decide either way.
        nudged = [
            reference(logits, Sampling(8, temperature, top_p + e, top_k, min_p * (1 + e), penalty), {0})
            for e in (1e-9, -1e-9)
        ]
        assert any(token in each and abs(log(each[token]) - float(logprobs)) < 1e-6 for each in nudged)


def test_a_script_is_reshaped_alike() -> None:
    engine = Scripted(lambda prefix: {5: 0.5, 6: 0.3, 7: 0.15, 2: 0.05}, eos=2, tokenizer=Letters())

    def ask(how: Sampling, count: int = 300) -> list[Completion]:
        return engine.generate([Request((1,), 1, how, Purpose.SAMPLE, seed) for seed in range(count)])

    cold = ask(Sampling(1, temperature=0.5, top_k=2))
    share = 0.25 / (0.25 + 0.09)
    assert {completion.tokens for completion in cold} == {(5,), (6,)}
    assert sum(completion.tokens == (5,) for completion in cold) / 300 == pytest.approx(share, abs=0.08)
    assert {round(exp(c.logprobs[0]), 6) for c in cold} == {round(share, 6), round(1 - share, 6)}
    assert {c.tokens for c in ask(Sampling(1, temperature=0.0), 5)} == {(5,)}
    (stopped,) = engine.generate([Request((1,), 90, Sampling(90, 0.0, stop="fff"), Purpose.SAMPLE, 0)])
    assert (len(stopped.tokens), stopped.truncated) == (3, False)
    without = Scripted(lambda prefix: {5: 1.0}, eos=2)
    without.submit(Request((1,), 9, Sampling(9, stop="fff"), Purpose.SAMPLE, 0))
    with pytest.raises(ConfigError, match="tokenizer"):
        without.poll()


class Letters:
    """Token 5 is "f"."""

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(chr(ord("a") + token) for token in tokens)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Sampling(top_p=0.0), "top_p is 0"),
        (Sampling(top_k=-1), "top_k is -1"),
        (Sampling(min_p=1.5), "min_p is 1.5"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty is 0"),
        (Sampling(temperature=float("inf")), "temperature is inf"),
        (Sampling(temperature=float("nan")), "temperature is nan"),
        (Sampling(probe_temperature=0.0), "probe_temperature is 0"),
        (Sampling(reset_temperature=-1.0), "reset_temperature is -1"),
        (Sampling(stop=[""]), "stop is"),
        (Sampling(stop_token_ids=[-2]), "stop_token_ids is"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_its_key(how: Sampling, message: str) -> None:
    with pytest.raises(ConfigError, match=f"data.sampling: {message}"):
        how.checked("data.sampling")


def test_phases_have_temperatures_of_their_own() -> None:
    how = Sampling(9, 1.0, probe_temperature=0.5, reset_temperature=1.2, stop="x")
    assert [how.of(p).temperature for p in (Purpose.SAMPLE, Purpose.PROBE, Purpose.RESET)] == [1.0, 0.5, 1.2]
    assert how.of(Purpose.PROBE).stop == ("x",), "one text may be given as it is"
    assert Sampling(9, 0.8).of(Purpose.PROBE).temperature == 0.8


@pytest.mark.parametrize(
    "reshaped",
    [
        Sampling(top_p=0.9),
        Sampling(top_k=20),
        Sampling(min_p=0.1),
        Sampling(repetition_penalty=1.1),
        Sampling(reset_temperature=0.7),
    ],
)
@pytest.mark.parametrize("loss", [GRPO(), GRPO(importance_correction=TruncatedWeights()), DPO(), SFT()])
def test_a_loss_whose_ratios_would_be_wrong_refuses(loss: Loss, reshaped: Sampling) -> None:
    loss.check_sampling(Sampling(temperature=0.7, probe_temperature=0.7, stop="x"))
    if loss == GRPO():
        with pytest.raises(ConfigError, match=r"importance_correction.*TruncatedWeights"):
            loss.check_sampling(reshaped)
    else:
        loss.check_sampling(reshaped)
