"""What every engine must do with a :class:`Sampling`, by the definitions, one token at a time."""

from math import exp, log

import torch

from gpo_lightning.engines import Completion, Engine, Purpose, Request, Sampling
from gpo_lightning.policy import Policy

PREFIX = (40, 107, 101, 8, 108, 103, 6, 105, 100)
SHAPES = {
    "temperature": Sampling(16, temperature=0.6),
    "top_p": Sampling(16, top_p=0.7),
    "top_k": Sampling(16, temperature=1.3, top_k=3),
    "min_p": Sampling(16, temperature=1.5, min_p=0.1),
    "repetition_penalty": Sampling(16, repetition_penalty=1.5),
    "all": Sampling(16, 1.2, top_p=0.9, top_k=12, min_p=0.01, repetition_penalty=1.1),
    "greedy": Sampling(16, temperature=0.0, top_p=0.5, repetition_penalty=1.3),
}


def reference(logits: list[float], sampling: Sampling, seen: set[int]) -> dict[int, float]:
    """Probabilities of the tokens that are kept, by the definitions, one token at a time."""
    penalty = sampling.repetition_penalty
    scores = {
        token: (score / penalty if score > 0 else score * penalty) if token in seen else score
        for token, score in enumerate(logits)
    }
    if sampling.temperature == 0:
        return normalised(scores)
    kept = normalised({token: score / sampling.temperature for token, score in scores.items()})
    likeliest = max(kept.values())
    kept = {token: p for token, p in kept.items() if p >= sampling.min_p * likeliest}
    order = sorted(kept, key=lambda token: -kept[token])
    order = order[: sampling.top_k or None]
    total, mass, nucleus = sum(kept[token] for token in order), 0.0, list[int]()
    for token in order:
        if mass / total < sampling.top_p:
            nucleus.append(token)
        mass += kept[token]
    return normalised({token: log(kept[token]) for token in nucleus})


def normalised(scores: dict[int, float]) -> dict[int, float]:
    highest = max(scores.values())
    weights = {token: exp(score - highest) for token, score in scores.items()}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


def gap(policy: Policy, request: Request, completion: Completion) -> float:
    """Largest difference of log-probs between an engine's completion and the definitions, by the policy's logits."""
    whole = request.prefix + completion.tokens
    with torch.no_grad():
        logits = policy.causal_lm(torch.tensor([whole])).logits[0].double()
    gaps: list[float] = []
    for place, (token, said) in enumerate(zip(completion.tokens, completion.logprobs, strict=True)):
        context = whole[: len(request.prefix) + place]
        kept = reference(logits[len(context) - 1].tolist(), request.sampling, set(context))
        assert token in kept, "a token was drawn that had been cut away"
        gaps.append(abs(log(kept[token]) - said))
    return max(gaps)


def check_log_probs(engine: Engine, policy: Policy) -> None:
    """Log-probs are those of the distribution drawn from."""
    policy.eval()
    asked = [Request(PREFIX, 16, how, Purpose.SAMPLE, seed) for how in SHAPES.values() for seed in range(3)]
    made = engine.generate(asked)  # all in one batch: no row is drawn by another's settings
    for request, completion in zip(asked, made, strict=True):
        assert gap(policy, request, completion) < 1e-3, request.sampling


def check_stop_texts(engine: Engine, policy: Policy) -> None:
    """A stop text ends a response with the token that completes it."""
    how = Sampling(60, temperature=0.0)
    (whole,) = engine.generate([Request(PREFIX, 60, how, Purpose.SAMPLE, 0)])
    text = policy.tokenizer.decode(list(whole.tokens), skip_special_tokens=True)
    assert len(text) > 8, "the text is too short for this test"
    stop = text[3:6]
    asked = [
        Request(PREFIX, 60, Sampling(60, 0.0, stop=[stop, "never there"]), Purpose.SAMPLE, 0),
        Request(PREFIX, 60, how, Purpose.SAMPLE, 0),
    ]
    cut, other = engine.generate(asked)
    assert other.tokens == whole.tokens
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    said = [policy.tokenizer.decode(list(cut.tokens[:end])) for end in (len(cut.tokens) - 1, len(cut.tokens))]
    assert (stop in said[0], stop in said[1]) == (False, True)
    assert not cut.truncated
    assert len(cut.logprobs) == len(cut.tokens)
    (at_limit,) = engine.generate([Request(PREFIX, len(cut.tokens), asked[0].sampling, Purpose.SAMPLE, 0)])
    assert not at_limit.truncated, "it ended by itself, if only just"
    assert engine.poll() == [], "what is stopped is not generated further"


def check_stop_tokens(engine: Engine) -> None:
    """A stop token ends a response."""
    (whole,) = engine.generate([Request(PREFIX, 16, Sampling(16, 0.0), Purpose.SAMPLE, 0)])
    stop = whole.tokens[4]
    (cut,) = engine.generate([Request(PREFIX, 16, Sampling(16, 0.0, stop_token_ids=[stop]), Purpose.SAMPLE, 0)])
    assert cut.tokens == whole.tokens[: whole.tokens.index(stop) + 1]
    assert not cut.truncated
