"""Any task of reasoning-gym, split into training and held-out problems by their text.

The question "State the final answer to the following arithmetic problem: 4 + 7 - 3 + 2 =" becomes, with
``pattern=": (.*) ="`` and ``template="{question}"``, the user turn "4 + 7 - 3 + 2"; the answer is "10".
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.answer_languages import LANGUAGES
from gpo_lightning.problems.problem import Message, Problem, ProblemSource
from gpo_lightning.problems.split import is_heldout
from gpo_lightning.rewards import Case, Grade, Grader
from gpo_lightning.rewards.marked_answer import marked_answer
from gpo_lightning.rewards.workers import Outcome, Workers, shared_workers

_SCORE = "gpo_lightning.problems.gym_scorer:score"
_TOO_MUCH = ("timeout", "memory")
SCORING = "scoring"
"""The stage at which a failure is the answer's."""
_WHOLE = re.compile("[0-9]+")
_MOST_DRAWS = 200
_SEED_SPACING = 1_000_000_007
"""reasoning-gym draws item i from seed + i, so that neighbouring seeds would give the same items shifted by one."""


@dataclass(frozen=True)
class StrictScore(Grader):
    """reasoning-gym's own scorer made strict: the marked answer alone is scored, and only a full score is right.

    The gold answer is right at sight. What is not in the task's language (:mod:`.answer_languages`) is wrong at sight.
    The rest is scored in worker processes, which are killed at the deadline: an answer that takes more time or memory
    is wrong, with the reason ``timeout`` or ``memory``.

    Args:
        task: name of the task.
        options: of the task's data set.
        level: of the task's curriculum.
        marker: opens the answer line.
        deadline: seconds that one answer may take.
        memory_mib: address space of a worker process, in MiB.
        workers: worker processes; ``null`` takes one a CPU core, four at most.
    """

    task: str
    options: Mapping[str, Any]
    level: int | None
    marker: str
    deadline: float = 10.0
    memory_mib: int = 2048
    workers: int | None = None

    @property
    def pool(self) -> Workers:
        """The worker processes, shared by all tasks."""
        return shared_workers(_SCORE, self.workers or min(4, os.cpu_count() or 1), self.deadline, self.memory_mib)

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        return self.grade_all([Case(response, answer, metadata)])[0]

    def grade_all(self, cases: Sequence[Case]) -> list[Grade]:
        given = [marked_answer(case.response, self.marker) for case in cases]
        grades = [self._at_sight(text, case) for text, case in zip(given, cases, strict=True)]
        asked = {
            place: (text, case)
            for place, (text, case, grade) in enumerate(zip(given, cases, grades, strict=True))
            if grade is None and text is not None
        }
        outcomes = self.pool.run([self._job(text, case) for text, case in asked.values()]) if asked else []
        for (place, (text, _)), outcome in zip(asked.items(), outcomes, strict=True):
            grades[place] = _verdict(text, outcome)
        return [grade or Grade(None, "scorer_failed") for grade in grades]

    def _at_sight(self, given: str | None, case: Case) -> Grade | None:
        if given is None:
            return Grade(0.0, "unparsed")
        entry = case.metadata.get("entry")
        if not isinstance(entry, Mapping):
            return Grade(None, "scorer_failed", given)
        task = str(cast(Mapping[str, Any], entry).get("source_dataset", self.task))
        # Tasks with many right answers and no gold one say None for it.
        if given == case.answer and case.answer != str(None):
            return Grade(1.0, "right", given)
        if task not in LANGUAGES or not LANGUAGES[task](given):
            return Grade(0.0, "wrong", given)
        if task == "puzzle24" and sorted(_WHOLE.findall(given)) != sorted(_WHOLE.findall(case.answer)):
            return Grade(0.0, "wrong", given)  # its scorer takes any four numbers
        return None

    def _job(self, given: str, case: Case) -> list[Any]:
        gold = None if case.answer == str(None) else case.answer
        return [self.task, dict(self.options), self.level, given, gold, dict(case.metadata["entry"])]


