"""BIG-Bench-Mistake: chains of thought for tasks of BIG-Bench, with the first logical mistake found by people.

input           (((-9 - 5 - 0) - (4 + 3 + -5)) - ((3 * 4 * 5) * (7 - -7 * 4))) =
steps           ["This equation can be written as ...", "Let's calculate A = (-9 - 5 - 0) = (-9 - 5) = -14.", ...]
target          -2116
answer          1244
mistake_index   3, counted from 0; null where there is none
"""

import re
from collections.abc import Sequence
from pathlib import Path

from gpo_lightning.errors import DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.labelled import LabelledSource, LabelledTrajectory, seeded_part
from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question, written
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import BigBenchHard, Grader, Phrase

DESCRIPTIONS = {
    "dyck_languages": "Complete the rest of the sequence, making sure that the parentheses are closed properly.",
    "word_sorting": "Sort the following words alphabetically.",
}
"""What is asked, for tasks whose inputs are the brackets or the words alone."""


class BigBenchMistake(LabelledSource):
    """The chains of one task. Prompts of ``dyck_languages`` and ``word_sorting`` say what is to be done.

    Args:
        path: a file such as ``multistep_arithmetic.jsonl``.
        prompting: how the policy is asked to go on.
        count: chains taken, drawn by ``seed``; ``null`` for all.
        seed: draws them.
        only_wrong: leave out chains without a mistake.
    """

    def __init__(
        self,
        path: str,
        prompting: Prompting = Chat(),
        count: int | None = None,
        seed: int = 0,
        only_wrong: bool = True,
    ) -> None:
        self._problems = _Chains(path, prompting)
        self.count, self.seed, self.only_wrong = count, seed, only_wrong

    @property
    def problems(self) -> ProblemSource:
        return self._problems

    def trajectories(self) -> Sequence[LabelledTrajectory]:
        read = [self._trajectory(*pair) for pair in zip(self._problems.rows(), self._problems.heldout(), strict=True)]
        return seeded_part(
            [trajectory for trajectory in read if trajectory.error is not None or not self.only_wrong],
            self.count,
            self.seed,
        )

    def _trajectory(self, row: Row, problem: Problem) -> LabelledTrajectory:
        steps, error = row.columns.get("steps"), row.columns.get("mistake_index")
        if not isinstance(steps, list) or not (error is None or 0 <= int(error) < len(steps)):
            raise DataError(f"{row.place}: `steps` must be a list, `mistake_index` the index of one of them or null.")
        said = written(self._problems.form.answer, str(row.columns.get("answer")))
        outcome = self._problems.grade(problem, said).success or 0.0
        return LabelledTrajectory(
            problem, tuple(f"{step}\n" for step in steps), outcome, None if error is None else int(error)
        )


class _Chains(ProblemSet):
    """The questions of one file."""

    usual = Form(Phrase())

    def __init__(self, path: str, prompting: Prompting) -> None:
        super().__init__(Path(path).stem, prompting)
        self.path = path

    @property
    def grader(self) -> Grader:
        return BigBenchHard((self.form.answer,))

    def rows(self) -> list[Row]:
        return read_rows(self.path, "test")

    def heldout(self) -> Sequence[Problem]:
        return self.ask(
            Question(
                f"{self.task}/{i}",
                row.text("input"),
                row.text("target"),
                row.place,
                self.task,
                description=self._description(row.text("input")),
            )
            for i, row in enumerate(self.rows())
        )

    def _description(self, asked: str) -> str:
        """What is to be done, where the input does not say it itself."""
        said = next((text for task, text in DESCRIPTIONS.items() if task in self.task), "")
        return "" if re.search(r"alphabetical|closed properly", asked, re.IGNORECASE) else said

    def examples(self, category: str) -> Sequence[Question]:
        return ()
