"""Is this answer right? One grader per kind of answer; a grader never hangs and never guesses.

Nothing here generates, trains or knows a tokenizer.
"""

from gpo_lightning.grading.grader import Case, Grade, Grader
from gpo_lightning.grading.marked_answer import MarkedAnswer, marked_answer

__all__ = ["Case", "Grade", "Grader", "MarkedAnswer", "marked_answer"]
