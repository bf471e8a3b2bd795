"""What is this response worth, and is it right? One grader per kind of answer; a grader never hangs and never guesses.

Nothing here generates, trains or knows a tokenizer.
"""

from gpo_lightning.rewards.big_bench_hard import BigBenchHard
from gpo_lightning.rewards.choice import Choice
from gpo_lightning.rewards.formats import Boxed, Marked, Phrase, Tagged, Whole
from gpo_lightning.rewards.grader import Case, Grade, Grader
from gpo_lightning.rewards.last_expression import LastExpression
from gpo_lightning.rewards.marked_answer import MarkedAnswer
from gpo_lightning.rewards.maths import Maths
from gpo_lightning.rewards.number import Number
from gpo_lightning.rewards.rewards import Rewards
from gpo_lightning.rewards.sequence_classifier import SequenceClassifier
from gpo_lightning.rewards.text import Text
from gpo_lightning.rewards.verbatim import Verbatim

__all__ = [
    "BigBenchHard",
    "Boxed",
    "Case",
    "Choice",
    "Grade",
    "Grader",
    "LastExpression",
    "Marked",
    "MarkedAnswer",
    "Maths",
    "Number",
    "Phrase",
    "Rewards",
    "SequenceClassifier",
    "Tagged",
    "Text",
    "Verbatim",
    "Whole",
]
