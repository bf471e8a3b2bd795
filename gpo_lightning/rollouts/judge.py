"""What a finished continuation is worth: it is decoded once, graded, and made a sample for its tree."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical.token_text import TokenText, line_offsets
from gpo_lightning.engines import Completion, Purpose
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.problems.problem import Response
from gpo_lightning.problems.thoughts import Thoughts
from gpo_lightning.rewards import Grade
from gpo_lightning.rollouts.tree import Prefix, RolloutTree, Sample


@dataclass(frozen=True, slots=True)
class Finished:
    """A continuation that has come back.

    Args:
        tree: where it belongs.
        prefix: what it continues.
        purpose: why it was drawn.
        completion: what the engine made.
    """

    tree: RolloutTree
    prefix: Prefix
    purpose: Purpose
    completion: Completion

    @property
    def tokens(self) -> Prefix:
        """Of the whole response."""
        return self.prefix + self.completion.tokens


class Judge:
    """Makes samples of continuations.

    Args:
        tokenizer: decodes responses for the grader.
        source: grades them.
        counts: what could not be graded, was cut or was empty is added here.
    """

    def __init__(self, tokenizer: Tokenizer, source: ProblemSource, counts: Counter[str]) -> None:
        self._tokenizer, self._source, self._counts = tokenizer, source, counts
        self._text, self._thoughts = TokenText(tokenizer), Thoughts(tokenizer)

    def samples(self, finished: Sequence[Finished], version: int) -> list[Sample]:
        """One a continuation, graded together.

        Args:
            finished: the continuations.
            version: of the weights that drew them.
        """
        responses = [self._response(each) for each in finished]
        grades = self._source.grade_responses(responses)
        judged = list(zip(finished, responses, grades, strict=True))
        for each, response, grade in judged:
            self._counts[f"graded_{grade.reason}" if grade.reward is not None else "ungraded"] += 1
            self._counts["truncated"] += each.completion.truncated
            self._counts["empty_response"] += not response.text.strip()
        return [self._sample(each, response, grade, version) for each, response, grade in judged]

    def _response(self, finished: Finished) -> Response:
        problem, tokens = finished.tree.problem, finished.tokens
        text = str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        said = self._thoughts.said(finished.tree.prompt, tokens, problem.thoughts, text)
        return Response(problem, text, tokens, said)

    def _sample(self, finished: Finished, response: Response, grade: Grade, version: int) -> Sample:
        return Sample(
            tokens=response.tokens,
            start=len(finished.prefix),
            logprobs=finished.completion.logprobs,
            reward=grade.reward,
            reason=grade.reason,
            truncated=finished.completion.truncated,
            purpose=finished.purpose,
            version=version,
            answer=grade.answer,
            success=grade.success,
            parts=grade.parts,
            text=response.text,
            states=self._states(response.problem, response.tokens),
        )

    def _states(self, problem: Problem, tokens: Prefix) -> tuple[tuple[int, str], ...]:
        """The states at the beginnings of a response's lines; none where the source tells none, or fails (counted)."""
        if not self._source.tells_states(problem):
            return ()
        pieces = self._text.pieces(tokens)
        found: list[tuple[int, str]] = []
        for offset in line_offsets(pieces)[1:]:
            try:
                key = self._source.state_key(problem, "".join(pieces[:offset]))
            except Exception:  # a source of the user's; without states, siblings share what has the same tokens
                self._counts["state_key_failed"] += 1
                return ()
            if key is not None:
                found.append((offset, repr(key)))
        return tuple(found)
