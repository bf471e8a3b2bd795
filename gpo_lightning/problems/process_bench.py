"""ProcessBench: solutions of GSM8K and MATH problems by many models, with the first wrong step found by experts.

problem   Sue lives in a fun neighborhood.  One weekend, the neighbors decided to play a prank on Sue. ...
steps     ["To find out how many more pink plastic flamingos were out than white ...", "On Saturday, ...", ...]
label     1, counted from 0; -1 where all is right
"""

from collections.abc import Sequence

from gpo_lightning.errors import DataError
from gpo_lightning.problems.files import Row, read_rows
from gpo_lightning.problems.labelled import LabelledSource, LabelledTrajectory, seeded_part
from gpo_lightning.problems.problem import Problem, ProblemSource


class ProcessBench(LabelledSource):
    """The file has no gold answers; they come from the problem set that the problems were taken from.

    Args:
        path: a file of ProcessBench, or its hub id with the split as ``split``.
        problems: where question, gold answer and grader come from: ``GSM8K`` for ``gsm8k.json``, ``MATH`` for
            ``math.json``. Solutions of problems that are not there are left out.
        split: on the hub.
        count: solutions taken, drawn by ``seed``; ``null`` for all.
        seed: draws them.
        only_wrong: leave out solutions that are right throughout.
    """

    def __init__(
        self,
        problems: ProblemSource,
        path: str = "Qwen/ProcessBench",
        split: str = "gsm8k",
        count: int | None = None,
        seed: int = 0,
        only_wrong: bool = True,
    ) -> None:
        self._problems = problems
        self.path, self.split, self.count, self.seed, self.only_wrong = path, split, count, seed, only_wrong

    @property
    def problems(self) -> ProblemSource:
        return self._problems

    def trajectories(self) -> Sequence[LabelledTrajectory]:
        asked = {_words(str(problem.metadata.get("question", ""))): problem for problem in self._problems.heldout()}
        rows = read_rows(self.path, self.split)
        known = [(row, asked[key]) for row in rows if (key := _words(row.text("problem"))) in asked]
        if not known:
            raise DataError(f"{self.path}: none of its {len(rows)} problems is among the held-out ones of `problems`.")
        read = [_trajectory(row, problem) for row, problem in known]
        return seeded_part(
            [trajectory for trajectory in read if trajectory.error is not None or not self.only_wrong],
            self.count,
            self.seed,
        )


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()


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
