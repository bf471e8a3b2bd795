"""One problem's road through an iteration: sample, grade, value the steps, choose the critical one, reset to it.

The data flow of the paper's method in one place; it knows nothing of losses, training or Lightning.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import SearchStrategy, Segmenter, Selector
from gpo_lightning.critical.state import TrajectoryState, surprisals
from gpo_lightning.critical.token_text import TokenText, line_offsets, step_texts
from gpo_lightning.engines import Engine, Purpose
from gpo_lightning.problems import LabelledTrajectory, Problem, ProblemSource
from gpo_lightning.problems.prompting import encode_solution, encode_steps
from gpo_lightning.problems.step_checked import StepChecked
from gpo_lightning.rollouts.plan import RolloutPlan
from gpo_lightning.rollouts.scheduler import Draws, Road
from gpo_lightning.rollouts.seeds import derived_random
from gpo_lightning.rollouts.starts import Attempts, StartStates
from gpo_lightning.rollouts.tree import Prefix, RolloutTree, Sample, ValueCurve
from gpo_lightning.rollouts.work_queue import SearchJob


@dataclass(frozen=True)
class Method:
    """What the roads of an iteration have in common; the arguments are :class:`RolloutLoop`'s.

    ``text`` tells what tokens say; ``earlier`` has the successes of earlier iterations by the problem's id.
    """

    engine: Engine
    tokenizer: Tokenizer
    text: TokenText
    source: ProblemSource
    plan: RolloutPlan
    segmenter: Segmenter
    search: SearchStrategy
    selector: Selector
    starts: StartStates
    seed: int
    iteration: int
    counts: Counter[str]
    earlier: Mapping[str, Sample]


@dataclass(frozen=True)
class _Search:
    """A trajectory whose steps are being valued."""

    tree: RolloutTree
    index: int
    boundaries: tuple[int, ...]

    def prefix(self, step: int) -> Prefix:
        return self.tree.samples[self.index].tokens[: self.boundaries[step]]

    @cached_property
    def surprisals(self) -> tuple[float, ...]:
        return surprisals(self.boundaries, self.tree.samples[self.index].logprobs)

    def state(self, draws: Draws) -> TrajectoryState:
        steps = range(len(self.boundaries) - 1)
        return TrajectoryState(
            boundaries=self.boundaries,
            nodes=tuple(self.tree.node(self.prefix(t), without=self.index) for t in steps),
            pending=tuple(draws.pending(self.prefix(t)) for t in steps),
            probed=tuple(self.tree.drawn(self.prefix(t), Purpose.PROBE) for t in steps),
            success=self.tree.samples[self.index].success or 0.0,
            spent=sum(self.tree.spent(self.prefix(t), Purpose.PROBE) for t in steps),
            surprisals=self.surprisals,
        )


class ProblemRoad:
    """What is done for one problem; each part ends when its continuations are in the tree.

    Args:
        method: how.
        draws: asks for continuations, and knows the tree.
    """

    def __init__(self, method: Method, draws: Draws) -> None:
        self.draws, self.tree = draws, draws.tree
        self._method, self._plan, self._counts = method, method.plan, method.counts
        self._decoded: dict[Prefix, list[str]] = {}

    @property
    def mixed(self) -> bool:
        """Whether the trajectories ended in different rewards."""
        return len({self.tree.samples[i].reward for i in self.tree.trajectories} - {None}) > 1

    def sample(self) -> Road:
        """Draw the group at the prompt."""
        self.draws.ask(Purpose.SAMPLE, (), self._plan.group_size)
        yield from self.draws.back()

    def examine(self, trajectory: LabelledTrajectory) -> Road:
        """Value the steps of a trajectory that somebody else wrote; a group of the policy's own values the prompt."""
        yield from self.sample()
        tokens, boundaries = encode_steps(trajectory.steps, self._method.tokenizer)
        text, version = "".join(trajectory.steps), self._method.engine.version
        given = Sample(tokens, 0, (), trajectory.outcome, "given", False, Purpose.SOLUTION, version=version, text=text)
        yield from self.search(SearchJob(self.tree, ((self.tree.add(given), boundaries),)))

    def search_and_reset(self, job: SearchJob) -> Road:
        """Value, choose, and start groups from what was chosen."""
        yield from self.search(job)
        yield from self.reset()

    def job(self) -> SearchJob:
        """The trajectories to explore; there may be none."""
        draw = derived_random(self._method.seed, self._method.iteration, "explore", self.tree.problem.id)
        if not self._method.starts.searches or draw.random() >= self._plan.reset_probability:
            return SearchJob(self.tree, ())
        if self._plan.mixed_only and not self.mixed:
            self._counts["undecidable_group"] += 1
            return SearchJob(self.tree, ())
        candidates = [i for i in self.tree.trajectories if self.tree.samples[i].success is not None]
        if self._plan.explore == "failed":
            candidates = [i for i in candidates if not self.tree.samples[i].right]
        chosen = draw.sample(candidates, min(self._plan.explored, len(candidates)))
        bounded = [(index, self._boundaries(self.tree.samples[index])) for index in sorted(chosen)]
        self._counts["single_step"] += sum(len(boundaries) <= 2 for _, boundaries in bounded)
        return SearchJob(self.tree, tuple((index, boundaries) for index, boundaries in bounded if len(boundaries) > 2))

    def search(self, job: SearchJob) -> Road:
        """Value the steps of the job's trajectories, and choose the critical one of each."""
        searches = [_Search(self.tree, index, boundaries) for index, boundaries in job.trajectories]
        self._probe(searches)
        while self.draws.waiting:
            yield
            self._probe(searches)
        self._conclude(searches)

    def reset(self, answer: str | None = None) -> Road:
        """Start groups where the method says, which may depend on the policy's ``answer`` to its question."""
        yield from self.start_at(self._starts(answer))

    def question(self) -> Problem | None:
        """What the policy is asked before starts are chosen; ``None`` for nothing."""
        return self._method.starts.question(self._attempts(None), self._draw("starts"))

    def start_at(self, prefixes: Iterable[Prefix]) -> Road:
        """Bring the group at every prefix to size; the probes made there are part of it."""
        prefixes = dict.fromkeys(prefixes)
        for round_ in range(1, self._plan.reset_rounds + 1):
            for prefix in prefixes:
                group = self.tree.group(prefix)
                outcomes = {self.tree.samples[index].reward for index in group} - {None}
                if round_ == 1 or len(outcomes) < 2:
                    self.draws.ask(Purpose.RESET, prefix, max(0, self._plan.resets * round_ - len(group)))
            yield from self.draws.back()

    def _probe(self, searches: Sequence[_Search]) -> None:
        """Request what the strategy's targets lack."""
        search, selector = self._method.search, self._method.selector
        states = [each.state(self.draws) for each in searches]
        if not self._method.engine.capabilities.reproducible:
            # Elsewhere a run that is interrupted and resumed, whose probes come back in another order, would differ.
            self._cancel(searches, search.cancellable(states, selector))
        targets = search.targets(states, selector)
        for each, state, target in zip(searches, states, targets, strict=True):
            for step, count in target.items():
                prefix = each.prefix(step)
                # In flight now, not when the state was taken: another trajectory through the same prefix may have
                # requested some a moment ago.
                there = state.nodes[step].drawn + self.draws.pending(prefix)
                self.draws.ask(Purpose.PROBE, prefix, max(0, count - there), search.longest(state, step))

    def _cancel(self, searches: Sequence[_Search], cancellable: Sequence[set[int]]) -> None:
        """Cancel probes that none of the trajectories through their prefix needs any more."""
        needed = {
            each.prefix(step)
            for each, steps in zip(searches, cancellable, strict=True)
            for step in set(range(len(each.boundaries) - 1)) - steps
        }
        unneeded = {
            each.prefix(step) for each, steps in zip(searches, cancellable, strict=True) for step in sorted(steps)
        }
        for prefix in sorted(unneeded - needed):
            self.draws.cancel(prefix)

    def _conclude(self, searches: Sequence[_Search]) -> None:
        method = self._method
        states = [each.state(self.draws) for each in searches]
        draws = [
            derived_random(method.seed, method.iteration, "critical", self.tree.problem.id, each.index)
            for each in searches
        ]
        values, critical = method.search.values(states), method.search.critical(states, method.selector, draws)
        for each, state, curve, step in zip(searches, states, values, critical, strict=True):
            tokens = self.tree.samples[each.index].tokens
            trials = tuple(node.trials for node in state.nodes)
            texts = step_texts(self._pieces(tokens), each.boundaries)
            self.tree.curves.append(ValueCurve(tokens, each.boundaries, curve, step, trials, texts))

    def _starts(self, answer: str | None) -> list[Prefix]:
        """Where groups start beside the prompt."""
        starts = self._method.starts
        prefixes = starts.prefixes(self._attempts(answer), self._draw("starts"))
        if not starts.searches:
            self._counts["moved_group" if prefixes else "group_stays_at_prompt"] += 1
        return prefixes

    def _draw(self, what: str) -> Random:
        return derived_random(self._method.seed, self._method.iteration, what, self.tree.problem.id)

    def _attempts(self, answer: str | None) -> Attempts:
        return Attempts(
            tree=self.tree,
            boundaries=self._boundaries,
            solution=self._solution,
            first_wrong=self._first_wrong,
            counts=self._counts,
            earlier=self._method.earlier.get(self.tree.problem.id),
            steps=lambda sample: step_texts(self._pieces(sample.tokens), self._boundaries(sample)),
            answer=answer,
        )

    def _solution(self) -> Sample | None:
        tokenizer, engine = self._method.tokenizer, self._method.engine
        eos = tokenizer.eos_token_id
        tokens = encode_solution(self.tree.problem, tokenizer, (eos,)) if isinstance(eos, int) else None
        if tokens is None:
            return None
        return Sample(tokens, 0, (), 1.0, "given", False, Purpose.SOLUTION, engine.version)

    def _first_wrong(self, sample: Sample) -> int | None:
        """Token offset of the first wrong step, where the source can check steps."""
        source = self._method.source
        if not isinstance(source, StepChecked):
            return None
        pieces = self._pieces(sample.tokens)
        line, offsets = source.first_wrong(self.tree.problem, "".join(pieces)), line_offsets(pieces)
        return offsets[line] if line is not None and line < len(offsets) else None

    def _boundaries(self, sample: Sample) -> tuple[int, ...]:
        return self._method.segmenter.boundaries(self._pieces(sample.tokens), sample.logprobs)

    def _pieces(self, tokens: Prefix) -> list[str]:
        """Text that each token adds; of a response whose steps are cut and named it is decoded once."""
        if tokens not in self._decoded:
            self._decoded[tokens] = self._method.text.pieces(tokens)
        return self._decoded[tokens]
