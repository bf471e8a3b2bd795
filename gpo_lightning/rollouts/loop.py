"""One GPO iteration's rollouts: sample, grade, value the steps, choose the critical one, reset to it, sample again.

The data flow of the paper's method in one place; it knows nothing of losses, training or Lightning.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import ChangePoint, MaxAdvantage, Newline, SearchStrategy, Segmenter, Selector
from gpo_lightning.critical.state import TrajectoryState, surprisals
from gpo_lightning.critical.token_text import line_offsets, token_pieces
from gpo_lightning.engines import Engine, Purpose, Sampling
from gpo_lightning.engines.engine import remaining_tokens
from gpo_lightning.problems import LabelledTrajectory, Problem, ProblemSource
from gpo_lightning.problems.checked import Checked
from gpo_lightning.problems.prompting import encode_prompt, encode_solution, encode_steps
from gpo_lightning.rollouts.clock import Clock
from gpo_lightning.rollouts.plan import RolloutPlan
from gpo_lightning.rollouts.progress import ProgressListener
from gpo_lightning.rollouts.request_pool import RequestPool
from gpo_lightning.rollouts.seeds import derive_seed, derived_random
from gpo_lightning.rollouts.starts import Attempts, Critical, StartStates
from gpo_lightning.rollouts.tree import RolloutTree, Sample, ValueCurve
from gpo_lightning.rollouts.work_queue import Balance, SearchJob, WorkQueue

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy


@dataclass
class Rollouts:
    """What an iteration made.

    Args:
        trees: one for each problem, in problem order; problems that were skipped have none. Where processes share
            their searches, trees taken over from others come last, and those that others took are there.
        counts: by incident and outcome: grades, ``prompt_too_long``, ``single_step``, ``undecidable_group``, ...
        seconds: by phase.
    """

    trees: list[RolloutTree]
    counts: Counter[str] = field(default_factory=Counter[str])
    seconds: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class _Search:
    """A trajectory whose steps are being valued."""

    tree: RolloutTree
    index: int
    boundaries: tuple[int, ...]

    def prefix(self, step: int) -> tuple[int, ...]:
        return self.tree.samples[self.index].tokens[: self.boundaries[step]]

    @cached_property
    def surprisals(self) -> tuple[float, ...]:
        return surprisals(self.boundaries, self.tree.samples[self.index].logprobs)

    def state(self, probes: RequestPool) -> TrajectoryState:
        steps = range(len(self.boundaries) - 1)
        return TrajectoryState(
            boundaries=self.boundaries,
            nodes=tuple(self.tree.node(self.prefix(t), without=self.index) for t in steps),
            pending=tuple(probes.pending(self.tree, self.prefix(t)) for t in steps),
            probed=tuple(self.tree.drawn(self.prefix(t), Purpose.PROBE) for t in steps),
            success=self.tree.samples[self.index].success or 0.0,
            spent=sum(self.tree.spent(self.prefix(t), Purpose.PROBE) for t in steps),
            surprisals=self.surprisals,
        )


class RolloutLoop:
    """Makes an iteration's rollout trees.

    ``docs/one-iteration.md`` drives one by hand.

    Args:
        engine: generates tokens.
        tokenizer: of the policy.
        source: where the problems come from; grades responses.
        plan: how many rollouts.
        sampling: how tokens are drawn.
        segmenter: cuts responses into steps.
        search: decides where probes are spent.
        selector: chooses the critical step.
        seed: of the run; every random draw follows from it.
        listener: told about progress.
        balance: how ranks share the searches; by default each searches what it has sampled.
        rank: of this process; engines of different ranks draw differently.
        starts: choose where groups start beside the prompt.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        source: ProblemSource,
        plan: RolloutPlan = RolloutPlan(),
        sampling: Sampling = Sampling(),
        segmenter: Segmenter = Newline(),
        search: SearchStrategy = ChangePoint(),
        selector: Selector = MaxAdvantage(),
        seed: int = 0,
        listener: ProgressListener | None = None,
        balance: Balance = WorkQueue,
        rank: int = 0,
        starts: StartStates = Critical(),
    ) -> None:
        self.engine, self.tokenizer, self.source = engine, tokenizer, source
        self.plan, self.sampling = plan, sampling
        self.segmenter, self.search, self.selector = segmenter, search, selector
        self.seed, self.listener, self.balance, self.rank = seed, listener, balance, rank
        self.starts = starts

    def run(
        self, policy: "Policy", problems: Sequence[Problem], iteration: int = 0, reserve: Sequence[Problem] = ()
    ) -> Rollouts:
        """A whole iteration: serve the policy's present weights, make the rollouts, free the engine's memory.

        Args:
            policy: whose rollouts are made.
            problems: of the iteration.
            iteration: its number; the random draws follow from it.
            reserve: as in :meth:`explore`.
        """
        seconds = Clock()
        self.serve(policy, iteration, seconds)
        rollouts = self.explore(problems, iteration, reserve)
        rollouts.seconds.add(seconds)
        self.engine.offload()
        return rollouts

    def serve(self, policy: "Policy", version: int, seconds: Clock) -> None:
        """Have the engine, started if need be, serve the policy's present weights.

        Args:
            policy: what is served.
            version: number of the weights.
            seconds: the time it takes is added here.
        """
        with seconds("engine start"):
            self.engine.start(policy, self.seed + self.rank)
        with seconds("sync"):
            policy.gather()
            self.engine.onload()
            self.engine.sync(policy, version)

    def explore(self, problems: Sequence[Problem], iteration: int, reserve: Sequence[Problem] = ()) -> Rollouts:
        """Rollout trees of ``problems`` under the weights that the engine serves.

        Args:
            problems: of the iteration.
            iteration: its number; the random draws follow from it.
            reserve: fresh problems for those whose group turns out all right or all wrong, in this order. The trees
                of both are returned.
        """
        rollouts = Rollouts(trees=[])
        with rollouts.seconds("sample"):
            rollouts.trees = self._sample(problems, iteration, rollouts.counts)
            wanted, left = len(problems), list(reserve)
            while left and (lacking := wanted - sum(_mixed(tree) for tree in rollouts.trees)) > 0:
                rollouts.trees += self._sample(left[:lacking], iteration, rollouts.counts)
                rollouts.counts["refilled"] += len(left[:lacking])
                del left[:lacking]
            own = [self._choose(tree, iteration, rollouts.counts) for tree in rollouts.trees]
            own = [job for job in own if job.trajectories]
            queue = self.balance(own)
        taken = [job.tree for job in self._find_critical_steps(queue, iteration, rollouts)]
        here, shared = {id(tree) for tree in taken}, {id(job.tree) for job in own}
        rollouts.trees = [tree for tree in rollouts.trees if id(tree) in here or id(tree) not in shared]
        rollouts.trees += [tree for tree in taken if id(tree) not in shared]
        with rollouts.seconds("reset"):
            self._reset(rollouts.trees, iteration, rollouts.counts)
        return rollouts

    def examine(self, trajectories: Sequence[LabelledTrajectory], iteration: int = 0) -> Rollouts:
        """Find the critical step of trajectories that somebody else wrote; nothing is reset to it.

        The policy's own ``plan.group_size`` responses to each problem value the prompt. A problem may occur several
        times: each trajectory has a tree of its own, whose curve is the trajectory's.
        """
        rollouts = Rollouts(trees=[])
        with rollouts.seconds("sample"):
            problems = [trajectory.problem for trajectory in trajectories]
            rollouts.trees = self._sample(problems, iteration, rollouts.counts)
        fitting = iter(rollouts.trees)
        jobs: list[SearchJob] = []
        tree = next(fitting, None)
        for trajectory in trajectories:
            if tree is None or tree.problem is not trajectory.problem:
                continue  # its prompt was too long
            tokens, boundaries = encode_steps(trajectory.steps, self.tokenizer)
            text, version = "".join(trajectory.steps), self.engine.version
            given = Sample(
                tokens, 0, (), trajectory.outcome, "given", False, Purpose.SOLUTION, version=version, text=text
            )
            jobs.append(SearchJob(tree, ((tree.add(given), boundaries),)))
            tree = next(fitting, None)
        self._find_critical_steps(WorkQueue(jobs), iteration, rollouts)
        return rollouts

    def _sample(self, problems: Sequence[Problem], iteration: int, counts: Counter[str]) -> list[RolloutTree]:
        pool = self._pool(Purpose.SAMPLE, iteration, counts)
        trees: list[RolloutTree] = []
        for problem in problems:
            prompt = encode_prompt(problem, self.tokenizer)
            if remaining_tokens(self.sampling, prompt, (), self.engine.capabilities.context) < 1:
                counts["prompt_too_long"] += 1
                continue
            trees.append(RolloutTree(problem, prompt))
            pool.submit(trees[-1], (), self.plan.group_size)
        while pool.collect():
            pass
        return trees

    def _find_critical_steps(self, queue: WorkQueue, iteration: int, rollouts: Rollouts) -> list[SearchJob]:
        """Search what this process takes from the queue, and return it."""
        probes = self._pool(Purpose.PROBE, iteration, rollouts.counts)
        taken: list[SearchJob] = []
        by_tree: dict[int, list[_Search]] = {}
        grown: list[RolloutTree] = []
        while True:
            with rollouts.seconds("search"):
                self._probe([search for tree in grown for search in by_tree[id(tree)]], probes)
                while more := queue.take(probes.in_flight):
                    taken += more
                    by_tree |= {id(job.tree): _searches(job) for job in more}
                    self._probe([search for job in more for search in by_tree[id(job.tree)]], probes)
            if not probes.in_flight:
                break
            with rollouts.seconds("probe"):
                grown = probes.collect()
        with rollouts.seconds("search"):
            self._conclude([search for job in taken for search in by_tree[id(job.tree)]], probes, iteration)
        return taken

    def _conclude(self, searches: Sequence[_Search], probes: RequestPool, iteration: int) -> None:
        states = [search.state(probes) for search in searches]
        draws = [
            derived_random(self.seed, iteration, "critical", search.tree.problem.id, search.index)
            for search in searches
        ]
        values, critical = self.search.values(states), self.search.critical(states, self.selector, draws)
        for search, state, curve, step in zip(searches, states, values, critical, strict=True):
            tokens = search.tree.samples[search.index].tokens
            trials = tuple(node.trials for node in state.nodes)
            pieces = token_pieces(self.tokenizer, tokens)
            texts = tuple("".join(pieces[begin:end]) for begin, end in pairwise(search.boundaries))
            search.tree.curves.append(ValueCurve(tokens, search.boundaries, curve, step, trials, texts))

    def _probe(self, searches: Sequence[_Search], probes: RequestPool) -> None:
        """Request what the strategy's targets lack."""
        states = [search.state(probes) for search in searches]
        if not self.engine.capabilities.reproducible:
            # Elsewhere a run that is interrupted and resumed, whose probes come back in another order, would differ.
            self._cancel(searches, self.search.cancellable(states, self.selector), probes)
        targets = self.search.targets(states, self.selector)
        for search, state, target in zip(searches, states, targets, strict=True):
            for step, count in target.items():
                prefix = search.prefix(step)
                # In flight now, not when the state was taken: another trajectory through the same prefix may have
                # requested some a moment ago.
                there = state.nodes[step].drawn + probes.pending(search.tree, prefix)
                probes.submit(search.tree, prefix, max(0, count - there), self.search.longest(state, step))

    def _cancel(self, searches: Sequence[_Search], cancellable: Sequence[set[int]], probes: RequestPool) -> None:
        """Cancel probes that none of the trajectories through their prefix needs any more."""
        needed = {
            (id(search.tree), search.prefix(step))
            for search, steps in zip(searches, cancellable, strict=True)
            for step in set(range(len(search.boundaries) - 1)) - steps
        }
        for search, steps in zip(searches, cancellable, strict=True):
            for step in steps:
                if (id(search.tree), search.prefix(step)) not in needed:
                    probes.cancel(search.tree, search.prefix(step))

    def _choose(self, tree: RolloutTree, iteration: int, counts: Counter[str]) -> SearchJob:
        """The trajectories of a tree to explore; there may be none."""
        draw = derived_random(self.seed, iteration, "explore", tree.problem.id)
        if not self.starts.searches or draw.random() >= self.plan.reset_probability:
            return SearchJob(tree, ())
        if self.plan.mixed_only and not _mixed(tree):
            counts["undecidable_group"] += 1
            return SearchJob(tree, ())
        candidates = [i for i in tree.trajectories if tree.samples[i].success is not None]
        if self.plan.explore == "failed":
            candidates = [i for i in candidates if not tree.samples[i].right]
        chosen = draw.sample(candidates, min(self.plan.explored, len(candidates)))
        bounded = [(index, self._boundaries(tree.samples[index])) for index in sorted(chosen)]
        counts["single_step"] += sum(len(boundaries) <= 2 for _, boundaries in bounded)
        return SearchJob(tree, tuple((index, boundaries) for index, boundaries in bounded if len(boundaries) > 2))

    def _boundaries(self, sample: Sample) -> tuple[int, ...]:
        return self.segmenter.boundaries(token_pieces(self.tokenizer, sample.tokens), sample.logprobs)

    def _reset(self, trees: Sequence[RolloutTree], iteration: int, counts: Counter[str]) -> None:
        """Bring the group at every start state to size; the probes made there are part of it."""
        pool = self._pool(Purpose.RESET, iteration, counts)
        places = {(id(tree), prefix): tree for tree in trees for prefix in self._starts(tree, iteration, counts)}
        for round_ in range(1, self.plan.reset_rounds + 1):
            for (_, prefix), tree in places.items():
                group = tree.group(prefix)
                outcomes = {tree.samples[index].reward for index in group} - {None}
                if round_ == 1 or len(outcomes) < 2:
                    pool.submit(tree, prefix, max(0, self.plan.resets * round_ - len(group)))
            while pool.collect():
                pass

    def _starts(self, tree: RolloutTree, iteration: int, counts: Counter[str]) -> list[tuple[int, ...]]:
        """Where groups of a problem start beside the prompt."""
        draw = derived_random(self.seed, iteration, "starts", tree.problem.id)
        solution, first_wrong = partial(self._solution, tree), partial(self._first_wrong, tree)
        attempts = Attempts(tree, self._boundaries, solution, first_wrong, counts)
        prefixes = self.starts.prefixes(attempts, draw)
        if not self.starts.searches:
            counts["moved_group" if prefixes else "group_stays_at_prompt"] += 1
        return prefixes

    def _solution(self, tree: RolloutTree) -> Sample | None:
        eos = self.tokenizer.eos_token_id
        tokens = encode_solution(tree.problem, self.tokenizer, (eos,)) if isinstance(eos, int) else None
        if tokens is None:
            return None
        return Sample(tokens, 0, (), 1.0, "given", False, Purpose.SOLUTION, self.engine.version)

    def _first_wrong(self, tree: RolloutTree, sample: Sample) -> int | None:
        """Token offset of the first wrong step, where the source can check steps."""
        if not isinstance(self.source, Checked):
            return None
        pieces = token_pieces(self.tokenizer, sample.tokens)
        line, offsets = self.source.first_wrong(tree.problem, "".join(pieces)), line_offsets(pieces)
        return offsets[line] if line is not None and line < len(offsets) else None

    def _pool(self, purpose: Purpose, iteration: int, counts: Counter[str]) -> RequestPool:
        seed = derive_seed(self.seed, iteration)
        return RequestPool(
            self.engine, self.tokenizer, self.source, self.sampling, purpose, seed, counts, self.listener
        )


def _searches(job: SearchJob) -> list[_Search]:
    return [_Search(job.tree, index, boundaries) for index, boundaries in job.trajectories]


def _mixed(tree: RolloutTree) -> bool:
    """Whether the trajectories of a tree ended in different rewards."""
    return len({tree.samples[i].reward for i in tree.trajectories} - {None}) > 1
