"""The question the policy is asked, and the role of those who supply questions."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gpo_lightning.rewards import Case, Grade, Grader


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn: ``Message("user", "What is 2 + 2?")``."""

    role: str
    content: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", writable(self.content))


def writable(text: str) -> str:
    r"""Text that tokenizers and files take: halves of surrogate pairs, which JSON may hold, become U+FFFD.

    >>> writable("a\ud800b")
    'a\ufffdb'
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer.

    >>> Problem(id="modular/8/0001", task="modular_chains", prompt="37+5*3?\\n", answer="29").answer
    '29'

    Args:
        id: unique within its problem source; rollouts, reports and resumption refer to it.
        task: name under which results are grouped.
        answer: the gold answer, read by the grader.
        prompt: plain text, encoded as it is. Exactly one of ``prompt`` and ``messages`` is given.
        messages: chat turns, encoded through the tokenizer's chat template.
        solution: a worked reference solution, for supervised losses.
        metadata: whatever else the source knows (level, subject, ...); primitives only.
        template_options: handed to the chat template, such as ``{"enable_thinking": False}``.
        thoughts: marks of thoughts beside the well-known ones, beginning to end.
        place: file and line it was read from, for errors.
    """

    id: str
    task: str
    answer: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    solution: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: str = ""
    thoughts: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name in ("id", "task", "answer", "prompt", "solution"):
            text = getattr(self, name)
            if text is not None:
                object.__setattr__(self, name, writable(text))

    def again(self, id: str) -> "Problem":
        """The same question under another id."""
        return replace(self, id=id)


@dataclass(frozen=True, slots=True)
class Response:
    """What the policy answered to a problem: its text, and the token ids it was decoded from.

    Args:
        problem: that was asked.
        text: of the whole response, special tokens removed.
        tokens: ids of the whole response.
        said: text after the thought, empty where that has no end; ``None`` where nobody told.
    """

    problem: Problem
    text: str
    tokens: tuple[int, ...] = ()
    said: str | None = None


class ProblemSource(ABC):
    """A set of problems, chosen in YAML by class path, with the grader that can judge its answers."""

    @abstractmethod
    def train(self) -> Sequence[Problem]:
        """Problems the policy may learn from."""

    @abstractmethod
    def heldout(self) -> Sequence[Problem]:
        """Problems for evaluation only, disjoint from :meth:`train` by construction."""

    @property
    @abstractmethod
    def grader(self) -> Grader:
        """Judge of the answers to these problems."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What was left out of the problems, by the reason why; known once they were asked for."""
        return {}

    def state_key(self, problem: Problem, prefix: str) -> Hashable | None:
        """What the future of a response depends on after ``prefix``, where that is less than its whole text.

        Responses with equal keys are in the same state, and share their outcomes (GiGPO, 2505.10978). The key must not
        tell whether the prefix is right. ``None``, the default: only responses with the same tokens share a state.
        """
        return None

    def tells_states(self, problem: Problem) -> bool:
        """Whether :meth:`state_key` has something to say of this problem's responses."""
        return type(self).state_key is not ProblemSource.state_key

    def grade(self, problem: Problem, response: str) -> Grade:
        """The grader's verdict on ``response`` to ``problem``."""
        return self.grade_all([(problem, response)])[0]

    def grade_all(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The grader's verdicts on responses to problems, in their order."""
        return self.grader.grade_all([case_of(problem, text) for problem, text in responses])

    def grade_responses(self, responses: Sequence[Response]) -> list[Grade]:
        """Verdicts like :meth:`grade_all`'s, by graders that may look at token ids."""
        return self.grade_all([(each.problem, each.text if each.said is None else each.said) for each in responses])


def case_of(problem: Problem, text: str, tokens: Sequence[int] = (), said: str | None = None) -> Case:
    prompt = [asdict(turn) for turn in problem.messages] if problem.messages else problem.prompt or ""
    return Case(text, problem.answer, problem.metadata, prompt, tokens, problem.id, said)


def named(problem: Problem) -> str:
    """A problem in the words of an error: its id, and the row it was read from."""
    return f"problem {problem.id!r}" + (f" of {problem.place}" if problem.place else "")
