"""GSM8K: 7,473 and 1,319 word problems of primary-school arithmetic.

question   Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much ...
answer     Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.
           Working 50 minutes, she earned 0.2 x 50 = $<<0.2*50=10>>10.
           #### 10
"""

import re
from collections.abc import Sequence

from gpo_lightning.errors import DataError
from gpo_lightning.problems.files import read_rows
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import Boxed, Grader, Number

_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


class GSM8K(ProblemSet):
    """Learns from the training split, holds the test split out.

    Args:
        path: hub id, or a local folder with ``train.jsonl`` and ``test.jsonl``.
        prompting: how questions are put; examples come from the training split.
    """

    usual = Form(Boxed())

    def __init__(self, path: str = "openai/gsm8k", prompting: Prompting = Chat()) -> None:
        super().__init__("gsm8k", prompting)
        self.path = path

    @property
    def grader(self) -> Grader:
        return Number((self.form.answer,))

    def train(self) -> Sequence[Problem]:
        return self.ask(self._questions("train"))

    def heldout(self) -> Sequence[Problem]:
        return self.ask(self._questions("test"))

    def examples(self, category: str) -> Sequence[Question]:
        return self._questions("train")

    def _questions(self, split: str) -> list[Question]:
        rows = read_rows(self.path, split, subset="main")
        return [_question(f"gsm8k/{split}/{number}", row) for number, row in enumerate(rows)]


def _question(id: str, row: Row) -> Question:
    reasoning, mark, answer = row.text("answer").rpartition("####")
    if not mark:
        raise DataError(f"{row.place}: the answer has no line `#### N`.")
    worked = _CALCULATOR_MARK.sub("", reasoning).strip()
    return Question(id, row.text("question"), answer.strip(), row.place, "gsm8k", worked)
