"""Questions to the policy beside its problems: answered in text, graded by nobody, learnt from by nobody."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.engines import Engine, Purpose, Sampling
from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.problems.problem import Response
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.rewards import Grade, Grader, MarkedAnswer
from gpo_lightning.rollouts.judge import Judge
from gpo_lightning.rollouts.progress import ProgressListener
from gpo_lightning.rollouts.scheduler import Draws, Road, Scheduler
from gpo_lightning.rollouts.tree import RolloutTree


class _Ungraded(ProblemSource):
    """Questions without a right answer."""

    def train(self) -> Sequence[Problem]:
        return []

    def heldout(self) -> Sequence[Problem]:
        return []

    @property
    def grader(self) -> Grader:
        return MarkedAnswer("")

    def grade_responses(self, responses: Sequence[Response]) -> list[Grade]:
        return [Grade(None, "asked") for _ in responses]


class Asking:
    """Asks the policy, and books what its answers cost as probes.

    Args:
        engine: a started engine.
        tokenizer: of the policy.
        sampling: how rollouts are drawn.
        max_tokens: of an answer.
        seed: of this iteration.
        counts: questions that could not be put are added here.
        listener: told about progress.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        sampling: Sampling,
        max_tokens: int,
        seed: int,
        counts: Counter[str],
        listener: ProgressListener | None = None,
    ) -> None:
        judge = Judge(tokenizer, _Ungraded(), Counter())
        sampling = replace(sampling, max_tokens=max_tokens)
        self._tokenizer, self._counts = tokenizer, counts
        self.scheduler = Scheduler(engine, judge, sampling, seed, counts, "questions", listener)

    def answers(self, questions: Sequence[Problem]) -> list[str | None]:
        """One answer to each; ``None`` where there was no room for it, or no tokens for the question."""
        opened = [self._open(question) for question in questions]
        roads = [(draws, _road(draws)) for draws in opened if draws is not None]
        self.scheduler.expected = len(roads)
        self.scheduler.run_all(roads)
        return [draws.tree.samples[0].text if draws is not None and draws.tree.samples else None for draws in opened]

    def _open(self, question: Problem) -> Draws | None:
        try:
            return self.scheduler.open(RolloutTree(question, encode_prompt(question, self._tokenizer)))
        except ConfigError:  # the policy's vocabulary knows the problem's words, and not all of ours
            self._counts["question_not_encodable"] += 1
            return None


def _road(draws: Draws) -> Road:
    draws.ask(Purpose.PROBE, (), 1)
    yield from draws.back()
