"""The LightningDataModule: one epoch is one GPO iteration, its rollouts made by the policy's present weights."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader

from gpo_lightning.critical import (
    ChangePoint,
    Clock,
    Explorer,
    MaxAdvantage,
    Newline,
    NoSearch,
    ProblemOrder,
    ProgressListener,
    RolloutPlan,
    Rollouts,
    SearchStrategy,
    Segmenter,
    Selector,
    seeded,
)
from gpo_lightning.engines import Engine, Recovery, Sampling, Spool, Spooled, Supervised, choose_engine
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, Example, ExperienceBuilder, MicroBatch, schedule, solution_trees
from gpo_lightning.grading import grader_events
from gpo_lightning.metrics import Benchmark, respond
from gpo_lightning.policy import Policy
from gpo_lightning.problems import LabelledSource, LabelledTrajectory, Problem, ProblemSource
from gpo_lightning.running import (
    SPOOL,
    KeptRollouts,
    ResumableFitLoop,
    gather,
    rank_states,
    reduced,
    restore_random_state,
    restore_rank_state,
    run_directory,
    sharing,
)
from gpo_lightning.sealed import Sealed
from gpo_lightning.tree import RolloutTree, read_trees

if TYPE_CHECKING:
    from gpo_lightning.losses import Loss


HELDOUT = "heldout"
"""Name of the benchmark that is the held-out part of ``data.problems``."""


class RolloutDataModule(LightningDataModule):
    """Makes each epoch's training data by critical-step-reset rollouts.

    Args:
        problems: where questions come from.
        engine: who generates; ``auto`` takes vLLM where it is installed, else transformers.
        plan: how many rollouts an iteration, and which are explored.
        sampling: how tokens are drawn, in rollouts.
        segmenter: cuts responses into steps.
        search: spends the probes that value the steps.
        selector: chooses the critical step.
        experience: turns trees into examples; ``null`` takes what the loss reads, with its defaults.
        micro_batch: examples that go through the policy together. An optimiser step has ``micro_batch`` times
            ``trainer.accumulate_grad_batches`` times the number of ranks; an iteration, as many steps as its
            examples fill.
        refresh_every: iterations between new rollouts; in between, the same ones are learnt from again.
        saved: Parquet file of rollouts (``gpo explore`` wrote it) to learn from instead of making new ones.
        evaluation: how tokens are drawn in evaluation; ``null`` means greedy, with the budget of ``sampling``.
        evaluation_samples: responses to each held-out problem.
        seed: of problem order, exploration and engine; the CLI sets it to ``seed_everything``.
        recovery: what is done about an engine that dies or hangs.
    """

    def __init__(
        self,
        problems: ProblemSource,
        engine: Engine | Literal["auto"] = "auto",
        plan: RolloutPlan = RolloutPlan(),
        sampling: Sampling = Sampling(),
        segmenter: Segmenter = Newline(),
        search: SearchStrategy = ChangePoint(),
        selector: Selector = MaxAdvantage(),
        experience: ExperienceBuilder | None = None,
        micro_batch: int = 8,
        refresh_every: int = 1,
        saved: Path | None = None,
        evaluation: Sampling | None = None,
        evaluation_samples: int = 1,
        seed: int = 0,
        recovery: Recovery = Recovery(),
    ) -> None:
        super().__init__()
        self.problems, self.plan, self.sampling = problems, plan, sampling.checked("data.sampling")
        self.segmenter, self.search, self.selector = segmenter, search, selector
        self.micro_batch, self.refresh_every, self.saved = micro_batch, refresh_every, saved
        self.evaluation = (evaluation or Sampling(sampling.max_tokens, temperature=0.0)).checked("data.evaluation")
        self.evaluation_samples, self.seed = evaluation_samples, seed
        self.listener: ProgressListener | None = None
        self.clock = Clock()
        self.rollouts: Rollouts | None = None
        self.benchmarks: list[Benchmark] = []
        self._experience = experience
        self.directory = Path()
        self.check_signals: Callable[[], None] = lambda: None
        self._made_by = choose_engine() if engine == "auto" else engine
        self._supervised = Supervised(self._made_by, recovery)
        self._engine: Engine = self._supervised
        self._events: Counter[str] = Counter()
        self._graders_before = grader_events()
        self._chosen = engine == "auto"
        self._loader: tuple[int, DataLoader[Sealed[Batch]]] | None = None
        self._random_state: dict[str, Any] | None = None
        self._policy: Policy | None = None
        self._rank, self._ranks = 0, 1
        if sampling.temperature <= 0:
            raise ConfigError(
                "data.sampling.temperature must be positive: greedy rollouts of a group are all the same."
            )
        if micro_batch < 1 or refresh_every < 1:
            raise ConfigError("data.micro_batch and data.refresh_every must be at least 1.")

    def setup(self, stage: str) -> None:
        trainer = cast(Trainer, self.trainer)
        self._rank, self._ranks = trainer.global_rank, trainer.world_size
        self.benchmarks = []
        if stage != "fit":
            return
        self.directory = run_directory(trainer)
        self.spool_in(self.directory / SPOOL)
        if cast(Any, trainer).reload_dataloaders_every_n_epochs != 1:
            raise ConfigError(
                "trainer.reload_dataloaders_every_n_epochs must be 1: every epoch has rollouts of its own."
            )
        builder = self.builder(cast(Any, trainer.lightning_module).loss)
        if builder.least_group > self.plan.group:
            raise ConfigError(
                f"data.plan.group is {self.plan.group}, but {type(builder).__name__} compares at least "
                f"{builder.least_group} responses to a problem. Raise data.plan.group."
            )

    def spool_in(self, folder: Path) -> None:
        """Keep what the engine finishes in a folder, and answer from what a stopped run left there."""
        self._engine = Spooled(self._supervised, Spool(folder, self._rank, self._ranks), lambda: self.check_signals())

    def builder(self, loss: "Loss") -> ExperienceBuilder:
        """The experience builder for a loss.

        Raises:
            ConfigError: ``data.experience`` is of another kind than the loss reads.
        """
        if self._experience is None:
            return loss.default_experience()
        if not isinstance(self._experience, loss.experience):
            raise ConfigError(
                f"data.experience is {type(self._experience).__name__}, but model.loss {type(loss).__name__} reads "
                f"{loss.experience.__name__}. Set data.experience to null, or to the kind the loss reads."
            )
        return self._experience

    def serve(self, policy: Policy, version: int) -> Engine:
        """The engine, started if need be, serving ``policy``'s present weights."""
        if self._policy is None:
            with self.clock("engine start"), isolate_rng():
                self._engine.start(policy, self.seed + self._rank)
            self._policy = policy
            how = "chosen automatically" if self._chosen else "as configured"
            rank_zero_info(f"Engine: {self._engine.capabilities.name} ({how})")
        with self.clock("sync"):
            policy.gather()
            self._engine.onload()
            self._engine.sync(policy, version)
        return self._engine

    @property
    def engine(self) -> Engine:
        """The engine as configured, for its ledger."""
        return self._made_by

    @property
    def events(self) -> Counter[str]:
        """What befell this rank, and was mended: engine restarts, graders that were killed, skipped steps."""
        return self._events + Counter(self._supervised.faults) + (grader_events() - self._graders_before)

    def note(self, event: str) -> None:
        """Count something that went wrong and was mended."""
        self._events[event] += 1

    @cached_property
    def order(self) -> ProblemOrder:
        """Which problems this rank's iterations ask."""
        problems = self.problems.train()
        left_out = "; ".join(f"{count} left out ({reason})" for reason, count in self.problems.counts.items())
        rank_zero_info(f"Problems: {len(problems)} to learn from" + (f"; {left_out}" if left_out else ""))
        if not problems:
            raise ConfigError("data.problems yields no training problems.")
        return ProblemOrder(problems, self.plan, self.seed, self._rank, self._ranks)

    def explore(self, policy: Policy, iteration: int) -> Rollouts:
        """An iteration's rollouts by ``policy``'s present weights."""
        problems, reserve = self.order.iteration(iteration), self.order.reserve(iteration)
        explorer = self._explorer(policy, iteration, self.problems)
        return self._finished(explorer.explore(problems, iteration, reserve))

    def examine(self, policy: Policy, labelled: LabelledSource) -> tuple[list[LabelledTrajectory], Rollouts]:
        """Labelled trajectories, and the critical steps the policy's continuations find in them."""
        trajectories = list(labelled.trajectories())[self._rank :: self._ranks]
        return trajectories, self._finished(self._explorer(policy, 0, labelled.problems).examine(trajectories))

    def _explorer(self, policy: Policy, iteration: int, source: ProblemSource) -> Explorer:
        engine, parts = self.serve(policy, iteration), (self.segmenter, self.search, self.selector)
        # Who is faster must not decide where a run has to repeat itself, nor where taking a tree costs nothing at once.
        by_time = not engine.capabilities.reproducible and not isinstance(self.search, NoSearch)
        rest = (self.seed, self.listener, sharing(self._rank, self._ranks, by_time))
        return Explorer(engine, policy.tokenizer, source, self.plan, self.sampling, *parts, *rest)

    def _finished(self, rollouts: Rollouts) -> Rollouts:
        self.clock.add(rollouts.seconds)
        self._engine.offload()
        return rollouts

    def train_dataloader(self) -> DataLoader[Sealed[Batch]]:
        trainer = cast(Trainer, self.trainer)
        if self._random_state is not None:
            restore_random_state(self._random_state)
            self._random_state = None
        loop = trainer.fit_loop
        iteration = cast(Any, loop.epoch_progress.current).processed
        if isinstance(loop, ResumableFitLoop) and loop.over:
            return DataLoader(cast(Any, list[Sealed[Batch]]()), batch_size=None)
        # A run that is taken up again is asked twice for its first iteration.
        if self._loader is None or self._loader[0] != iteration:
            self._loader = (iteration, self._iteration_loader(trainer, iteration))
        return self._loader[1]

    def _iteration_loader(self, trainer: Trainer, iteration: int) -> DataLoader[Sealed[Batch]]:
        module = cast(Any, trainer.lightning_module)
        builder, policy = self.builder(module.loss), cast(Policy, module.policy)
        if self.rollouts is None or iteration % self.refresh_every == 0:
            self.rollouts = self._gather_or_read(builder, policy, iteration)
        skipped: Counter[str] = Counter()
        examples = builder.build(self.rollouts.trees, skipped)
        # Set, not added: rollouts that are learnt from again are built again.
        self.rollouts.counts = Counter({**self.rollouts.counts, **skipped, "examples": len(examples)})
        batches = self._schedule(examples, builder, module.loss, trainer)
        if module.loss.appraises:
            return DataLoader(cast(Any, self._appraise(batches, builder, module, trainer)), batch_size=None)

        def collate(batch: MicroBatch) -> Sealed[Batch]:
            return Sealed(batch.collate(builder, policy.pad_id))

        return DataLoader(cast(Any, batches), batch_size=None, collate_fn=cast(Any, collate))

    def _gather_or_read(self, builder: ExperienceBuilder, policy: Policy, iteration: int) -> Rollouts:
        """Rollouts to learn from in an iteration, which may be those of one before it."""
        origin = iteration - iteration % self.refresh_every
        kept = KeptRollouts(self.directory / SPOOL, self._rank)
        rollouts = kept.read(origin) if origin < iteration else None
        # A kill may have come between two ranks' writing, and ranks that share their searches search together.
        complete = all(gather([rollouts is not None]))
        if rollouts is None or not complete:
            rollouts = self._gather(builder, policy, origin)
            if self.refresh_every > 1:
                kept.write(origin, rollouts)
        return rollouts

    def forget_rollouts(self, before: int) -> None:
        """Give up what is spooled of the iterations before one: a checkpoint of a later one is written."""
        KeptRollouts(self.directory / SPOOL, self._rank).discard(before - before % self.refresh_every)
        if isinstance(self._engine, Spooled):
            self._engine.spool.discard(before)

    def _appraise(
        self, batches: Sequence[MicroBatch], builder: ExperienceBuilder, module: Any, trainer: Trainer
    ) -> list[Sealed[Batch]]:
        """An iteration's batches, with what the loss makes of scores by the policy as it is now."""
        policy, collated = cast(Policy, module.policy), list[Batch]()
        policy.eval()
        with self.clock("appraise"), torch.no_grad(), trainer.precision_plugin.train_step_context():
            for micro_batch in batches:
                batch = micro_batch.collate(builder, policy.pad_id)
                prior = module.score(batch.to(policy.device)).to(torch.device("cpu"))
                collated.append(replace(batch, prior=prior))
        policy.train()
        appraised = module.loss.appraise(collated, builder, lambda sums: reduced(trainer, sums, "sum"))
        return [Sealed(batch) for batch in appraised]

    def _gather(self, builder: ExperienceBuilder, policy: Policy, iteration: int) -> Rollouts:
        if self.saved is not None:
            return Rollouts(read_trees(self.saved)[self._rank :: self._ranks])
        if builder.least_group == 0:
            counts: Counter[str] = Counter()
            trees = solution_trees(self.order.iteration(iteration), policy.tokenizer, policy.eos_ids[0], counts)
            if not trees:
                raise ConfigError("data.problems gives no reference solutions, which the loss learns from.")
            return Rollouts(trees, counts)
        return self.explore(policy, iteration)

    def _schedule(
        self, examples: Sequence[Example], builder: ExperienceBuilder, loss: "Loss", trainer: Trainer
    ) -> list[MicroBatch]:
        def highest(count: int) -> int:
            return int(reduced(trainer, [float(count)], "max")[0])

        def total(weights: list[float]) -> list[float]:
            return reduced(trainer, weights, "sum")

        accumulate, terms = trainer.accumulate_grad_batches, len(loss.weights(builder.blank()))
        return schedule(examples, loss.weights, self.micro_batch, accumulate, terms, highest, total)

    @cached_property
    def heldout(self) -> Benchmark:
        """The held-out part of ``data.problems`` as a benchmark."""
        with isolate_rng():
            problems = tuple(self.problems.heldout())
        if not problems:
            raise ConfigError("data.problems yields no held-out problems.")
        return Benchmark(HELDOUT, self.problems, problems, len(problems), self.evaluation, self.evaluation_samples)

    @property
    def evaluated(self) -> list[Benchmark]:
        """What ``validate`` and ``test`` evaluate: the benchmarks callbacks have named, else the held-out problems."""
        return self.benchmarks or [self.heldout]

    def respond(self, problems: Sequence[Problem], benchmark: Benchmark | None = None) -> list[RolloutTree]:
        """Graded responses to problems of a benchmark by the policy's present weights.

        No random state outside is touched, so that a run learns the same whether or not it is evaluated.
        """
        benchmark = benchmark or self.heldout
        trainer = cast(Trainer, self.trainer)
        policy = cast(Policy, cast(Any, trainer.lightning_module).policy)
        engine = self.serve(policy, trainer.current_epoch)
        with self.clock("evaluation"), isolate_rng():
            trees, _ = respond(
                engine,
                policy.tokenizer,
                benchmark.source,
                problems,
                benchmark.sampling,
                benchmark.samples,
                seeded(self.seed, "evaluation"),
                self.listener,
            )
        engine.offload()
        return trees

    def share(self, problems: Sequence[Problem]) -> list[Problem]:
        """This rank's part of a list of problems."""
        return list(problems[self._rank :: self._ranks])

    def _evaluation_dataloader(self, benchmark: Benchmark) -> DataLoader[Sealed[list[Problem]]]:
        """All of this rank's problems as one batch, so that the engine sees them together; it may be empty."""
        return DataLoader(cast(Any, [Sealed(self.share(benchmark.problems))]), batch_size=None)

    def val_dataloader(self) -> list[DataLoader[Sealed[list[Problem]]]]:
        return [self._evaluation_dataloader(benchmark) for benchmark in self.evaluated]

    def test_dataloader(self) -> list[DataLoader[Sealed[list[Problem]]]]:
        return [self._evaluation_dataloader(benchmark) for benchmark in self.evaluated]

    def predict_dataloader(self) -> DataLoader[Sealed[list[Problem]]]:
        return self._evaluation_dataloader(self.heldout)

    def state_dict(self) -> dict[str, Any]:
        return {"ranks": rank_states(self.engine.ledger, self.clock, self.events)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict["ranks"]
        self._random_state = restore_rank_state(
            states, self._rank, self._ranks, self.engine.ledger, self.clock, self._events
        )

    def on_exception(self, exception: BaseException) -> None:
        self.close()

    def teardown(self, stage: str) -> None:
        self.close()
        if isinstance(self._engine, Spooled):
            self._engine.spool.clear()

    def close(self) -> None:
        """End the engine; it starts again when it is needed."""
        self._engine.shutdown()
        self._policy = None
