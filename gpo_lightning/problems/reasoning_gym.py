"""Any task of reasoning-gym, split into training and held-out problems by their text.

The question "State the final answer to the following arithmetic problem: 4 + 7 - 3 + 2 =" becomes, with
``pattern=": (.*) ="`` and ``template="{question}"``, the user turn "4 + 7 - 3 + 2"; the answer is "10".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.problem import Message, Problem, ProblemSource
from gpo_lightning.problems.split import is_heldout
from gpo_lightning.rewards import Grade, Grader
from gpo_lightning.rewards.formats import marked_answer

_EVALUATED = frozenset({"string_insertion", "spiral_matrix", "binary_matrix", "n_queens"})
"""Tasks whose scorer calls ``eval`` on an answer that is not literally right, to give it part of the score."""

_CALCULATED = frozenset({"countdown", "puzzle24"})
"""Tasks whose scorer has sympy evaluate the answer as a program."""

_ARITHMETIC = re.compile(r"(?:[0-9 ().+-]|\*(?!\s*\*)|/){1,100}")
_MOST_DRAWS = 200
_SEED_SPACING = 1_000_000_007
"""reasoning-gym draws item i from seed + i, so that neighbouring seeds would give the same items shifted by one."""


@dataclass(frozen=True)
class StrictScore(Grader):
    """reasoning-gym's own scorer made strict: the marked answer alone is scored, and only a full score is right.

    Some scorers run the answer as Python. No answer of a model is run here: where the scorer would do so to give part
    of the score, the answer is wrong unless it is literally the gold answer or one of ``valid_answers``; where it
    calculates, only digits, brackets and the four operations are let through.

    Args:
        dataset: the reasoning-gym dataset whose scorer is asked.
        marker: opens the answer line.
    """

    dataset: Any
    marker: str

    def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
        given = marked_answer(response, self.marker)
        if given is None:
            return Grade(0.0, "unparsed")
        try:
            entry = metadata["entry"]
            if not _harmless(given, answer, entry):
                return Grade(0.0, "wrong", given)
            score = float(self.dataset.score_answer(answer=given, entry={"answer": answer, "metadata": entry}))
        except Exception:  # scorers parse free text, and each fails in a way of its own
            return Grade(None, "scorer_failed", given)
        return Grade(1.0, "right", given) if score >= 1.0 else Grade(0.0, "wrong", given)


def _harmless(given: str, answer: str, entry: Mapping[str, Any]) -> bool:
    """Whether the scorer of the task can be shown this answer."""
    task = entry.get("source_dataset")
    if task in _EVALUATED:
        return given in (answer, *entry.get("valid_answers", ()))
    return task not in _CALCULATED or _ARITHMETIC.fullmatch(given) is not None


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
        return self._scorer

    @cached_property
    def _scorer(self) -> StrictScore:
        return StrictScore(self._dataset(0, 1), self.marker)  # once, for some data sets read files when they are made

    def train(self) -> Sequence[Problem]:
        return self._draw(self.train_size, self.seed * _SEED_SPACING, heldout=False)

    def heldout(self) -> Sequence[Problem]:
        return self._draw(self.heldout_size, self.heldout_seed * _SEED_SPACING, heldout=True)

    def solution(self, question: str) -> str | None:
        """A worked solution of the (shortened) question; tasks whose steps are known override this."""
        return None

    def _dataset(self, seed: int, size: int) -> Any:
        import reasoning_gym  # here, for it takes seconds and other sources do without

        try:
            options = {**self._level_options(), **self.options}
            return reasoning_gym.create_dataset(self.task, size=size, seed=seed, **options)
        except (ValueError, TypeError, AssertionError) as error:
            raise ConfigError(
                f"data.problems: reasoning-gym refuses {self.task!r} with {self.options}: {error}"
            ) from error

    def _level_options(self) -> dict[str, Any]:
        if self.level is None:
            return {}
        from reasoning_gym.factory import create_curriculum

        curriculum = create_curriculum(self.task)
        deepest = max((len(each.levels) for each in curriculum.attributes.values()), default=0) - 1
        if not 0 <= self.level <= deepest:
            raise ConfigError(
                f"data.problems.level is {self.level}; the curriculum of {self.task} has the levels 0 to {deepest}."
            )
        curriculum.set_global_level(self.level)
        configured = cast(dict[str, Any], vars(curriculum.generate_configuration()))
        return {name: value for name, value in configured.items() if name not in ("seed", "size")}

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
