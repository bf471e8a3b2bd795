"""One GPO iteration's rollouts: many problems at once on the road of :class:`ProblemRoad`, on one engine.

It knows nothing of losses, training or Lightning.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import ChangePoint, MaxAdvantage, Newline, SearchStrategy, Segmenter, Selector
from gpo_lightning.critical.token_text import TokenText
from gpo_lightning.engines import Engine, Sampling
from gpo_lightning.engines.engine import remaining_tokens
from gpo_lightning.problems import LabelledTrajectory, Problem, ProblemSource
from gpo_lightning.problems.prompting import encode_prompt
from gpo_lightning.rollouts.asking import Asking
from gpo_lightning.rollouts.clock import Clock
from gpo_lightning.rollouts.earlier import Earlier
from gpo_lightning.rollouts.judge import Judge
from gpo_lightning.rollouts.occupancy import Occupancy
from gpo_lightning.rollouts.plan import RolloutPlan
from gpo_lightning.rollouts.progress import ProgressListener
from gpo_lightning.rollouts.road import Method, ProblemRoad
from gpo_lightning.rollouts.scheduler import Draws, Road, Scheduler
from gpo_lightning.rollouts.seeds import derive_seed, derived_random
from gpo_lightning.rollouts.starts import Critical, StartStates
from gpo_lightning.rollouts.tree import RolloutTree, Sample
from gpo_lightning.rollouts.work_queue import Balance, SearchJob

if TYPE_CHECKING:
    from gpo_lightning.policy import Policy


@dataclass
class Rollouts:
    """What an iteration made.

    Args:
        trees: one for each problem, in problem order; problems that were skipped have none. Where processes share
            their searches, trees taken over from others come last, and those that others took are there.
        counts: by incident and outcome: grades, ``prompt_too_long``, ``single_step``, ``undecidable_group``, ...
        seconds: by phase: the engine's are shared out among what it was working on; ``grade`` and ``search`` pass
            beside it.
        occupancy: how full the engine was; ``None`` where none made these.
    """

    trees: list[RolloutTree]
    counts: Counter[str] = field(default_factory=Counter[str])
    seconds: Clock = field(default_factory=Clock)
    occupancy: Occupancy | None = None


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
        balance: how ranks share the searches, once all have sampled; ``None``: each searches what it has sampled,
            as soon as a group is graded.
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
        balance: Balance | None = None,
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

    def explore(
        self,
        problems: Sequence[Problem],
        iteration: int,
        reserve: Sequence[Problem] = (),
        earlier: Sequence[Earlier] = (),
    ) -> Rollouts:
        """Rollout trees of ``problems`` under the weights that the engine serves.

        Args:
            problems: of the iteration.
            iteration: its number; the random draws follow from it.
            reserve: fresh problems for those whose group turns out all right or all wrong, in this order. The trees
                of both are returned.
            earlier: successes of earlier iterations, oldest first. Problems at which groups start from them without
                having been asked come last, with trees that hold no response from the prompt.
        """
        return _Iteration(self, iteration, earlier).explore(problems, reserve)

    def stream(
        self, problems: Sequence[Problem], iteration: int, made: Rollouts | None = None
    ) -> Iterator[RolloutTree]:
        """The trees of :meth:`explore`, in problem order, each as soon as it and those before it are finished.

        Nothing is held but what is under way, so that an iteration of any size can be written as it comes
        (:class:`~gpo_lightning.rollouts.TreeWriter`). Searches are not shared among ranks.

        Args:
            problems: of the iteration.
            iteration: its number; the random draws follow from it.
            made: counts, seconds and occupancy are put here.
        """
        return _Iteration(self, iteration, share=False).stream(problems, (), made)

    def examine(self, trajectories: Sequence[LabelledTrajectory], iteration: int = 0) -> Rollouts:
        """Find the critical step of trajectories that somebody else wrote; nothing is reset to it.

        The policy's own ``plan.group_size`` responses to each problem value the prompt. A problem may occur several
        times: each trajectory has a tree of its own, whose curve is the trajectory's.
        """
        return _Iteration(self, iteration).examine(trajectories)


class _Iteration:
    """The roads of one iteration.

    Args:
        loop: with its settings.
        iteration: number of the iteration.
        earlier: successes of iterations before it.
        share: whether ranks share their searches.
    """

    def __init__(self, loop: RolloutLoop, iteration: int, earlier: Sequence[Earlier] = (), share: bool = True) -> None:
        self._loop, self._counts, self._earlier = loop, Counter[str](), earlier
        self._method = Method(
            engine=loop.engine,
            tokenizer=loop.tokenizer,
            text=TokenText(loop.tokenizer),
            source=loop.source,
            plan=loop.plan,
            segmenter=loop.segmenter,
            search=loop.search,
            selector=loop.selector,
            starts=loop.starts,
            seed=loop.seed,
            iteration=iteration,
            counts=self._counts,
            earlier={its.problem.id: its.sample for its in earlier},
        )
        judge = Judge(loop.tokenizer, loop.source, self._counts)
        seed = derive_seed(loop.seed, iteration)
        self._scheduler = Scheduler(loop.engine, judge, loop.sampling, seed, self._counts, "rollouts", loop.listener)
        self._balance = loop.balance if share else None
        self._left: deque[tuple[int, Problem]] = deque()
        self._fresh: deque[tuple[int, Problem]] = deque()
        self._ended: dict[int, RolloutTree | None] = {}
        self._lent: dict[int, tuple[ProblemRoad, SearchJob]] = {}
        self._asking: dict[int, ProblemRoad] = {}

    def explore(self, problems: Sequence[Problem], reserve: Sequence[Problem]) -> Rollouts:
        made = Rollouts([])
        sampled = list(self.stream(problems, reserve, made))
        made.trees = sampled if self._balance is None else self._shared(sampled, self._balance)
        made.trees += self._elsewhere(sampled)
        return made

    def stream(
        self, problems: Sequence[Problem], reserve: Sequence[Problem], made: Rollouts | None
    ) -> Iterator[RolloutTree]:
        self._left.extend(enumerate(problems))
        self._fresh.extend(enumerate(reserve, len(problems)))
        self._scheduler.expected = len(problems)
        if made is not None:
            made.counts, made.seconds = self._counts, self._scheduler.seconds
            made.occupancy = self._scheduler.occupancy
        place = 0
        for _ in self._scheduler.polls(self._take):
            while place in self._ended:
                tree = self._ended.pop(place)
                place += 1
                if tree is not None:
                    yield tree
        self._ask([self._asking[place] for place in sorted(self._asking)])
        self._ended |= {place: way.tree for place, way in self._asking.items()}
        yield from (tree for _, tree in sorted(self._ended.items()) if tree is not None)

    def _take(self, in_flight: int) -> list[tuple[Draws, Road]]:
        """The next problem, where the engine has room."""
        while self._left and in_flight < self._scheduler.room:
            place, problem = self._left.popleft()
            way = self._way(problem)
            if way is not None:
                return [(way.draws, self._road(place, way))]
            self._ended[place] = None
            self._replace()
        return []

    def _road(self, place: int, way: ProblemRoad) -> Road:
        yield from way.sample()
        if not way.mixed:
            self._replace()
        if self._loop.starts.answer_tokens:
            self._asking[place] = way
            return
        job = way.job()
        if job.trajectories and self._balance is not None:
            self._lent[place] = (way, job)
        else:
            yield from way.search_and_reset(job)
        self._ended[place] = way.tree

    def _replace(self) -> None:
        """Put a fresh problem in the place of one that cannot be asked, or whose responses are all equally good."""
        if self._fresh:
            self._left.append(self._fresh.popleft())
            self._counts["refilled"] += 1
            self._scheduler.expected += 1

    def _shared(self, trees: Sequence[RolloutTree], balance: Balance) -> list[RolloutTree]:
        """Go on with the searches that fall to this rank, now that all have sampled; returns the trees it ends with."""
        ways = {id(way.tree): way for way, _ in self._lent.values()}
        own = [self._lent[place][1] for place in sorted(self._lent)]
        self._scheduler.put_off(len(own))
        queue, taken = balance(own), list[RolloutTree]()

        def onward(job: SearchJob) -> tuple[Draws, Road]:
            way = ways.get(id(job.tree)) or ProblemRoad(self._method, self._scheduler.open(job.tree))
            return way.draws, way.search_and_reset(job)

        def take(in_flight: int) -> list[tuple[Draws, Road]]:
            jobs = queue.take(in_flight)
            taken.extend(job.tree for job in jobs)
            self._scheduler.expected += len(jobs)
            return [onward(job) for job in jobs]

        self._scheduler.run(take)
        here, lent = set(map(id, taken)), {id(job.tree) for job in own}
        kept = [tree for tree in trees if id(tree) in here or id(tree) not in lent]
        return kept + [tree for tree in taken if id(tree) not in lent]

    def _ask(self, ways: Sequence[ProblemRoad]) -> None:
        """Ask the policy what the start states want to know, now that all have sampled, and go on by its answers."""
        if not ways:
            return
        loop, asked = self._loop, [(way, question) for way in ways if (question := way.question()) is not None]
        seed, limit = derive_seed(loop.seed, self._method.iteration, "questions"), loop.starts.answer_tokens
        asking = Asking(loop.engine, loop.tokenizer, loop.sampling, limit, seed, self._counts, loop.listener)
        answers = asking.answers([question for _, question in asked])
        said = {id(way): answer for (way, _), answer in zip(asked, answers, strict=True)}
        self._scheduler.seconds.add(asking.scheduler.seconds)
        self._scheduler.put_off(len(ways))
        self._scheduler.expected += len(ways)
        self._scheduler.run_all((way.draws, way.reset(said.get(id(way)))) for way in ways)

    def _elsewhere(self, sampled: Sequence[RolloutTree]) -> list[RolloutTree]:
        """Trees of problems that were solved earlier, in the place of groups that found no start."""
        loop, asked = self._loop, {tree.problem.id for tree in sampled}
        others = [its for its in self._earlier if its.problem.id not in asked]
        draw = derived_random(loop.seed, self._method.iteration, "elsewhere", loop.rank)
        found = loop.starts.elsewhere(self._counts["place_lent"], others, self._boundaries, draw)
        ways = [(way, prefixes) for problem, prefixes in found if (way := self._way(problem)) is not None]
        if ways:
            self._counts["recalled_group"] += sum(len(prefixes) for _, prefixes in ways)
            self._scheduler.expected += len(ways)
            self._scheduler.run_all((way.draws, way.start_at(prefixes)) for way, prefixes in ways)
        return [way.tree for way, _ in ways]

    def _boundaries(self, sample: Sample) -> tuple[int, ...]:
        return self._loop.segmenter.boundaries(self._method.text.pieces(sample.tokens), sample.logprobs)

    def examine(self, trajectories: Sequence[LabelledTrajectory]) -> Rollouts:
        trees: list[RolloutTree] = []
        self._scheduler.expected = len(trajectories)

        def roads() -> Iterator[tuple[Draws, Road]]:
            for trajectory in trajectories:
                way = self._way(trajectory.problem)
                if way is not None:
                    trees.append(way.tree)
                    yield way.draws, way.examine(trajectory)

        self._scheduler.run_all(roads())
        return self._made(trees)

    def _way(self, problem: Problem) -> ProblemRoad | None:
        """The beginning of a problem's road; ``None`` where its prompt leaves no room for a response (counted)."""
        loop = self._loop
        prompt = encode_prompt(problem, loop.tokenizer)
        if remaining_tokens(loop.sampling, prompt, (), loop.engine.capabilities.context) < 1:
            self._counts["prompt_too_long"] += 1
            return None
        return ProblemRoad(self._method, self._scheduler.open(RolloutTree(problem, prompt)))

    def _made(self, trees: list[RolloutTree]) -> Rollouts:
        return Rollouts(trees, self._counts, self._scheduler.seconds, self._scheduler.occupancy)
