"""What a chat template makes of turns, and whether it keeps their words: a template may drop them without a word."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Message, Problem, named
from gpo_lightning.rewards.formats import THOUGHTS

_SAID, _NEXT = "said-here", "asked-next"
_QUESTION = (Message("user", "?"),)
_NONE: Mapping[str, Any] = MappingProxyType({})

Turns = Sequence[Mapping[str, Any]]


def render_prompt(problem: Problem, tokenizer: Tokenizer) -> str:
    """The prompt that asks a problem's chat turns, as text: it ends where the assistant's words begin.

    Turns that end with the assistant's own words are gone on with.

    Raises:
        ConfigError: the tokenizer has no chat template, or it refuses the turns, or drops their words.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f"data.problems asks in chat turns ({named(problem)}), but the tokenizer of model.policy.base="
            f"{tokenizer.name_or_path!r} has no chat template. Choose an instruction-tuned base model, or a problem "
            "source that asks in plain text."
        )
    wrong: list[ConfigError] = []
    for turns in (_plain(problem.messages), _in_parts(problem.messages)):
        try:
            text = _opened(turns, tokenizer, problem.template_options)
        except Exception as error:  # of the template's own making
            wrong.append(_refused(problem, tokenizer, error))
            continue
        lost = next((each for each in problem.messages if not _kept(each, text)), None)
        if lost is None:
            return text
        wrong.append(_dropped(problem, tokenizer, lost))
    raise wrong[0]


def turn_end(
    tokenizer: Tokenizer,
    eos_ids: Collection[int],
    messages: Sequence[Message] = _QUESTION,
    options: Mapping[str, Any] = _NONE,
) -> tuple[int, ...]:
    """What the chat template writes after an assistant's words, up to the first special token; empty if it has none.

    Some templates write nothing, and the token that opens the next turn ends this one; it counts if it is among
    ``eos_ids``.
    """
    if not tokenizer.chat_template:
        return ()
    for following in ((), (Message("user", _NEXT),)):
        conversation = (*messages, Message("assistant", _SAID), *following)
        before, said, after = _closed(conversation, tokenizer, options).rpartition(_SAID)
        if not (before and said):
            continue
        ids = tuple(tokenizer.encode(after.partition(_NEXT)[0], add_special_tokens=False))
        for place, id in enumerate(ids):
            if id in eos_ids or (not following and _special(tokenizer, id)):
                return ids[: place + 1]
    return ()


def _opened(turns: Turns, tokenizer: Any, options: Mapping[str, Any]) -> str:
    """Up to where the assistant speaks."""
    if turns[-1]["role"] == "assistant":
        return str(tokenizer.apply_chat_template(list(turns), tokenize=False, continue_final_message=True, **options))
    text = str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **options))
    if "add_generation_prompt" in str(tokenizer.chat_template):
        return text
    # The template opens no turn of itself; what it writes before an assistant's words is what the model has seen.
    answered = [*turns, {**turns[-1], "role": "assistant", "content": _like(turns[-1]["content"], _SAID)}]
    whole = str(tokenizer.apply_chat_template(answered, tokenize=False, **options))
    head = whole.rpartition(_SAID)[0]
    return head if head.startswith(text) and head[len(text) :].strip() else text


def _closed(messages: Sequence[Message], tokenizer: Any, options: Mapping[str, Any]) -> str:
    """A finished conversation, in the form in which the template keeps the words; empty where it refuses it."""
    for turns in (_plain(messages), _in_parts(messages)):
        try:
            text = str(tokenizer.apply_chat_template(list(turns), tokenize=False, **options))
        except Exception:  # of the template's own making; whether it takes the problems is asked of each of them
            return ""
        if messages[-1].content in text:
            return text
    return ""


def _plain(messages: Sequence[Message]) -> Turns:
    return [asdict(message) for message in messages]


def _in_parts(messages: Sequence[Message]) -> Turns:
    """As templates of models for text and images want them."""
    return [{"role": each.role, "content": [{"type": "text", "text": each.content}]} for each in messages]


def _like(content: Any, words: str) -> Any:
    return words if isinstance(content, str) else [{"type": "text", "text": words}]


def _kept(message: Message, text: str) -> bool:
    """Whether the words are in the text; of an assistant's earlier turns, those after its thought."""
    words = message.content.strip()
    if message.role == "assistant":
        words = min((words.rpartition(end)[2] for end in THOUGHTS.values()), key=len).strip()
    return words in text


def _special(tokenizer: Any, id: int) -> bool:
    added = tokenizer.added_tokens_decoder.get(id)
    return added is not None and bool(added.special)


def _refused(problem: Problem, tokenizer: Tokenizer, error: Exception) -> ConfigError:
    roles = [message.role for message in problem.messages]
    return ConfigError(
        f"data.problems: the chat template of model.policy.base={tokenizer.name_or_path!r} refuses {named(problem)}, "
        f"whose turns are {', '.join(roles)}: {error}. " + _advice("system" in roles)
    )


def _dropped(problem: Problem, tokenizer: Tokenizer, lost: Message) -> ConfigError:
    return ConfigError(
        f"data.problems: the chat template of model.policy.base={tokenizer.name_or_path!r} drops the words of the "
        f"{lost.role} turn of {named(problem)}. " + _advice(lost.role == "system")
    )


def _advice(system: bool) -> str:
    if system:
        return "If it knows no system turn, leave data.problems.prompting.system null and say it in the question."
    return "Change the turns, or choose a base model with another template."
