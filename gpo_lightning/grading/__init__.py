"""Is this answer right? One grader per kind of answer; a grader never hangs and never guesses.

Nothing here generates, trains or knows a tokenizer.
"""

from gpo_lightning.grading.big_bench_hard import BigBenchHard
from gpo_lightning.grading.choice import Choice
from gpo_lightning.grading.formats import (
    AnswerFormat,
    Boxed,
    Found,
    Marked,
    Phrase,
    Tagged,
    Whole,
    after_thought,
    first_answer,
)
from gpo_lightning.grading.grader import Case, Grade, Grader
from gpo_lightning.grading.last_expression import LastExpression
from gpo_lightning.grading.marked_answer import MarkedAnswer, marked_answer
from gpo_lightning.grading.maths import Maths
from gpo_lightning.grading.number import Number
from gpo_lightning.grading.text import Text
from gpo_lightning.grading.workers import grader_events

__all__ = [
    "AnswerFormat",
    "BigBenchHard",
    "Boxed",
    "Case",
    "Choice",
    "Found",
    "Grade",
    "Grader",
    "LastExpression",
    "Marked",
    "MarkedAnswer",
    "Maths",
    "Number",
    "Phrase",
    "Tagged",
    "Text",
    "Whole",
    "after_thought",
    "first_answer",
    "grader_events",
    "marked_answer",
]
