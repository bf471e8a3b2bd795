"""From a problem to the token ids the policy reads: the one place where text becomes prompt tokens."""

from collections.abc import Collection, Sequence
from typing import cast

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.chat_template import render_prompt, turn_end
from gpo_lightning.problems.problem import Problem, named


def encode_prompt(problem: Problem, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of the prompt: chat turns through the chat template, plain text as it is.

    Raises:
        ConfigError: the tokenizer has no chat template for chat turns, or it refuses them or drops words of theirs, or
            it cannot encode the text.
    """
    if not problem.messages:
        return _open(_encode(problem, problem.prompt or "", tokenizer), problem.prompt or "", tokenizer)
    return _encode(problem, render_prompt(problem, tokenizer), tokenizer)


def encode_solution(problem: Problem, tokenizer: Tokenizer, eos_ids: Collection[int]) -> tuple[int, ...] | None:
    """Token ids of the reference solution and of what ends it; ``None`` where the problem has none.

    An answer to chat turns ends as the chat template ends an assistant's turn, a plain text with the tokenizer's own
    end of sequence.

    Args:
        problem: with its solution.
        tokenizer: of the policy.
        eos_ids: every id that ends a response.
    """
    if problem.solution is None:
        return None
    end = turn_end(tokenizer, eos_ids, problem.messages, problem.template_options) if problem.messages else ()
    if not end:
        own = cast("int | None", tokenizer.eos_token_id)
        end = (next(iter(eos_ids)) if own is None else own,)
    return (*_encode(problem, problem.solution, tokenizer), *end)


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


def _open(bare: tuple[int, ...], text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens of a text, after what the tokenizer opens texts with. What it would close them with is left off."""
    whole = tuple(tokenizer.encode(text, add_special_tokens=True))
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return whole[: begin + len(bare)]
    return whole[:-1] if whole[-1:] == (tokenizer.eos_token_id,) else whole


def _encode(problem: Problem, text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    except Exception as error:  # a tokenizer without an unknown token raises a bare Exception
        raise ConfigError(
            f"data.problems: the tokenizer of model.policy.base={tokenizer.name_or_path!r} cannot encode "
            f"{named(problem)}: {error}. The embedded model `tiny` knows numbers to 96, + - * = ? # and a to z."
        ) from error
