"""The LightningDataModule: one epoch is one GPO iteration, its rollouts made by the policy's present weights."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from lightning import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from gpo_lightning.critical import ChangePoint, MaxAdvantage, Newline, NoSearch, SearchStrategy, Segmenter, Selector
from gpo_lightning.engines import Engine, JournaledEngine, Recovery, RestartingEngine, Sampling
from gpo_lightning.engines.choose import choose_engine
from gpo_lightning.engines.journal import CompletionJournal
from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation_data import EvaluationData
from gpo_lightning.experience import Batch, ExperienceBuilder
from gpo_lightning.experience.demonstration import solution_trees
from gpo_lightning.given import expect
from gpo_lightning.hyperparameters import plain, shortened
from gpo_lightning.policy import Policy
from gpo_lightning.problems import LabelledTrajectory, Problem, ProblemSource
from gpo_lightning.problems.labelled import LabelledSource
from gpo_lightning.problems.prompt_check import PromptCheck
from gpo_lightning.problems.rewarded import AnyProblems, AnyRewards, judged
from gpo_lightning.rewards.workers import grader_incidents
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan, Rollouts, RolloutTree
from gpo_lightning.rollouts.earlier import EarlierSuccesses
from gpo_lightning.rollouts.order import ProblemOrder
from gpo_lightning.rollouts.parquet import read_trees
from gpo_lightning.rollouts.starts import Critical, StartStates
from gpo_lightning.rollouts.work_queue import SearchJob, WorkQueue, dynamic_balance, static_balance
from gpo_lightning.runs import run_directory
from gpo_lightning.runs.fit_loop import ResumableFitLoop
from gpo_lightning.runs.kept_rollouts import KeptRollouts
from gpo_lightning.runs.random_state import restore_random_state
from gpo_lightning.runs.rank_states import rank_states, restore_rank_state
from gpo_lightning.runs.ranks import reduced
from gpo_lightning.runs.resume import JOURNAL
from gpo_lightning.runs.settings import settle
from gpo_lightning.training import OpaqueBatch, make_batches
from gpo_lightning.training.builder import builder_for

if TYPE_CHECKING:
    from gpo_lightning.losses import Loss


T = TypeVar("T")


class RolloutDataModule(EvaluationData):
    """Makes each epoch's training data by critical-step-reset rollouts.

    Args:
        problems: where questions come from. In Python also what :class:`~gpo_lightning.problems.Rows` takes.
        engine: who generates; ``auto`` takes vLLM on CUDA where it is installed, else transformers.
        plan: how many rollouts an iteration, and which are explored.
        sampling: how tokens are drawn, in rollouts; probes and resets may have temperatures of their own.
        segmenter: cuts responses into steps.
        search: spends the probes that value the steps.
        selector: chooses the critical step.
        starts: choose where groups start beside the prompt: at critical steps, which the search finds, or elsewhere.
        experience: turns trees into examples; ``null`` takes what the loss reads, with its defaults.
        micro_batch: examples that go through the policy together. An optimiser step has ``micro_batch`` times
            ``trainer.accumulate_grad_batches`` times the number of ranks; an iteration, as many steps as its
            examples fill.
        micro_tokens: most tokens that go through the policy together: what is computed, so that what packed rows
            share counts once. A step has the same examples, and the same gradient, in as many passes as it takes;
            ``null`` cuts it by ``micro_batch``.
        refresh_every: iterations between new rollouts; in between, the same ones are learnt from again.
        saved: Parquet file of rollouts (``gpo explore`` wrote it) to learn from instead of making new ones.
        evaluation: how tokens are drawn in evaluation; ``null`` means greedy, with the budget of ``sampling``.
        evaluation_samples: responses to each held-out problem.
        seed: of problem order, exploration and engine; the CLI sets it to ``seed_everything``.
        recovery: what is done about an engine that dies or hangs.
        rewards: what responses are worth (``docs/how-to/your-own-problems.md``); ``null``: by the problems' grader.
    """

    def __init__(
        self,
        problems: AnyProblems,
        engine: Engine | Literal["auto"] = "auto",
        plan: RolloutPlan = RolloutPlan(),
        sampling: Sampling = Sampling(),
        segmenter: Segmenter = Newline(),
        search: SearchStrategy = ChangePoint(),
        selector: Selector = MaxAdvantage(),
        starts: StartStates = Critical(),
        experience: ExperienceBuilder | None = None,
        micro_batch: int = 8,
        refresh_every: int = 1,
        saved: Path | None = None,
        evaluation: Sampling | None = None,
        evaluation_samples: int = 1,
        seed: int = 0,
        recovery: Recovery = Recovery(),
        rewards: AnyRewards = None,
        micro_tokens: int | None = None,
    ) -> None:
        made_by = expect("engine", choose_engine() if engine == "auto" else engine, Engine, "VLLM()")
        expect("plan", plan, RolloutPlan, "RolloutPlan(group_size=8)")
        expect("sampling", sampling, Sampling, "Sampling(max_tokens=512)")
        expect("segmenter", segmenter, Segmenter, "Newline()")
        expect("search", search, SearchStrategy, "ChangePoint()")
        expect("selector", selector, Selector, "MaxAdvantage()")
        expect("starts", starts, StartStates, "Critical()")
        expect("evaluation", evaluation or sampling, Sampling, "Sampling(temperature=0.0)")
        evaluation = (evaluation or Sampling(sampling.max_tokens, temperature=0.0)).checked("data.evaluation")
        super().__init__(judged(problems, rewards), evaluation, evaluation_samples, seed)
        self.plan = plan
        self.sampling = sampling.checked("data.sampling")
        self.segmenter, self.search, self.selector, self.starts = segmenter, search, selector, starts
        self.micro_batch, self.micro_tokens = micro_batch, micro_tokens
        self.refresh_every, self.saved = refresh_every, saved
        self.rollouts: Rollouts | None = None
        self._earlier = EarlierSuccesses()
        self._prompts: PromptCheck | None = None
        self._experience = experience
        self.directory = Path()
        self.check_signals: Callable[[], None] = lambda: None
        self._made_by = made_by
        self._restarting = RestartingEngine(self._made_by, recovery)
        self._engine: Engine = self._restarting
        self._incidents: Counter[str] = Counter()
        self._graders_before = grader_incidents()
        self._chosen = engine == "auto"
        self._loader: tuple[int, DataLoader[OpaqueBatch[Batch]]] | None = None
        self._random_state: dict[str, Any] | None = None
        self._announced = False
        self._accumulate: int | None = None
        if sampling.temperature <= 0:
            raise ConfigError(
                "data.sampling.temperature must be positive: greedy rollouts of a group are all the same."
            )
        if micro_batch < 1 or refresh_every < 1:
            raise ConfigError("data.micro_batch and data.refresh_every must be at least 1.")
        if micro_tokens is not None and micro_tokens < 1:
            raise ConfigError(
                f"data.micro_tokens is {micro_tokens}; it must be at least 1, or null to cut by data.micro_batch."
            )

        self.save_hyperparameters(self._settings())

    def _settings(self) -> dict[str, Any]:
        """The arguments as plain values, for loggers."""
        names = ("problems", "plan", "sampling", "segmenter", "search", "selector", "starts", "micro_batch")
        more = ("micro_tokens", "refresh_every", "saved", "evaluation", "evaluation_samples", "seed")
        arguments = {name: getattr(self, name) for name in (*names, *more)}
        arguments |= {"engine": self._made_by, "experience": self._experience}
        return shortened({name: plain(value) for name, value in arguments.items()})

    def setup(self, stage: str) -> None:
        trainer = cast(Trainer, self.trainer)
        self._rank, self._ranks = trainer.global_rank, trainer.world_size
        self.benchmarks, self.expected = [], []
        self._made_by.check_policy(cast(Any, trainer.lightning_module).policy_config)
        if stage != "fit":
            return
        cast(Any, trainer.lightning_module).loss.check_sampling(self.sampling)
        settle(trainer)
        if self.micro_tokens is not None:
            self._accumulate = trainer.accumulate_grad_batches
            if any(isinstance(each, GradientAccumulationScheduler) for each in cast(Any, trainer).callbacks):
                raise ConfigError(
                    "data.micro_tokens decides how many batches make an optimiser step, and so does a "
                    "GradientAccumulationScheduler in trainer.callbacks. Leave one of them out."
                )
        self.directory = run_directory(trainer)
        self.journal_in(self.directory / JOURNAL)
        builder = self.builder(cast(Any, trainer.lightning_module).loss)
        if builder.least_group > self.plan.group_size:
            raise ConfigError(
                f"data.plan.group_size is {self.plan.group_size}, but {type(builder).__name__} compares at least "
                f"{builder.least_group} responses to a problem. Raise data.plan.group_size."
            )

    def journal_in(self, folder: Path) -> None:
        """Keep what the engine finishes in a folder, and answer from what a stopped run left there."""
        self._engine = JournaledEngine(
            self._restarting, CompletionJournal(folder, self._rank, self._ranks), lambda: self.check_signals()
        )

    def builder(self, loss: "Loss") -> ExperienceBuilder:
        """The experience builder for a loss.

        Raises:
            ConfigError: ``data.experience`` is of another kind than the loss reads.
        """
        return builder_for(loss, self._experience)

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
        return self._incidents + Counter(self._restarting.faults) + (grader_incidents() - self._graders_before)

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
        problems, reserve = self.order.iteration(iteration), self.order.reserve(iteration)
        self._serve(policy, iteration, self.order.problems, self.sampling)
        earlier = self._earlier.before(iteration)
        rollouts = self._finished(self._loop(policy, self.problems).explore(problems, iteration, reserve, earlier))
        if self.starts.remembers:
            self._earlier.add(rollouts.trees, iteration)
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

    def train_dataloader(self) -> DataLoader[OpaqueBatch[Batch]]:
        trainer = cast(Trainer, self.trainer)
        if self._random_state is not None:
            restore_random_state(self._random_state)
            self._random_state = None
        loop = trainer.fit_loop
        iteration = cast(Any, loop.epoch_progress.current).processed
        if isinstance(loop, ResumableFitLoop) and loop.over:
            return DataLoader(cast(Any, list[OpaqueBatch[Batch]]()), batch_size=None)
        # A run that is taken up again is asked twice for its first iteration.
        if self._loader is None or self._loader[0] != iteration:
            self._loader = (iteration, self._iteration_loader(trainer, iteration))
        return self._loader[1]

    def _iteration_loader(self, trainer: Trainer, iteration: int) -> DataLoader[OpaqueBatch[Batch]]:
        module = cast(Any, trainer.lightning_module)
        builder, policy = self.builder(module.loss), cast(Policy, module.policy)
        if self.rollouts is None or iteration % self.refresh_every == 0:
            origin = iteration - iteration % self.refresh_every
            if self.refresh_every == 1:
                self.rollouts = self._make(builder, policy, origin)
            else:
                kept = KeptRollouts(self.directory / JOURNAL, self._rank)
                self.rollouts = kept.read_or_make(
                    origin, lambda: self._make(builder, policy, origin), look=origin < iteration
                )
        skipped: Counter[str] = Counter()
        examples = builder.build(self.rollouts.trees, skipped)
        # Set, not added: rollouts that are learnt from again are built again.
        self.rollouts.counts = Counter({**self.rollouts.counts, **skipped, "examples": len(examples)})
        self.tell("scoring")
        with self.clock("old log-probs" if module.loss.needs_old_logprobs else "batches"):
            batches = make_batches(
                examples,
                builder,
                module.scorer,
                self.micro_batch,
                self._accumulate or trainer.accumulate_grad_batches,
                lambda values, how: reduced(trainer, values, how),
                trainer.precision_plugin.train_step_context,
                self.micro_tokens,
            )
        # Lightning asks for it anew at every batch.
        trainer.accumulate_grad_batches = batches.accumulate
        return DataLoader(cast(Any, batches), batch_size=None, collate_fn=cast(Any, OpaqueBatch))

    def _make(self, builder: ExperienceBuilder, policy: Policy, iteration: int) -> Rollouts:
        """What an iteration learns from: saved rollouts, reference solutions, or the policy's own new rollouts."""
        if self.saved is not None:
            return Rollouts(self.share(read_trees(self.saved)))
        if builder.least_group == 0:
            counts: Counter[str] = Counter()
            PromptCheck(policy.tokenizer, policy.context, policy.vocabulary, solutions=True).longest(
                [(self.order.problems, 0)]
            )
            trees = solution_trees(self.order.iteration(iteration), policy.tokenizer, policy.eos_ids, counts)
            if not trees:
                raise ConfigError("data.problems gives no reference solutions, which the loss learns from.")
            return Rollouts(trees, counts)
        return self.explore(policy, iteration)

    def forget_rollouts(self, before: int) -> None:
        """Give up what the journal holds of iterations before one: a checkpoint of a later one is written."""
        KeptRollouts(self.directory / JOURNAL, self._rank).discard(before - before % self.refresh_every)
        if isinstance(self._engine, JournaledEngine):
            self._engine.journal.discard(before)

    def state_dict(self) -> dict[str, Any]:
        earlier = {"earlier": self._earlier.state_dict()} if self.starts.remembers else {}
        return {"ranks": rank_states(self.engine.ledger, self.clock, self.incidents), **earlier}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["ranks"]
        if earlier := state_dict.get("earlier"):
            self._earlier.load_state_dict(earlier, {problem.id: problem for problem in self.order.problems})
        self._random_state = restore_rank_state(
            states, self._rank, self._ranks, self.engine.ledger, self.clock, self._incidents
        )

    def on_exception(self, exception: BaseException) -> None:
        self._give_back()

    def teardown(self, stage: str) -> None:
        self._give_back()
        if isinstance(self._engine, JournaledEngine):
            self._engine.journal.clear()

    def _give_back(self) -> None:
        """End the engine, and leave the trainer as it was configured."""
        if self._accumulate is not None and self.trainer is not None:
            self.trainer.accumulate_grad_batches, self._accumulate = self._accumulate, None
        self.close()

    def close(self) -> None:
        """End the engine; it starts again when it is needed."""
        self._engine.shutdown()
