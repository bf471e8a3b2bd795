"""The LightningDataModule: one epoch is one GPO iteration, its rollouts made by the policy's present weights."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from lightning import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from gpo_lightning.critical import ChangePoint, MaxAdvantage, Newline, SearchStrategy, Segmenter, Selector
from gpo_lightning.engines import Engine, JournaledEngine, Recovery, Sampling
from gpo_lightning.engines.choose import choose_engine
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, ExperienceBuilder
from gpo_lightning.experience.demonstration import solution_trees
from gpo_lightning.given import expect
from gpo_lightning.hyperparameters import plain, shortened
from gpo_lightning.policy import Policy
from gpo_lightning.problems.prompt_check import PromptCheck
from gpo_lightning.problems.rewarded import AnyProblems, AnyRewards, judged
from gpo_lightning.rollout_data import RolloutData
from gpo_lightning.rollouts import RolloutPlan, Rollouts
from gpo_lightning.rollouts.parquet import read_trees
from gpo_lightning.rollouts.starts import Critical, StartStates
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


class RolloutDataModule(RolloutData):
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
        overlap: 1 makes the next iteration's rollouts while this one is learnt from, by the weights this one began
            with; ratios of the loss, taken against the rollouts' own log-probs, answer for the difference. 0: in turn.
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
        overlap: int = 0,
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
        super().__init__(judged(problems, rewards), evaluation, evaluation_samples, seed, made_by, recovery)
        self.plan = plan
        self.sampling = sampling.checked("data.sampling")
        self.segmenter, self.search, self.selector, self.starts = segmenter, search, selector, starts
        self.micro_batch, self.micro_tokens = micro_batch, micro_tokens
        self.refresh_every, self.overlap, self.saved = refresh_every, overlap, saved
        self.rollouts: Rollouts | None = None
        self._experience = experience
        self.directory = Path()
        self._chosen = engine == "auto"
        self._loader: tuple[int, DataLoader[OpaqueBatch[Batch]]] | None = None
        self._random_state: dict[str, Any] | None = None
        self._accumulate: int | None = None
        if sampling.temperature <= 0:
            raise ConfigError(
                "data.sampling.temperature must be positive: greedy rollouts of a group are all the same."
            )
        if micro_batch < 1 or refresh_every < 1:
            raise ConfigError("data.micro_batch and data.refresh_every must be at least 1.")
        if overlap not in (0, 1):
            raise ConfigError(f"data.overlap is {overlap}; rollouts are made 1 iteration ahead, or, with 0, in turn.")
        if overlap and (refresh_every > 1 or saved is not None):
            other = "data.refresh_every above 1" if refresh_every > 1 else "data.saved"
            raise ConfigError(f"data.overlap is for new rollouts in every iteration, unlike {other}. Leave one out.")
        made_by.beside_training = bool(overlap)
        if micro_tokens is not None and micro_tokens < 1:
            raise ConfigError(
                f"data.micro_tokens is {micro_tokens}; it must be at least 1, or null to cut by data.micro_batch."
            )

        self.save_hyperparameters(self._settings())

    def _settings(self) -> dict[str, Any]:
        """The arguments as plain values, for loggers."""
        names = ("problems", "plan", "sampling", "segmenter", "search", "selector", "starts", "micro_batch")
        more = ("micro_tokens", "refresh_every", "overlap", "saved", "evaluation", "evaluation_samples", "seed")
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
        if self.overlap and (self._ranks > 1 or builder.least_group == 0):
            why = "the loss learns from reference solutions" if self._ranks == 1 else f"{self._ranks} processes train"
            raise ConfigError(f"data.overlap is for one process that makes rollouts, and {why}. Leave it at 0.")
        if builder.least_group > self.plan.group_size:
            raise ConfigError(
                f"data.plan.group_size is {self.plan.group_size}, but {type(builder).__name__} compares at least "
                f"{builder.least_group} responses to a problem. Raise data.plan.group_size."
            )

    def builder(self, loss: "Loss") -> ExperienceBuilder:
        """The experience builder for a loss.

        Raises:
            ConfigError: ``data.experience`` is of another kind than the loss reads.
        """
        return builder_for(loss, self._experience)

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
        return self._rollouts_of(policy, iteration)

    def forget_rollouts(self, before: int) -> None:
        """Give up what the journal holds of iterations before one: a checkpoint of a later one is written."""
        KeptRollouts(self.directory / JOURNAL, self._rank).discard(before - before % self.refresh_every)
        if isinstance(self._engine, JournaledEngine):
            self._engine.journal.discard(before)

    def state_dict(self) -> dict[str, Any]:
        more: dict[str, Any] = {"earlier": self._earlier.state_dict()} if self.starts.remembers else {}
        if self._ahead is not None:
            self._ahead.wait(self.check_signals)
            more["ahead"] = self._ahead.state_dict()
        return {"ranks": rank_states(self.engine.ledger, self.clock, self.incidents), **more}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["ranks"]
        if earlier := state_dict.get("earlier"):
            self._earlier.load_state_dict(earlier, {problem.id: problem for problem in self.order.problems})
        if self._ahead is not None:
            self._ahead.load_state_dict(state_dict.get("ahead", {}))
        self._random_state = restore_rank_state(
            states, self._rank, self._ranks, self.engine.ledger, self.clock, self._incidents
        )

    def on_exception(self, exception: BaseException) -> None:
        self._give_back()

    def teardown(self, stage: str) -> None:
        if self._ahead is not None:
            self._ahead.tidy()
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
        if self._ahead is not None:
            self._ahead.give_up()
        self._engine.shutdown()
