"""A row of a problem set before it is put to the policy, and the words for where the answer shall stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Message
from gpo_lightning.rewards import Boxed, Marked, Phrase, Tagged
from gpo_lightning.rewards.formats import AnswerFormat


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold answer.

    Args:
        id: unique within its set.
        text: the question, and the options where it has some.
        answer: gold answer.
        place: file and line, for errors.
        category: subject or task that tables of results group by.
        reasoning: worked solution; the answer is added in the asked format where it does not stand there already.
        description: what the task is, said once before a plain prompt or in every chat turn.
        metadata: for the grader and for reports.
        turns: the whole prompt as chat turns, where the file has it; then nothing is added to it.
    """

    id: str
    text: str
    answer: str
    place: str
    category: str
    reasoning: str | None = None
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    turns: tuple[Message, ...] = ()


def request(form: AnswerFormat, what: str) -> str:
    """The sentence that asks for ``what`` in a format.

    >>> request(Boxed(), "the final answer")
    'Put the final answer in \\\\boxed{}.'

    Raises:
        ConfigError: a format that this function has no words for.
    """
    match form:
        case Boxed():
            return f"Put {what} in \\boxed{{}}."
        case Marked(marker):
            return f"End with a line `{marker} ...` that gives {what} and nothing else."
        case Phrase(phrase):
            return f'End with the sentence "{phrase[:1].upper()}{phrase[1:]} ...", which gives {what}.'
        case Tagged(tag):
            return f"Put {what} between <{tag}> and </{tag}>."
        case _:
            raise _unknown(form)


def written(form: AnswerFormat, answer: str) -> str:
    """The answer as the format wants it.

    >>> written(Phrase(), "42")
    'The answer is 42.'
    """
    match form:
        case Boxed():
            return f"\\boxed{{{answer}}}"
        case Marked(marker):
            return f"{marker} {answer}"
        case Phrase(phrase):
            return f"{phrase[:1].upper()}{phrase[1:]} {answer}."
        case Tagged(tag):
            return f"<{tag}>{answer}</{tag}>"
        case _:
            raise _unknown(form)


def solution(question: Question, form: AnswerFormat) -> str | None:
    """The worked solution, ending with the answer in the asked format."""
    if question.reasoning is None:
        return None
    if form.find(question.reasoning) is not None:
        return question.reasoning
    return f"{question.reasoning}\n{written(form, question.answer)}".lstrip()


def _unknown(form: AnswerFormat) -> ConfigError:
    return ConfigError(
        f"data.problems.prompting.answer is {type(form).__name__}, which there are no words to ask for; "
        "choose Boxed, Marked, Phrase or Tagged."
    )
