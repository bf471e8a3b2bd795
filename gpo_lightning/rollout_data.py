"""The half of a data module that makes rollouts: engine, problems of an iteration, and what is made ahead."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import ChangePoint, NoSearch, SearchStrategy, Segmenter, Selector
from gpo_lightning.engines import Engine, JournaledEngine, Recovery, RestartingEngine, Sampling
from gpo_lightning.engines.journal import CompletionJournal
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation_data import EvaluationData
from gpo_lightning.policy import Policy
from gpo_lightning.problems import LabelledTrajectory, Problem, ProblemSource
from gpo_lightning.problems.labelled import LabelledSource
from gpo_lightning.problems.prompt_check import PromptCheck
from gpo_lightning.rewards.workers import grader_incidents
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan, Rollouts, RolloutTree
from gpo_lightning.rollouts.earlier import EarlierSuccesses
from gpo_lightning.rollouts.order import ProblemOrder
from gpo_lightning.rollouts.starts import Critical, StartStates
from gpo_lightning.rollouts.work_queue import SearchJob, WorkQueue, dynamic_balance, static_balance
from gpo_lightning.runs.ahead import RolloutsAhead
from gpo_lightning.runs.kept_rollouts import KeptRollouts


class RolloutData(EvaluationData):
    """Rollouts by the policy's present weights; the settings are those of the data module, which is its subclass."""

    plan: RolloutPlan
    sampling: Sampling
    segmenter: Segmenter
    search: SearchStrategy
    selector: Selector
    starts: StartStates
    overlap: int

    def __init__(
        self, problems: ProblemSource, evaluation: Sampling, samples: int, seed: int, engine: Engine, recovery: Recovery
    ) -> None:
        super().__init__(problems, evaluation, samples, seed)
        self.check_signals: Callable[[], None] = lambda: None
        self._made_by, self._restarting = engine, RestartingEngine(engine, recovery)
        self._engine: Engine = self._restarting
        self._ahead: RolloutsAhead | None = None
        self._earlier = EarlierSuccesses()
        self._prompts: PromptCheck | None = None
        self._incidents: Counter[str] = Counter()
        self._graders_before = grader_incidents()
        self._tokenizers: tuple[Tokenizer, Tokenizer] | None = None
        self._announced = self._chosen = False

    def journal_in(self, folder: Path) -> None:
        """Keep what the engine finishes in a folder, and answer from what a stopped run left there."""
        journal = CompletionJournal(folder, self._rank, self._ranks)
        self._engine = JournaledEngine(self._restarting, journal, self._check)
        if self.overlap:
            self._ahead = RolloutsAhead(self._engine, self._restarting, KeptRollouts(folder, self._rank))

    def _check(self) -> None:
        """Called between polls: stops whoever polls where the run is to stop."""
        if self._ahead is None or not self._ahead.check():
            self.check_signals()

    def _loop(self, policy: Policy, source: ProblemSource) -> RolloutLoop:
        """The object that makes rollouts, for problems of one source."""
        return RolloutLoop(
            engine=self._engine,
            tokenizer=policy.tokenizer,
            source=source,
            plan=self.plan,
            sampling=self.sampling,
            segmenter=self.segmenter,
            search=self.search,
            selector=self.selector,
            seed=self.seed,
            listener=self.listener,
            balance=None if self._ranks == 1 else self._balance,
            rank=self._rank,
            starts=self.starts,
        )

    def _balance(self, own: Sequence[SearchJob]) -> WorkQueue:
        """How ranks share their searches."""
        # Who is faster must not decide where a run has to repeat itself, nor where taking a tree costs nothing.
        if self._engine.capabilities.reproducible or isinstance(self.search, NoSearch):
            return static_balance(self._rank, self._ranks)(own)
        return dynamic_balance(self._rank)(own)

    def _serve(self, policy: Policy, version: int, problems: Sequence[Problem], sampling: Sampling) -> None:
        """Have the engine, started if need be, serve ``policy``'s present weights; and first check what is asked."""
        if self._ahead is not None:
            self._ahead.wait(self.check_signals)
        self._engine.expect(self._longest(policy, problems, sampling))
        self.tell("engine")
        with isolate_rng():
            self._loop(policy, self.problems).serve(policy, version, self.clock)
        if not self._announced:
            how = "chosen automatically" if self._chosen else "as configured"
            rank_zero_info(f"Engine: {self._engine.capabilities.name} ({how})")
            self._announced = True

    def _longest(self, policy: Policy, problems: Sequence[Problem], sampling: Sampling) -> int:
        """Most tokens of prompt and response; of all that training will ask, where it begins."""
        if self._prompts is None or self._prompts.tokenizer is not policy.tokenizer:
            self._prompts = PromptCheck(policy.tokenizer, policy.context, policy.vocabulary)
        asked = [(problems, sampling)]
        if self.trainer is not None and self.trainer.state.fn == "fit":
            later = [*self.expected, *(self.evaluated if self.trainer.limit_val_batches else ())]
            asked += [(self.order.problems, self.sampling), *((each.problems, each.sampling) for each in later)]
        return self._prompts.longest((listed, how.max_tokens) for listed, how in asked)

    @property
    def engine(self) -> Engine:
        """The engine as configured, for its ledger."""
        return self._made_by

    @property
    def incidents(self) -> Counter[str]:
        """What befell this rank, and was mended: engine restarts, graders that were killed, skipped steps."""
        lost = Counter(rollouts_ahead_lost=self._ahead.lost if self._ahead is not None else 0)
        graders = grader_incidents() - self._graders_before
        return self._incidents + Counter(self._restarting.faults) + lost + graders

    def count_incident(self, event: str) -> None:
        """Count something that went wrong and was mended."""
        self._incidents[event] += 1

    @cached_property
    def order(self) -> ProblemOrder:
        """Which problems this rank's iterations ask."""
        problems = self.problems.train()
        left_out = "; ".join(f"{count} left out ({reason})" for reason, count in self.problems.counts.items())
        rank_zero_info(f"Problems: {len(problems)} to learn from" + (f"; {left_out}" if left_out else ""))
        if not problems:
            held = len(self.problems.heldout())
            all_of_them = f" All {held} are held out: of one file, one row in ten is. Give more, or those apart."
            raise ConfigError(f"data.problems yields no training problems.{all_of_them if held else ''}")
        return ProblemOrder(problems, self.plan, self.seed, self._rank, self._ranks)

    def explore(self, policy: Policy, iteration: int) -> Rollouts:
        """An iteration's rollouts by ``policy``'s present weights."""
        return self._taken(self._exploration(policy, iteration, self._loop(policy, self.problems))(), iteration)

    def _exploration(self, policy: Policy, iteration: int, loop: RolloutLoop) -> Callable[[], Rollouts]:
        """What makes an iteration's rollouts by the weights of now, which are served."""
        problems, reserve = self.order.iteration(iteration), self.order.reserve(iteration)
        self._serve(policy, iteration, self.order.problems, self.sampling)
        earlier = self._earlier.before(iteration)
        return lambda: loop.explore(problems, iteration, reserve, earlier)

    def _second_tokenizer(self, policy: Policy) -> Tokenizer:
        if self._tokenizers is None or self._tokenizers[0] is not policy.tokenizer:
            self._tokenizers = (policy.tokenizer, deepcopy(policy.tokenizer))
        return self._tokenizers[1]

    def _taken(self, rollouts: Rollouts, iteration: int) -> Rollouts:
        """Rollouts that an iteration learns from."""
        if self.starts.remembers:
            self._earlier.add(rollouts.trees, iteration)
        return self._finished(rollouts)

    def _rollouts_of(self, policy: Policy, iteration: int) -> Rollouts:
        """The policy's own rollouts for an iteration; where they overlap, the next one's are begun."""
        ahead = self._ahead
        if ahead is None:
            return self.explore(policy, iteration)
        made = ahead.take(iteration, self.check_signals)
        rollouts = self.explore(policy, iteration) if made is None else self._taken(made, iteration)
        if cast(Trainer, self.trainer).max_epochs != iteration + 1:
            loop = self._loop(policy, self.problems)
            # Beside the training, which speaks for itself, and whose tokenizer may not be used by two at once.
            loop.listener, loop.tokenizer = None, self._second_tokenizer(policy)
            ahead.begin(iteration + 1, self._exploration(policy, iteration + 1, loop))
        return rollouts

    def examine(self, policy: Policy, labelled: LabelledSource) -> tuple[list[LabelledTrajectory], Rollouts]:
        """Labelled trajectories, and the critical steps the policy's continuations find in them."""
        trajectories = self.share(labelled.trajectories())
        self._serve(policy, 0, [each.problem for each in trajectories], self.sampling)
        return trajectories, self._finished(self._loop(policy, labelled.problems).examine(trajectories))

    def watch(self, problems: Sequence[Problem], version: int) -> list[RolloutTree]:
        """Trees of problems whose solutions the policy's present weights have valued step by step.

        Nothing is learnt from them: no random state outside is touched, and what they cost counts as evaluation.
        """
        policy = cast(Policy, cast(Any, cast(Trainer, self.trainer).lightning_module).policy)
        self._serve(policy, version, problems, self.sampling)
        loop = self._loop(policy, self.problems)
        loop.plan = replace(self.plan, reset_probability=1.0, mixed_only=False, resets=0, refills=0)
        loop.starts = Critical()
        loop.search = ChangePoint() if isinstance(self.search, NoSearch) else self.search
        with self.clock("evaluation"), isolate_rng(), self.engine.ledger.as_evaluation():
            trees = loop.explore(self.share(problems), version).trees
        self._engine.offload()
        return trees

    def _finished(self, rollouts: Rollouts) -> Rollouts:
        self.clock.add(rollouts.seconds)
        self._engine.offload()
        return rollouts
