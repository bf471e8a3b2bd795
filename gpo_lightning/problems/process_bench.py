"""ProcessBench: solutions by many models of problems of GSM8K, MATH, OlympiadBench and Omni-MATH.

The first wrong step was found by experts.

problem   Sue lives in a fun neighborhood.  One weekend, the neighbors decided to play a prank on Sue. ...
steps     ["To find out how many more pink plastic flamingos were out than white ...", "On Saturday, ...", ...]
label     1, counted from 0; -1 where all is right
"""

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import cast

from gpo_lightning.errors import DataError
from gpo_lightning.problems.decontaminated import normalised
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.labelled import LabelledSource, LabelledTrajectory, seeded_part
from gpo_lightning.problems.problem import Problem, ProblemSource
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.prompt_styles import Chat, Form
from gpo_lightning.problems.question import Question
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import Boxed, Grader, Maths
from gpo_lightning.rewards.formats import boxes
from gpo_lightning.rewards.maths import squeezed


class ProcessBench(LabelledSource):
    """The file has no gold answers; they come from the problem set that the problems were taken from.

    Args:
        problems: where question, gold answer and grader come from: ``GSM8K`` for ``gsm8k.json``, ``MATH`` for
            ``math.json``, a ``Table`` for the others. Solutions of problems that are not there are left out. ``null``
            takes what the file's own right solutions have in their box: a problem that nobody solved is left out, and
            so is any whose right solutions differ in what they answer.
        path: a file of ProcessBench, or its hub id with the split as ``split``.
        split: on the hub: ``gsm8k``, ``math``, ``olympiadbench`` or ``omnimath``.
        count: solutions taken, drawn by ``seed``; ``null`` for all.
        seed: draws them.
        only_wrong: leave out solutions that are right throughout.
    """

    def __init__(
        self,
        problems: ProblemSource | None = None,
        path: str = "Qwen/ProcessBench",
        split: str = "gsm8k",
        count: int | None = None,
        seed: int = 0,
        only_wrong: bool = True,
    ) -> None:
        self._given = problems
        self.path, self.split, self.count, self.seed, self.only_wrong = path, split, count, seed, only_wrong

    @property
    def problems(self) -> ProblemSource:
        return self._solved if self._given is None else self._given

    @cached_property
    def _solved(self) -> "_Solved":
        return _Solved(self.path, self.split)

    def trajectories(self) -> Sequence[LabelledTrajectory]:
        asked = {normalised(str(each.metadata.get("question", ""))): each for each in self.problems.heldout()}
        rows = read_rows(self.path, self.split)
        known = [(row, asked[key]) for row in rows if (key := normalised(row.text("problem"))) in asked]
        if not known:
            raise DataError(f"{self.path}: none of its {len(rows)} problems is among the held-out ones of `problems`.")
        read = [_trajectory(row, problem) for row, problem in known]
        return seeded_part(
            [trajectory for trajectory in read if trajectory.error is not None or not self.only_wrong],
            self.count,
            self.seed,
        )


class _Solved(ProblemSet):
    """The problems of a file that somebody solved; the gold answer is what the right solutions say."""

    usual = Form(Boxed())

    def __init__(self, path: str, split: str) -> None:
        super().__init__("process_bench", Chat())
        self.path, self.split = path, split

    @property
    def grader(self) -> Grader:
        return Maths((self.form.answer,))

    def heldout(self) -> Sequence[Problem]:
        solved: dict[str, tuple[Row, dict[str, str]]] = {}
        for row in read_rows(self.path, self.split):
            answer = _answer(row)
            if answer:
                solved.setdefault(normalised(row.text("problem")), (row, {}))[1][squeezed(answer)] = answer
        return self.ask(
            Question(row.text("id"), row.text("problem"), next(iter(answers.values())), row.place, self.split)
            for row, answers in solved.values()
            if len(answers) == 1
        )

    def examples(self, category: str) -> Sequence[Question]:
        return ()


def _answer(row: Row) -> str:
    """What a right solution has in the last box of its last step; empty where there is none."""
    steps = row.columns.get("steps")
    if not row.columns.get("final_answer_correct") or not isinstance(steps, list) or not steps:
        return ""
    last = deque(boxes(str(cast(list[object], steps)[-1])), maxlen=1)
    return last[0].answer if last else ""


def _trajectory(row: Row, problem: Problem) -> LabelledTrajectory:
    steps, label = row.columns.get("steps"), row.columns.get("label")
    if not isinstance(steps, list) or not isinstance(label, int) or not -1 <= label < len(steps):
        raise DataError(f"{row.place}: `steps` must be a list, `label` the index of one of them or -1.")
    right = float(bool(row.columns.get("final_answer_correct")))
    return LabelledTrajectory(
        # An object of its own: the same problem may have several solutions.
        problem=problem.again(row.text("id")),
        steps=tuple(f"{step}\n\n" for step in steps),
        outcome=right,
        error=label if label >= 0 else None,
    )
