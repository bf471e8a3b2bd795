"""From a problem to the token ids the policy reads: the one place where text becomes prompt tokens."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Problem


def encode_prompt(problem: Problem, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of the prompt: chat turns through the chat template, plain text as it is.

    Raises:
        ConfigError: chat turns, but the tokenizer has no chat template.
    """
    if not problem.messages:
        return _encode(problem, problem.prompt or "", tokenizer, special=True)
    if not tokenizer.chat_template:
        raise ConfigError(
            f"data.problems asks in chat turns (problem {problem.id!r}), but the tokenizer of model.policy.base="
            f"{tokenizer.name_or_path!r} has no chat template. Choose an instruction-tuned base model, or a problem "
            "source that asks in plain text."
        )
    turns = [asdict(message) for message in problem.messages]
    ids = cast(Any, tokenizer).apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, **problem.template_options
    )
    return tuple(ids["input_ids"])


def encode_solution(problem: Problem, tokenizer: Tokenizer, eos_id: int) -> tuple[int, ...] | None:
    """Token ids of the reference solution, closed by end-of-sequence; ``None`` where the problem has none."""
    if problem.solution is None:
        return None
    return (*_encode(problem, problem.solution, tokenizer, special=False), eos_id)


def encode_steps(steps: Sequence[str], tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of a response given step by step, and the ``[n + 1]`` offsets at which its steps begin and end.

    Every step is encoded by itself, so that steps end where tokens end. Steps without a token are dropped.
    """
    tokens: list[int] = []
    boundaries = [0]
    for step in steps:
        tokens.extend(tokenizer.encode(step, add_special_tokens=False))
        if len(tokens) > boundaries[-1]:
            boundaries.append(len(tokens))
    return tuple(tokens), tuple(boundaries)


def _encode(problem: Problem, text: str, tokenizer: Tokenizer, special: bool) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode(text, add_special_tokens=special))
    except Exception as error:  # a tokenizer without an unknown token raises a bare Exception
        raise ConfigError(
            f"data.problems: the tokenizer of model.policy.base={tokenizer.name_or_path!r} cannot encode problem "
            f"{problem.id!r}: {error}. The embedded model `tiny` only knows data.problems=ModularChains."
        ) from error
