"""From a problem to the token ids the policy reads: the one place where text becomes prompt tokens."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, cast

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Problem

_SAID, _NEXT = "said-here", "asked-next"


def encode_prompt(problem: Problem, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of the prompt: chat turns through the chat template, plain text as it is.

    Raises:
        ConfigError: the tokenizer has no chat template for chat turns, or it refuses them, or cannot encode the text.
    """
    if not problem.messages:
        return _open(_encode(problem, problem.prompt or "", tokenizer), problem.prompt or "", tokenizer)
    if not tokenizer.chat_template:
        raise ConfigError(
            f"data.problems asks in chat turns ({named(problem)}), but the tokenizer of model.policy.base="
            f"{tokenizer.name_or_path!r} has no chat template. Choose an instruction-tuned base model, or a problem "
            "source that asks in plain text."
        )
    try:
        ids = cast(Any, tokenizer).apply_chat_template(
            _turns(problem), add_generation_prompt=True, tokenize=True, return_dict=True, **problem.template_options
        )
    except Exception as error:  # of the template's own making
        raise _refused(problem, tokenizer, error) from error
    return tuple(ids["input_ids"])


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
    end = turn_end(tokenizer, eos_ids, _turns(problem), problem.template_options) if problem.messages else ()
    if not end:
        own = cast("int | None", tokenizer.eos_token_id)
        end = (next(iter(eos_ids)) if own is None else own,)
    return (*_encode(problem, problem.solution, tokenizer), *end)


def turn_end(
    tokenizer: Tokenizer,
    eos_ids: Collection[int],
    turns: Sequence[Mapping[str, str]] = ({"role": "user", "content": "?"},),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[int, ...]:
    """What the chat template writes after an assistant's words, up to the first special token; empty if it has none.

    Some templates write nothing, and the token that opens the next turn ends this one; it counts if it is among
    ``eos_ids``.
    """
    for following in ((), ({"role": "user", "content": _NEXT},)):
        conversation = [*turns, {"role": "assistant", "content": _SAID}, *following]
        before, said, after = _rendered(tokenizer, conversation, options).rpartition(_SAID)
        if not (before and said):
            continue
        ids = tuple(tokenizer.encode(after.partition(_NEXT)[0], add_special_tokens=False))
        for place, id in enumerate(ids):
            if id in eos_ids or (not following and _special(tokenizer, id)):
                return ids[: place + 1]
    return ()


def _rendered(tokenizer: Tokenizer, conversation: list[Any], options: Mapping[str, Any]) -> str:
    if not getattr(tokenizer, "chat_template", None):
        return ""
    try:
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, **options))
    except Exception:  # of the template's own making; whether it takes the problems is asked of each of them
        return ""


def _special(tokenizer: Tokenizer, id: int) -> bool:
    added = cast(Any, tokenizer).added_tokens_decoder.get(id)
    return added is not None and bool(added.special)


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


def _turns(problem: Problem) -> list[dict[str, str]]:
    return [asdict(message) for message in problem.messages]


def named(problem: Problem) -> str:
    """A problem in the words of an error: its id, and the row it was read from."""
    return f"problem {problem.id!r}" + (f" of {problem.place}" if problem.place else "")


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


def _refused(problem: Problem, tokenizer: Tokenizer, error: Exception) -> ConfigError:
    roles = [message.role for message in problem.messages]
    return ConfigError(
        f"data.problems: the chat template of model.policy.base={tokenizer.name_or_path!r} refuses {named(problem)}, "
        f"whose turns are {', '.join(roles)}: {error}. "
        + (
            "If it knows no system turn, leave data.problems.prompting.system null and say it in the question."
            if "system" in roles
            else "Change the turns, or choose a base model with another template."
        )
    )
