"""Problems of one source, judged by rewards of the user's own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Problem, ProblemSource, Response, case_of
from gpo_lightning.problems.rows import Rows, problem_source
from gpo_lightning.rewards import Grade, Grader
from gpo_lightning.rewards.rewards import as_rewards

if TYPE_CHECKING:
    AnyProblems = ProblemSource | Iterable[Mapping[str, Any]] | Path | str
    AnyRewards = Grader | str | Callable[..., Any] | Sequence[Any] | Mapping[Any, float] | None
else:  # what the command line asks for
    AnyProblems = ProblemSource
    AnyRewards = Grader | dict[str, float] | list[str] | str | None


class Rewarded(ProblemSource):
    """The problems of ``source``, whose responses ``rewards`` judge.

    Args:
        source: where questions come from; its own grader is not asked.
        rewards: what responses are worth.
    """

    def __init__(self, source: ProblemSource, rewards: Grader) -> None:
        self.source, self.rewards = source, rewards

    @property
    def grader(self) -> Grader:
        return self.rewards

    @property
    def counts(self) -> Mapping[str, int]:
        return self.source.counts

    def train(self) -> Sequence[Problem]:
        return self.source.train()

    def heldout(self) -> Sequence[Problem]:
        return self.source.heldout()

    def grade_responses(self, responses: Sequence[Response]) -> list[Grade]:
        return self.rewards.grade_all([case_of(each.problem, each.text, each.tokens, each.said) for each in responses])


def judged(problems: AnyProblems, rewards: AnyRewards) -> ProblemSource:
    """The source with the rewards that judge it: those given, else its own grader.

    Raises:
        ConfigError: there are neither rewards nor gold answers.
    """
    source, grader = problem_source(problems), as_rewards(rewards)
    if grader is not None:
        return Rewarded(source, grader)
    if isinstance(source, Rows) and not source.has_answers:
        raise ConfigError(
            f"data.problems: rows have no {source.columns.answer!r}, so nothing can judge responses. There are: "
            f"{', '.join(source.column_names)}. Name the column of gold answers, data.problems.columns.answer (in "
            "Python Rows(rows, columns=Columns(answer=...))), or give a reward function, data.rewards."
        )
    return source
