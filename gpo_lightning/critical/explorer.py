"""One GPO iteration's rollouts: sample, grade, find the critical steps, reset to them, sample again.

The data flow of the paper's method in one place; it knows nothing of losses, training or Lightning.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical.clock import Clock
from gpo_lightning.critical.drawing import Drawing, ProgressListener, seeded, seeded_draw
from gpo_lightning.critical.search import Known, SearchStrategy
from gpo_lightning.critical.segmenters import Segmenter
from gpo_lightning.critical.selectors import Selector
from gpo_lightning.critical.sharing import Alone, AtOnce, Pile, Share, Sharing
from gpo_lightning.critical.text import token_pieces
from gpo_lightning.engines import Engine, Purpose, Sampling, remaining_tokens
from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import LabelledTrajectory, Problem, ProblemSource, encode_prompt, encode_steps
from gpo_lightning.tree import Curve, RolloutTree, Sample


@dataclass(frozen=True)
class RolloutPlan:
    """How many rollouts an iteration makes, and of which trajectories.

    Args:
        problems: problems an iteration, over all ranks.
        group: trajectories sampled a problem.
        reset_probability: share of problems whose trajectories are explored and reset to a critical step; 0 is the
            base method without GPO (p in METHOD; the same authors' RICE uses 0.5).
        explore: which trajectories are candidates: ``all``, or only the ``failed`` ones.
        explored: most candidates explored a problem, drawn at random.
        mixed_only: explore only problems whose group has both right and wrong answers. Elsewhere every estimated
            advantage is near 0 and the search has nothing to find.
        resets: size of the group that starts at a critical prefix, probes made there included.
        reset_rounds: draw up to this many times ``resets`` until the group holds right and wrong answers; for
            losses that need pairs.
        refills: draw up to this many times fresh problems in the place of those whose group was all right or all
            wrong, until ``problems`` groups hold both (DAPO's dynamic sampling).
    """

    problems: int = 32
    group: int = 8
    reset_probability: float = 0.5
    explore: Literal["all", "failed"] = "all"
    explored: int = 1
    mixed_only: bool = True
    resets: int = 8
    reset_rounds: int = 1
    refills: int = 0

    def __post_init__(self) -> None:
        leasts = {"problems": 1, "group": 1, "explored": 0, "resets": 0, "reset_rounds": 1, "refills": 0}
        for name, least in leasts.items():
            if getattr(self, name) < least:
                raise ConfigError(f"data.plan.{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 <= self.reset_probability <= 1:
            raise ConfigError(f"data.plan.reset_probability is {self.reset_probability}; it must lie in [0, 1].")


@dataclass
class Rollouts:
    """What an iteration made.

    Args:
        trees: one a problem, in problem order; problems that were skipped have none. Where processes share their
            searches, trees taken over from others come last, and those that others took are there.
        counts: by event: grades, ``prompt_too_long``, ``single_step``, ``undecidable``, ...
        seconds: by phase.
    """

    trees: list[RolloutTree]
    counts: Counter[str] = field(default_factory=Counter[str])
    seconds: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class _Study:
    """A trajectory whose steps are being valued."""

    tree: RolloutTree
    index: int
    boundaries: tuple[int, ...]

    def prefix(self, step: int) -> tuple[int, ...]:
        return self.tree.samples[self.index].tokens[: self.boundaries[step]]

    def known(self, probing: Drawing) -> Known:
        steps = range(len(self.boundaries) - 1)
        return Known(
            boundaries=self.boundaries,
            nodes=tuple(self.tree.node(self.prefix(t), without=self.index) for t in steps),
            pending=tuple(probing.pending(self.tree, self.prefix(t)) for t in steps),
            probed=tuple(self.tree.drawn(self.prefix(t), Purpose.PROBE) for t in steps),
            reward=self.tree.samples[self.index].reward or 0.0,
            spent=sum(self.tree.spent(self.prefix(t), Purpose.PROBE) for t in steps),
        )


class Explorer:
    """Makes rollout trees.

    Args:
        engine: a started engine that serves the policy.
        tokenizer: of the policy.
        source: the problems' source, which grades.
        plan: how many rollouts.
        sampling: how to draw tokens.
        segmenter: cuts responses into steps.
        search: spends the probes.
        selector: chooses the critical step.
        seed: of the run.
        listener: told about progress.
        sharing: with whom the searches are shared.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        source: ProblemSource,
        plan: RolloutPlan,
        sampling: Sampling,
        segmenter: Segmenter,
        search: SearchStrategy,
        selector: Selector,
        seed: int = 0,
        listener: ProgressListener | None = None,
        sharing: Sharing = Alone(),
    ) -> None:
        self.engine, self.tokenizer, self.source = engine, tokenizer, source
        self.plan, self.sampling = plan, sampling
        self.segmenter, self.search, self.selector = segmenter, search, selector
        self.seed, self.listener, self.sharing = seed, listener, sharing

    def explore(self, problems: Sequence[Problem], iteration: int, reserve: Sequence[Problem] = ()) -> Rollouts:
        """Rollout trees of ``problems`` under the weights the engine serves.

        Args:
            problems: the iteration's.
            iteration: its number; the random draws follow from it.
            reserve: fresh problems for those whose group turns out all right or all wrong, in this order. The trees
                of both are given.
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
            own = [share for share in own if share.trajectories]
            pile = self.sharing.share(own)
        taken = [share.tree for share in self._find_critical_steps(pile, iteration, rollouts)]
        here, shared = {id(tree) for tree in taken}, {id(share.tree) for share in own}
        rollouts.trees = [tree for tree in rollouts.trees if id(tree) in here or id(tree) not in shared]
        rollouts.trees += [tree for tree in taken if id(tree) not in shared]
        with rollouts.seconds("reset"):
            self._reset(rollouts.trees, iteration, rollouts.counts)
        return rollouts

    def examine(self, trajectories: Sequence[LabelledTrajectory], iteration: int = 0) -> Rollouts:
        """Find the critical step of trajectories that somebody else wrote; nothing is reset to it.

        The policy's own ``plan.group`` responses to each problem value the prompt. A problem may occur several times:
        each trajectory has a tree of its own, whose curve is the trajectory's.
        """
        rollouts = Rollouts(trees=[])
        with rollouts.seconds("sample"):
            rollouts.trees = self._sample([its.problem for its in trajectories], iteration, rollouts.counts)
        fitting = iter(rollouts.trees)
        shares: list[Share] = []
        tree = next(fitting, None)
        for trajectory in trajectories:
            if tree is None or tree.problem is not trajectory.problem:
                continue  # its prompt was too long
            tokens, boundaries = encode_steps(trajectory.steps, self.tokenizer)
            given = Sample(tokens, 0, (), trajectory.outcome, "given", False, Purpose.SOLUTION, self.engine.version)
            shares.append(Share(tree, ((tree.add(given), boundaries),)))
            tree = next(fitting, None)
        self._find_critical_steps(AtOnce(shares), iteration, rollouts)
        return rollouts

    def _sample(self, problems: Sequence[Problem], iteration: int, counts: Counter[str]) -> list[RolloutTree]:
        drawing = self._drawing(Purpose.SAMPLE, iteration, counts)
        trees: list[RolloutTree] = []
        for problem in problems:
            prompt = encode_prompt(problem, self.tokenizer)
            if remaining_tokens(self.sampling, prompt, (), self.engine.capabilities.context) < 1:
                counts["prompt_too_long"] += 1
                continue
            trees.append(RolloutTree(problem, prompt))
            drawing.ask(trees[-1], (), self.plan.group)
        while drawing.collect():
            pass
        return trees

    def _find_critical_steps(self, pile: Pile, iteration: int, rollouts: Rollouts) -> list[Share]:
        """Search what this process takes from the pile, and return it."""
        probing = self._drawing(Purpose.PROBE, iteration, rollouts.counts)
        taken: list[Share] = []
        by_tree: dict[int, list[_Study]] = {}
        grown: list[RolloutTree] = []
        while True:
            with rollouts.seconds("search"):
                self._probe([study for tree in grown for study in by_tree[id(tree)]], probing)
                while more := pile.take(probing.in_flight):
                    taken += more
                    by_tree |= {id(share.tree): _studies(share) for share in more}
                    self._probe([study for share in more for study in by_tree[id(share.tree)]], probing)
            if not probing.in_flight:
                break
            with rollouts.seconds("probe"):
                grown = probing.collect()
        with rollouts.seconds("search"):
            self._conclude([study for share in taken for study in by_tree[id(share.tree)]], probing, iteration)
        return taken

    def _conclude(self, studies: Sequence[_Study], probing: Drawing, iteration: int) -> None:
        for study in studies:
            sample = study.tree.samples[study.index]
            known = study.known(probing)
            values = self.search.values(known)
            draw = seeded_draw(self.seed, iteration, "critical", study.tree.problem.id, study.index)
            critical = self.search.critical(known, self.selector, draw)
            trials = tuple(node.trials for node in known.nodes)
            study.tree.curves.append(Curve(sample.tokens, study.boundaries, values, critical, trials))

    def _probe(self, studies: Sequence[_Study], probing: Drawing) -> None:
        known = [study.known(probing) for study in studies]
        if not self.engine.capabilities.reproducible:
            # Elsewhere a run that is interrupted and resumed, whose probes come back in another order, would differ.
            self._cancel(studies, self.search.moot(known, self.selector), probing)
        for study, its, wanted in zip(studies, known, self.search.probes(known, self.selector), strict=True):
            for step, count in wanted.items():
                prefix = study.prefix(step)
                # Another trajectory through the same prefix may have asked a moment ago.
                asked = probing.pending(study.tree, prefix) - its.pending[step]
                probing.ask(study.tree, prefix, max(0, count - asked), self.search.longest(its, step))

    def _cancel(self, studies: Sequence[_Study], moot: Sequence[set[int]], probing: Drawing) -> None:
        """Cancel probes that none of the trajectories through their prefix needs any more."""
        needed = {
            (id(study.tree), study.prefix(step))
            for study, its in zip(studies, moot, strict=True)
            for step in set(range(len(study.boundaries) - 1)) - its
        }
        for study, its in zip(studies, moot, strict=True):
            for step in its:
                if (id(study.tree), study.prefix(step)) not in needed:
                    probing.cancel(study.tree, study.prefix(step))

    def _choose(self, tree: RolloutTree, iteration: int, counts: Counter[str]) -> Share:
        """The trajectories of a tree to explore; there may be none."""
        draw = seeded_draw(self.seed, iteration, "explore", tree.problem.id)
        if draw.random() >= self.plan.reset_probability:
            return Share(tree, ())
        if self.plan.mixed_only and not _mixed(tree):
            counts["undecidable_group"] += 1
            return Share(tree, ())
        candidates = [i for i in tree.trajectories if tree.samples[i].reward is not None]
        if self.plan.explore == "failed":
            candidates = [i for i in candidates if tree.samples[i].reward == 0]
        chosen = draw.sample(candidates, min(self.plan.explored, len(candidates)))
        bounded = [(index, self._boundaries(tree.samples[index])) for index in sorted(chosen)]
        counts["single_step"] += sum(len(boundaries) <= 2 for _, boundaries in bounded)
        return Share(tree, tuple(its for its in bounded if len(its[1]) > 2))

    def _boundaries(self, sample: Sample) -> tuple[int, ...]:
        return self.segmenter.boundaries(token_pieces(self.tokenizer, sample.tokens), sample.logprobs)

    def _reset(self, trees: Sequence[RolloutTree], iteration: int, counts: Counter[str]) -> None:
        """Bring the group at every critical prefix to size; the probes made there are part of it."""
        drawing = self._drawing(Purpose.RESET, iteration, counts)
        places = {(id(tree), curve.critical_prefix): tree for tree in trees for curve in tree.curves}
        for round_ in range(1, self.plan.reset_rounds + 1):
            for (_, prefix), tree in places.items():
                group = tree.group(prefix)
                outcomes = {tree.samples[index].reward for index in group} - {None}
                if round_ == 1 or len(outcomes) < 2:
                    drawing.ask(tree, prefix, max(0, self.plan.resets * round_ - len(group)))
            while drawing.collect():
                pass

    def _drawing(self, purpose: Purpose, iteration: int, counts: Counter[str]) -> Drawing:
        seed = seeded(self.seed, iteration)
        return Drawing(self.engine, self.tokenizer, self.source, self.sampling, purpose, seed, counts, self.listener)


def _studies(share: Share) -> list[_Study]:
    return [_Study(share.tree, index, boundaries) for index, boundaries in share.trajectories]


def _mixed(tree: RolloutTree) -> bool:
    """Whether the trajectories of a tree ended in different rewards."""
    return len({tree.samples[i].reward for i in tree.trajectories} - {None}) > 1
