"""What all problem sets read from files share: how they ask, and that a benchmark refuses to be trained on."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.problems.prompt_styles import Form, Prompting
from gpo_lightning.problems.question import Question


class ProblemSet(ProblemSource):
    """Questions from files, put in one style. A set without a training split is a benchmark."""

    task: str
    usual: ClassVar[Form]

    def __init__(self, task: str, prompting: Prompting, force_training: bool = False) -> None:
        self.task, self.prompting, self.force_training = task, prompting, force_training

    @property
    def form(self) -> Form:
        """Answer format and number of examples as they are used."""
        return self.prompting.form(self.usual)

    def train(self) -> Sequence[Problem]:
        if not self.force_training:
            raise ConfigError(
                f"data.problems: {type(self).__name__} is a benchmark, and what was trained on it can no longer be "
                "measured by it. Choose a set with a training split; or set `force_training: true` to train on it all "
                "the same."
            )
        return self.heldout()

    @abstractmethod
    def examples(self, category: str) -> Sequence[Question]:
        """Worked examples for questions of a category, best first; never held-out questions."""

    def ask(self, questions: Iterable[Question]) -> list[Problem]:
        """The problems that put the questions.

        Raises:
            DataError: two questions with one id, or none at all.
        """
        places: dict[str, str] = {}
        worked: dict[str, Sequence[Question]] = {}
        problems: list[Problem] = []
        for question in questions:
            if question.id in places:
                raise DataError(f"{question.place}: id {question.id!r} stands already in {places[question.id]}.")
            places[question.id] = question.place
            if question.category not in worked:
                worked[question.category] = self.examples(question.category) if self.form.shots else ()
            problems.append(self.prompting.problem(question, worked[question.category], self.usual, self.task))
        if not problems:
            raise DataError(f"data.problems: {type(self).__name__} has no problems left; its filters leave none.")
        return problems


def choose(option: str, chosen: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """The chosen names, all where nothing is chosen.

    Raises:
        ConfigError: a name that is not known.
    """
    known = list(known)
    unknown = sorted(set(chosen or ()) - set(known))
    if unknown:
        raise ConfigError(f"data.problems.{option}: unknown {', '.join(unknown)}; there are: {', '.join(known)}.")
    return known if chosen is None else [name for name in known if name in chosen]
