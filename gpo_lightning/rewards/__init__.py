"""What is this response worth, and is it right? One grader per kind of answer; a grader never hangs and never guesses.

Nothing here generates, trains or knows a tokenizer.
"""

from gpo_lightning.rewards.big_bench_hard import BigBenchHard
from gpo_lightning.rewards.choice import Choice
from gpo_lightning.rewards.formats import (
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
from gpo_lightning.rewards.grader import Case, Grade, Grader, success_of
from gpo_lightning.rewards.last_expression import LastExpression
from gpo_lightning.rewards.marked_answer import MarkedAnswer, marked_answer
from gpo_lightning.rewards.maths import Maths
from gpo_lightning.rewards.number import Number
from gpo_lightning.rewards.rewards import Rewards, as_rewards
from gpo_lightning.rewards.text import Text
from gpo_lightning.rewards.verbatim import Verbatim
from gpo_lightning.rewards.workers import grader_incidents

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
    "Rewards",
    "Tagged",
    "Text",
    "Verbatim",
    "Whole",
    "after_thought",
    "as_rewards",
    "first_answer",
    "grader_incidents",
    "marked_answer",
    "success_of",
]
