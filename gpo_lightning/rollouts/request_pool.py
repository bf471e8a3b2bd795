"""Continuations in flight: asked of the engine, graded when they come back, stored in their trees."""

from collections import Counter

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical.token_text import line_offsets, token_pieces
from gpo_lightning.engines import Completion, Engine, Purpose, Request, Sampling
from gpo_lightning.engines.engine import remaining_tokens
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.problems.problem import Response
from gpo_lightning.problems.thoughts import Thoughts
from gpo_lightning.rewards import Grade
from gpo_lightning.rollouts.progress import Progress, ProgressListener
from gpo_lightning.rollouts.seeds import derive_seed
from gpo_lightning.rollouts.tree import RolloutTree, Sample

Prefix = tuple[int, ...]


class RequestPool:
    """One phase's continuations: :meth:`submit` requests some, :meth:`collect` stores those that have finished.

    Args:
        engine: a started engine.
        tokenizer: decodes responses for the grader.
        source: grades them.
        sampling: how to draw, by purpose.
        purpose: account of the tokens, and name of the phase.
        seed: of this phase; every request's own seed follows from it.
        counts: what was skipped or could not be graded is added here.
        listener: told about progress.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        source: ProblemSource,
        sampling: Sampling,
        purpose: Purpose,
        seed: int,
        counts: Counter[str],
        listener: ProgressListener | None = None,
    ) -> None:
        self._engine, self._tokenizer, self._source = engine, tokenizer, source
        self._sampling, self._purpose, self._seed = sampling.of(purpose), purpose, seed
        self._counts, self._listener = counts, listener
        self._thoughts = Thoughts(tokenizer)
        self._in_flight: dict[int, tuple[RolloutTree, Prefix]] = {}
        self._asked: Counter[tuple[str, Prefix]] = Counter()
        self._finished: Counter[tuple[str, Prefix]] = Counter()
        self._tokens = 0

    def submit(self, tree: RolloutTree, prefix: Prefix, count: int, longest: int | None = None) -> None:
        """Request ``count`` continuations of ``prefix``; none where the token limits leave no room (counted).

        Args:
            tree: where they will live.
            prefix: what they continue.
            count: how many.
            longest: tokens at which one is cut off, if it should be before the token limits are reached.
        """
        context = self._engine.capabilities.context
        room = remaining_tokens(self._sampling, tree.prompt, prefix, context)
        if room < 1:
            self._counts["no_room"] += count
            return
        room = room if longest is None else min(room, longest)
        place = (tree.problem.id, prefix)
        for _ in range(count):
            seed = derive_seed(self._seed, self._purpose, *place, self._asked[place])
            request = Request(tree.prompt + prefix, room, self._sampling, self._purpose, seed)
            self._in_flight[self._engine.submit(request)] = (tree, prefix)
            self._asked[place] += 1
        if count:
            self._tell()

    @property
    def in_flight(self) -> int:
        """Continuations that have not come back."""
        return len(self._in_flight)

    def pending(self, tree: RolloutTree, prefix: Prefix) -> int:
        """Continuations of ``prefix`` in flight."""
        place = (tree.problem.id, prefix)
        return self._asked[place] - self._finished[place]

    def cancel(self, tree: RolloutTree, prefix: Prefix) -> None:
        """Give up on the continuations of ``prefix`` in flight (counted); what they had drawn is lost."""
        for handle in [h for h, place in self._in_flight.items() if place[0] is tree and place[1] == prefix]:
            self._engine.cancel(handle)
            del self._in_flight[handle]
            self._finished[(tree.problem.id, prefix)] += 1
            self._counts["cancelled"] += 1

    def collect(self) -> list[RolloutTree]:
        """Wait for some continuations, store them, and return the trees that grew; empty when none is in flight."""
        grown: dict[int, RolloutTree] = {}
        completions = self._engine.poll()
        origins = [self._in_flight.pop(completion.handle) for completion in completions]
        whole = [prefix + completion.tokens for (_, prefix), completion in zip(origins, completions, strict=True)]
        texts = [self._text(tokens) for tokens in whole]
        responses = [
            Response(tree.problem, text, tokens, self._thoughts.said(tree.prompt, tokens, tree.problem.thoughts, text))
            for (tree, _), text, tokens in zip(origins, texts, whole, strict=True)
        ]
        grades = self._source.grade_responses(responses)
        for (tree, prefix), completion, text, grade in zip(origins, completions, texts, grades, strict=True):
            self._finished[(tree.problem.id, prefix)] += 1
            self._count(completion, text, grade)
            tree.add(self._sample(tree.problem, prefix, completion, text, grade))
            grown[id(tree)] = tree
        if grown:
            self._tell()
        return list(grown.values())

    def _tell(self) -> None:
        if self._listener is not None:
            asked = self._asked.total()
            self._listener(Progress(self._purpose, asked - len(self._in_flight), asked, self._tokens))

    def _text(self, tokens: Prefix) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _count(self, completion: Completion, text: str, grade: Grade) -> None:
        self._tokens += len(completion.tokens)
        self._counts[f"graded_{grade.reason}" if grade.reward is not None else "ungraded"] += 1
        self._counts["truncated"] += completion.truncated
        self._counts["empty_response"] += not text.strip()

    def _sample(self, problem: Problem, prefix: Prefix, completion: Completion, text: str, grade: Grade) -> Sample:
        tokens = prefix + completion.tokens
        return Sample(
            tokens=tokens,
            start=len(prefix),
            logprobs=completion.logprobs,
            reward=grade.reward,
            reason=grade.reason,
            truncated=completion.truncated,
            purpose=self._purpose,
            version=self._engine.version,
            answer=grade.answer,
            success=grade.success,
            parts=grade.parts,
            text=text,
            states=self._states(problem, tokens),
        )

    def _states(self, problem: Problem, tokens: Prefix) -> tuple[tuple[int, str], ...]:
        """The states at the beginnings of a response's lines; none where the source tells none, or fails (counted)."""
        if not self._source.tells_states(problem):
            return ()
        pieces = token_pieces(self._tokenizer, tokens)
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
