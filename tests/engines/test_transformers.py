import pytest
import torch

from gpo_lightning.engines import Purpose, Request, Sampling, Transformers
from gpo_lightning.engines.engine import remaining_tokens
from gpo_lightning.errors import EngineError
from gpo_lightning.policy import Policy

PROMPTS = [(40, 107, 101, 8, 105, 100), (3, 107, 103, 6, 108, 101, 9, 105, 100), (50, 107, 101, 4, 105, 100)]


def request(prefix: tuple[int, ...], seed: int, temperature: float = 1.0, top_p: float = 1.0) -> Request:
    return Request(prefix, 12, Sampling(12, temperature, top_p), Purpose.SAMPLE, seed)


def engine(policy: Policy, batch_size: int = 64) -> Transformers:
    started = Transformers(batch_size)
    started.start(policy)
    return started


def test_tokens_do_not_depend_on_what_else_is_in_the_batch(tiny_policy: Policy) -> None:
    requests = [request(PROMPTS[i % 3], seed=i) for i in range(9)]
    together = engine(tiny_policy).generate(requests)
    alone = [engine(tiny_policy, 1).generate([r])[0] for r in requests]
    assert [c.tokens for c in together] == [c.tokens for c in alone]


def test_greedy_takes_the_likeliest_token_and_nothing_else(tiny_policy: Policy) -> None:
    first, second = engine(tiny_policy).generate([request(PROMPTS[0], seed, temperature=0.0) for seed in (1, 2)])
    assert first.tokens == second.tokens
    ids = torch.tensor([PROMPTS[0] + first.tokens])
    with torch.no_grad():
        logits = tiny_policy.causal_lm(ids).logits[0, len(PROMPTS[0]) - 1 : -1]
    assert logits.argmax(-1).tolist() == list(first.tokens)


def test_sampling_follows_the_distribution(tiny_policy: Policy) -> None:
    """The first token of 2,000 draws against its probabilities."""
    sampled = engine(tiny_policy, 500).generate(
        [Request(PROMPTS[0], 1, Sampling(1), Purpose.SAMPLE, seed) for seed in range(2000)]
    )
    with torch.no_grad():
        expected = tiny_policy.causal_lm(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([c.tokens[0] for c in sampled]), minlength=len(expected)) / 2000
    assert (counts - expected).abs().max() < 4 * (0.25 / 2000) ** 0.5


def test_shared_prefixes_are_computed_once_and_everything_is_booked(tiny_policy: Policy) -> None:
    subject = engine(tiny_policy)
    made = subject.generate([request(PROMPTS[0], seed) for seed in range(4)] + [request(PROMPTS[1], 9)])
    tokens = subject.ledger.accounts[Purpose.SAMPLE]
    assert tokens.requests == 5
    assert tokens.generated == sum(len(c.tokens) for c in made)
    assert tokens.prefilled == len(PROMPTS[0]) + len(PROMPTS[1])
    assert tokens.cached == 3 * len(PROMPTS[0])


def test_a_cancelled_request_is_never_polled(tiny_policy: Policy) -> None:
    subject = engine(tiny_policy)
    kept, dropped = subject.submit(request(PROMPTS[0], 0)), subject.submit(request(PROMPTS[0], 1))
    subject.cancel(dropped)
    assert [c.handle for c in subject.poll()] == [kept]
    assert subject.poll() == []


def test_truncation_is_reported(tiny_policy: Policy) -> None:
    (made,) = engine(tiny_policy).generate([Request(PROMPTS[0], 1, Sampling(1), Purpose.SAMPLE, 0)])
    assert made.truncated == (made.tokens[-1] not in tiny_policy.eos_ids)


def test_an_engine_that_was_not_started_says_so() -> None:
    with pytest.raises(EngineError, match="started"):
        _ = Transformers().capabilities


@pytest.mark.parametrize(("response", "room"), [(0, 10), (4, 6), (10, 0)])
def test_a_continuation_gets_what_its_prefix_left_of_the_budget(response: int, room: int) -> None:
    assert remaining_tokens(Sampling(max_tokens=10), (1, 2, 3), (0,) * response, context=100) == room
    assert remaining_tokens(Sampling(max_tokens=10), (1, 2, 3), (0,) * response, context=8) == min(room, 5 - response)