def _verdict(given: str, outcome: Outcome) -> Grade:
    if outcome.status == "done" and isinstance(outcome.value, float):
        return Grade(1.0, "right", given) if outcome.value >= 1.0 else Grade(0.0, "wrong", given)
    if outcome.stage == SCORING and outcome.status in _TOO_MUCH:
        return Grade(0.0, outcome.status, given)
    return Grade(None, "scorer_failed", given)  # scorers fail on what they cannot read each in a way of its own


class ReasoningGym(ProblemSource):
    """Problems of one reasoning-gym task.

    Args:
        task: name of the task, such as ``chain_sum``.
        options: the task's own options, such as ``{min_terms: 4}``.
        train_size: training problems, all different.
        heldout_size: held-out problems, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
        template: the user turn; ``{question}`` stands for the question.
        pattern: regular expression whose first group is taken of the question; ``null`` takes all of it.
        system: system turn; ``null`` leaves the chat template its own default.
        marker: opens the answer line of a response.
        level: of the task's curriculum, from 0, which sets what ``options`` leaves open; ``null`` for the task's
            defaults. A mixture of levels is a :class:`Mixture` of sources.
    """

    def __init__(
        self,
        task: str,
        options: dict[str, Any] | None = None,
        train_size: int = 4096,
        heldout_size: int = 200,
        seed: int = 0,
        heldout_seed: int = 0,
        template: str = "{question}\nThink step by step, a line for each step, and end with a line `Answer: ...`.",
        pattern: str | None = None,
        system: str | None = None,
        marker: str = "Answer:",
        level: int | None = None,
    ) -> None:
        self.task, self.options, self.level = task, options or {}, level
        self.train_size, self.heldout_size = train_size, heldout_size
        self.seed, self.heldout_seed = seed, heldout_seed
        self.template, self.pattern, self.system, self.marker = template, pattern, system, marker
        if "{question}" not in template:
            raise ConfigError("data.problems.template must contain {question}.")

    @property
    def grader(self) -> Grader:
        return StrictScore(self.task, self.options, self.level, self.marker)

    def train(self) -> Sequence[Problem]:
        return self._draw(self.train_size, self.seed * _SEED_SPACING, heldout=False)

    def heldout(self) -> Sequence[Problem]:
        return self._draw(self.heldout_size, self.heldout_seed * _SEED_SPACING, heldout=True)

    def solution(self, question: str) -> str | None:
        """A worked solution of the (shortened) question; tasks whose steps are known override this."""
        return None

    def _dataset(self, seed: int, size: int) -> Any:
        from gpo_lightning.problems.gym_scorer import make_dataset  # here, for it takes seconds and others do without

        return make_dataset(self.task, self.options, self.level, size, seed)

    def _draw(self, size: int, seed: int, *, heldout: bool) -> list[Problem]:
        dataset = self._dataset(seed, _MOST_DRAWS * max(1, size))
        problems: dict[str, Problem] = {}
        for index in range(_MOST_DRAWS * size):
            if len(problems) == size:
                break
            entry = dataset[index]
            question = self._question(str(entry["question"]))
            if is_heldout(question) == heldout and question not in problems:
                problems[question] = self._problem(question, cast(dict[str, Any], entry))
        if len(problems) < size:
            raise ConfigError(
                f"data.problems: reasoning-gym's {self.task} with {self.options} has only {len(problems)} different "
                f"problems in {_MOST_DRAWS * size} draws; ask for fewer than {size}, or for harder ones."
            )
        return list(problems.values())

    def _question(self, text: str) -> str:
        if self.pattern is None:
            return text
        match = re.search(self.pattern, text)
        if match is None:
            raise ConfigError(f"data.problems.pattern {self.pattern!r} does not match the question {text!r}.")
        return match[1]

    def _problem(self, question: str, entry: dict[str, Any]) -> Problem:
        turns = [Message("system", self.system)] if self.system is not None else []
        return Problem(
            id=f"{self.task}/{_short(question)}",
            task=self.task,
            answer=str(entry["answer"]),
            messages=(*turns, Message("user", self.template.format(question=question))),
            solution=self.solution(question),
            metadata={"entry": entry["metadata"], "category": self.task, "question": question},
        )


def _short(question: str, longest: int = 80) -> str:
    """The question where it is short, else its beginning and a digest: many tasks begin every question alike."""
    return question if len(question) <= longest else f"{question[:60]}... {sha256(question.encode()).hexdigest()[:12]}"
