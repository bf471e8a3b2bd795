"""How a question is put: in chat turns or as plain text, with or without worked examples before it.

One choice, the answer format, makes both the instruction and the grader, so that the two cannot disagree.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Message, Problem
from gpo_lightning.problems.question import Question, request, solution
from gpo_lightning.rewards.formats import AnswerFormat


@dataclass(frozen=True, slots=True)
class Form:
    """What a problem set asks for where the user did not choose.

    Args:
        answer: where the answer stands.
        what: what the answer is, in the words of the instruction.
        shots: worked examples before the question.
    """

    answer: AnswerFormat
    what: str = "the final answer"
    shots: int = 0


class Prompting(ABC):
    """Makes the prompt of a question."""

    shots: int | None
    answer: AnswerFormat | None

    @abstractmethod
    def turns(self, question: Question, examples: Sequence[tuple[Question, str]], asked: str) -> Mapping[str, Any]:
        """The fields of a :class:`Problem` that hold the prompt.

        Args:
            question: to put.
            examples: worked examples with their solutions.
            asked: the sentence that asks for the answer format.
        """

    def form(self, default: Form) -> Form:
        """The set's own form with what the user chose instead."""
        shots = default.shots if self.shots is None else self.shots
        return Form(self.answer or default.answer, default.what, shots)

    def problem(self, question: Question, examples: Sequence[Question], default: Form, task: str) -> Problem:
        """The problem that asks ``question``; a question is never an example for itself.

        Raises:
            ConfigError: fewer examples than asked for.
        """
        form = self.form(default)
        others = [each for each in examples[: form.shots + 1] if (each.id, each.text) != (question.id, question.text)]
        shown = [(each, solution(each, form.answer) or "") for each in others[: form.shots]]
        if len(shown) < form.shots:
            raise ConfigError(
                f"data.problems.prompting.shots is {form.shots}, but {task} has only {len(shown)} worked examples for "
                f"{question.id!r}."
            )
        return Problem(
            id=question.id,
            task=task,
            answer=question.answer,
            solution=solution(question, form.answer),
            metadata={**question.metadata, "category": question.category, "question": question.text},
            place=question.place,
            **self.turns(question, shown, request(form.answer, form.what)),
        )


def check_shots(shots: int | None) -> None:
    """Refuse a negative number of examples."""
    if shots is not None and shots < 0:
        raise ConfigError(f"data.problems.prompting.shots is {shots}; it must be 0 or more.")


@dataclass(frozen=True)
class Chat(Prompting):
    """Chat turns, through the tokenizer's chat template; each worked example is a turn of user and assistant.

    Of a file whose prompts are chat turns already, these are taken as they are, without the instruction.

    Args:
        shots: worked examples before the question; ``null`` for the number usual for the problem set.
        answer: where the answer shall stand; ``null`` for what is usual for the problem set.
        instruction: follows the question; ``{answer_format}`` stands for the sentence that asks for the format.
        system: system turn; ``null`` leaves the chat template its own default.
        template_options: handed to the chat template, such as ``{enable_thinking: false}``.
        thoughts: marks between which the policy thinks, beginning to end, beside the well-known ones and those its
            chat template has: ``{"<plan>": "</plan>"}``. What is said there is no answer.
    """

    shots: int | None = None
    answer: AnswerFormat | None = None
    instruction: str = "Think step by step. {answer_format}"
    system: str | None = None
    template_options: dict[str, Any] = field(default_factory=dict[str, Any])
    thoughts: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        check_shots(self.shots)

    def turns(self, question: Question, examples: Sequence[tuple[Question, str]], asked: str) -> Mapping[str, Any]:
        options = {"template_options": self.template_options, "thoughts": self.thoughts}
        if question.turns:
            return {"messages": self._given(question, examples), **options}
        instruction = self.instruction.replace("{answer_format}", asked)
        messages = [Message("system", self.system)] if self.system is not None else []
        for example, worked in examples:
            messages += [Message("user", self._user(example, instruction)), Message("assistant", worked)]
        messages.append(Message("user", self._user(question, instruction)))
        return {"messages": tuple(messages), **options}

    def _given(self, question: Question, examples: Sequence[tuple[Question, str]]) -> tuple[Message, ...]:
        """The turns that the file has, after the system turn that is configured where they have none."""
        if examples:
            raise ConfigError(
                f"data.problems.prompting.shots is {len(examples)}, but {question.place} has a whole prompt in chat "
                "turns. Set shots to 0."
            )
        opened = self.system is None or question.turns[0].role in ("system", "developer")
        return question.turns if opened else (Message("system", str(self.system)), *question.turns)

    def _user(self, question: Question, instruction: str) -> str:
        return "\n\n".join(filter(None, (question.description, question.text, instruction)))


@dataclass(frozen=True)
class Plain(Prompting):
    """Plain text, for base models: a preface, worked examples, the question, and the beginning of an answer.

    A base model goes on to write the next question. That costs tokens and nothing else: the first finished answer
    counts.

    Args:
        shots: worked examples before the question; ``null`` for the number usual for the problem set.
        answer: where the answer shall stand; ``null`` for what is usual for the problem set.
        preface: opens the prompt; ``{description}`` stands for the problem set's own, ``{answer_format}`` for the
            sentence that asks for the format.
        template: of every question; ``{question}`` stands for its text.
    """

    shots: int | None = None
    answer: AnswerFormat | None = None
    preface: str = "{description}\n{answer_format}"
    template: str = "Question: {question}\nAnswer:"

    def __post_init__(self) -> None:
        check_shots(self.shots)
        if "{question}" not in self.template:
            raise ConfigError("data.problems.prompting.template must contain {question}.")

    def turns(self, question: Question, examples: Sequence[tuple[Question, str]], asked: str) -> Mapping[str, Any]:
        if question.turns:
            raise ConfigError(
                f"data.problems.prompting is Plain, but {question.place} has a prompt in chat turns. Choose Chat."
            )
        preface = self.preface.replace("{answer_format}", asked).replace("{description}", question.description)
        gap = "" if self.template.endswith("\n") else " "
        parts = [f"{self._asked(example)}{gap}{worked}" for example, worked in examples]
        return {"prompt": "\n\n".join(filter(None, (preface.strip(), *parts, self._asked(question))))}

    def _asked(self, question: Question) -> str:
        return self.template.replace("{question}", question.text)
