"""BIG-Bench Hard: 27 tasks, 6,511 questions, with three worked examples for every task.

input      Today is Christmas Eve of 1937. What is the date tomorrow in MM/DD/YYYY?
           Options:
           (A) 12/11/1937
           (B) 12/25/1937 ...
target     (B)

Targets are letters, yes or no, numbers, or lists of words. `BBH(prompting=Plain(preface="{description}",
template="Q: {question}\\nA: Let's think step by step.\\n"))` asks exactly as the authors did.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import ascii_uppercase

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems.files import is_local, read_file, read_rows
from gpo_lightning.problems.problem import Problem
from gpo_lightning.problems.problem_set import ProblemSet, choose
from gpo_lightning.problems.prompt_styles import Chat, Form, Prompting
from gpo_lightning.problems.question import Question
from gpo_lightning.problems.row import Row
from gpo_lightning.rewards import BigBenchHard, Grader, Phrase

TASKS = (
    "boolean_expressions",
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "dyck_languages",
    "formal_fallacies",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
)
_CANARY_ENDS = "-----\n"
_OPTION = re.compile(r"^\(([A-Z])\) (.*)$", re.MULTILINE)
_CUE = "Let's think step by step."


class BBH(ProblemSet):
    """A benchmark; a table's categories are the tasks.

    Args:
        path: hub id, or a local copy of github.com/suzgunmirac/BIG-Bench-Hard.
        prompting: how questions are put; three worked examples unless it says otherwise.
        tasks: names; ``null`` takes all 27.
        prompts: folder of the chain-of-thought prompts, ``cot-prompts`` of that repository; ``null`` looks for it in
            ``path``. They are not on the hub.
        force_training: train on it all the same.
    """

    usual = Form(Phrase(), shots=3)

    def __init__(
        self,
        path: str = "lukaemon/bbh",
        prompting: Prompting = Chat(),
        tasks: Sequence[str] | None = None,
        prompts: str | None = None,
        force_training: bool = False,
    ) -> None:
        super().__init__("bbh", prompting, force_training)
        self.path, self.tasks = path, choose("tasks", tasks, TASKS)
        self.prompts = prompts or (f"{path}/cot-prompts" if is_local(path) else None)

    @property
    def grader(self) -> Grader:
        return BigBenchHard((self.form.answer,))

    def heldout(self) -> Sequence[Problem]:
        return self.ask(question for task in self.tasks for question in self._questions(task))

    def examples(self, category: str) -> Sequence[Question]:
        return _read_prompt(self._prompt_file(category), category)[1]

    def _questions(self, task: str) -> list[Question]:
        # The sentence that says what the task is stands in the prompt files alone.
        described = self.prompts is not None and self._prompt_file(task).exists()
        description = _read_prompt(self._prompt_file(task), task)[0] if described else ""
        return [_question(f"bbh/{task}/{i}", row, task, description) for i, row in enumerate(self._rows(task))]

    def _rows(self, task: str) -> list[Row]:
        if not is_local(self.path):
            return read_rows(self.path, "test", subset=task)
        folder = Path(self.path).expanduser()
        return read_file((folder / "bbh" if (folder / "bbh").is_dir() else folder) / f"{task}.json")

    def _prompt_file(self, task: str) -> Path:
        if self.prompts is None:
            raise ConfigError(
                "data.problems.prompts: BBH's worked examples are not on the hub. Set it to the folder cot-prompts of "
                "github.com/suzgunmirac/BIG-Bench-Hard, or set data.problems.prompting.shots to 0."
            )
        return Path(self.prompts).expanduser() / f"{task}.txt"


def _question(id: str, row: Row, task: str, description: str) -> Question:
    text = row.text("input")
    options = _OPTION.findall(text)
    lettered = [letter for letter, _ in options] == list(ascii_uppercase[: len(options)])
    metadata = {"options": [option for _, option in options]} if options and lettered else {}
    return Question(id, text, row.text("target"), row.place, task, None, description, metadata)


@cache
def _read_prompt(file: Path, task: str) -> tuple[str, Sequence[Question]]:
    """The task's description and its worked examples, the canary header cut off."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}. Set data.problems.prompts, or shots to 0.") from error
    description, *parts = text.partition(_CANARY_ENDS)[2].strip().split("\n\nQ: ")
    if not parts or any("\nA: " not in part for part in parts):
        raise DataError(f"{file}: not a prompt of BBH: a header, `-----`, a description, then `Q:` and `A:` by turns.")
    return description, tuple(_example(part, i, description, file, task) for i, part in enumerate(parts))


def _example(part: str, number: int, description: str, file: Path, task: str) -> Question:
    text, _, worked = part.partition("\nA: ")
    reasoning = worked.strip().removeprefix(_CUE).strip()
    answer = Phrase().find(reasoning) or ""
    return Question(f"bbh/{task}/example/{number}", text, answer, f"{file}", task, reasoning, description)
