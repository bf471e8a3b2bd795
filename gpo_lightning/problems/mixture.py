"""Several problem sources as one, each problem judged by the grader of its own source."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.rewards import Case, Grade, Grader

_SOURCE = "source"


@dataclass(frozen=True)
class GraderOfSource(Grader):
    """Asks the grader of the source that a problem came from.

    Args:
        graders: of the sources, by name.
    """

    graders: Mapping[str, Grader]

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        return self.graders[metadata[_SOURCE]].grade(response, answer, metadata)

    def grade_all(self, cases: Sequence[Case]) -> list[Grade]:
        grades: dict[int, Grade] = {}
        for name, grader in self.graders.items():
            mine = [index for index, case in enumerate(cases) if case.metadata[_SOURCE] == name]
            grades.update(zip(mine, grader.grade_all([cases[index] for index in mine]) if mine else [], strict=True))
        return [grades[index] for index in range(len(cases))]


class Mixture(ProblemSource):
    """The problems of all sources together; the sizes of the sources are the weights of the mixture.

    Args:
        sources: problem sources by name. Names are put before ids and are the categories of results where a source
            has none.
    """

    def __init__(self, sources: dict[str, ProblemSource]) -> None:
        self.sources = sources
        if not sources:
            raise ConfigError("data.problems.sources is empty; name at least one problem source.")

    @property
    def grader(self) -> Grader:
        return self._grader

    @cached_property
    def _grader(self) -> Grader:
        return GraderOfSource({name: source.grader for name, source in self.sources.items()})

    @property
    def counts(self) -> Mapping[str, int]:
        return sum((Counter(source.counts) for source in self.sources.values()), Counter[str]())

    def state_key(self, problem: Problem, prefix: str) -> Hashable | None:
        return self.sources[problem.metadata[_SOURCE]].state_key(problem, prefix)

    def tells_states(self, problem: Problem) -> bool:
        return self.sources[problem.metadata[_SOURCE]].tells_states(problem)

    def train(self) -> Sequence[Problem]:
        return [_named(name, problem) for name, source in self.sources.items() for problem in source.train()]

    def heldout(self) -> Sequence[Problem]:
        return [_named(name, problem) for name, source in self.sources.items() for problem in source.heldout()]


def _named(name: str, problem: Problem) -> Problem:
    metadata = {"category": name, **problem.metadata, _SOURCE: name}
    return replace(problem, id=f"{name}/{problem.id}", metadata=metadata)
