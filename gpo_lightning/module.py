"""The LightningModule: policy, loss and optimiser; each training step is a :class:`TrainingStep`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.modules.module import _IncompatibleKeys  # pyright: ignore[reportPrivateUsage]
from typing_extensions import override

from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError, TrainingError
from gpo_lightning.evaluation import Estimate, Report
from gpo_lightning.evaluation.estimate import macro_average
from gpo_lightning.evaluation.report import Tally
from gpo_lightning.experience import Batch
from gpo_lightning.given import expect, expect_maker
from gpo_lightning.hyperparameters import nameable, own_arguments
from gpo_lightning.losses import Loss
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.config import policy_config
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.runs.checkpoint import check_names, load_checkpoint
from gpo_lightning.runs.checkpoint_state import keep_to_folder, renew
from gpo_lightning.runs.identity import other_policy, table
from gpo_lightning.runs.loggers import written
from gpo_lightning.training import OpaqueBatch, Scorer, TrainingStep
from gpo_lightning.training.schedule import Schedule

if TYPE_CHECKING:
    AnyPolicy = PolicyConfig | str | Path
else:
    AnyPolicy = PolicyConfig  # what the command line asks for


_OPTIMIZER = "partial(torch.optim.AdamW, lr=1e-5)"
_SCHEDULER = "partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=100)"


class GPOModule(LightningModule):
    """Wraps a policy and a loss.

    >>> from gpo_lightning.losses import GRPO
    >>> module = GPOModule(GRPO(), policy="tiny")
    >>> module.policy_config.base
    'tiny'

    The loss of an optimiser step is divided by the step's weight over all micro-batches and ranks, known beforehand,
    so accumulation and the number of ranks do not change the gradient.

    Args:
        loss: what is minimised; decides which kind of experience the data module makes.
        policy: what is trained. In Python also the name of an embedded model, a hub id or a directory; it then gets a
            LoRA adapter with peft's defaults on all linear layers.
        optimizer: over the trainable weights.
        schedule: of the learning rate, by the share of the run that is done.
        lr_scheduler: a scheduler of torch instead.
        lr_scheduler_every: when it is stepped: after each optimiser ``step``, or after each ``iteration``.
        bad_steps: optimiser steps in a row whose loss or gradient is not finite, after which the run stops; until
            then such steps are skipped, counted, and their batches kept in ``bad_steps/`` of the run.
    """

    def __init__(
        self,
        loss: Loss,
        policy: AnyPolicy = PolicyConfig(),
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_every: Literal["step", "iteration"] = "step",
        bad_steps: int = 5,
    ) -> None:
        super().__init__()
        self.policy_config, self.loss = policy_config(policy), expect("loss", loss, Loss, "GRPO()")
        self.optimizer = expect_maker("optimizer", optimizer, _OPTIMIZER)
        self.lr_scheduler = lr_scheduler and expect_maker("lr_scheduler", lr_scheduler, _SCHEDULER)
        self.bad_steps = bad_steps
        self.schedule = schedule and expect("schedule", schedule, Schedule, 'Schedule("cosine")')
        self.lr_scheduler_every = lr_scheduler_every
        self.strict_loading = False
        self.reports: dict[str, Report] = {}
        self._tallies: list[Tally] = []
        self._step: TrainingStep
        self._resumed: dict[str, Any] | None = None
        self.policy: Policy
        self.save_hyperparameters(
            nameable(self._arguments) | {"_instantiator": "lightning.pytorch.cli.instantiate_module"}
        )
        if schedule is not None and lr_scheduler is not None:
            raise ConfigError("model.schedule and model.lr_scheduler both set the learning rate. Give one of them.")
        if loss.needs_reference:
            self.policy_config.check_reference(f"model.loss: {type(loss).__name__}")

    @property
    def _arguments(self) -> dict[str, Any]:
        names = ("loss", "optimizer", "schedule", "lr_scheduler", "lr_scheduler_every", "bad_steps")
        return {name: getattr(self, name) for name in names} | {"policy": self.policy_config}

    @classmethod
    @override
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """A module made, and its weights loaded, from a checkpoint alone; arguments given here replace the file's.

        A subclass with an ``__init__`` of its own calls ``self.save_hyperparameters()`` in it, as Lightning has it.

        Args:
            checkpoint_path: of a run.
            map_location: where its tensors go first.
            hparams_file: of arguments, where the checkpoint has none.
            strict: not used; only what is trained is in a checkpoint, and all of it must fit.
            weights_only: not used; nothing is ever unpickled.
            **kwargs: arguments of the module.

        Raises:
            ConfigError: the file is damaged, or decides which code would run.
        """
        content = load_checkpoint(Path(checkpoint_path))
        check_names(content.get("hyper_parameters", {}), kwargs)
        return super().load_from_checkpoint(checkpoint_path, map_location, hparams_file, weights_only=True, **kwargs)

    @property
    def data(self) -> RolloutDataModule:
        return cast(RolloutDataModule, cast(Any, self.trainer).datamodule)

    def configure_model(self) -> None:
        """Load the weights; only now, so that a wrong configuration is found before.

        Raises:
            ConfigError: the module was compiled.
        """
        if self._compiler_ctx is not None:
            raise ConfigError(
                "torch.compile(module) is not for a policy whose batches differ in shape each time: it would compile "
                "for ever. Give the module as it is; its speed is in docs/performance.md."
            )
        if "policy" not in self._modules:
            mesh = self.device_mesh
            if mesh is not None:
                self.policy_config.check_shardable()
            self.policy = Policy(self.policy_config, values=self.loss.needs_values)
            if mesh is not None:
                self.policy.shard(mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        if self.schedule is not None:
            made = self.schedule.scheduler(optimizer, lambda: share_done(self.trainer))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": made, "interval": "step"}}
        if self.lr_scheduler is None:
            return optimizer
        interval = "epoch" if self.lr_scheduler_every == "iteration" else "step"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": interval},
        }

    @property
    def scorer(self) -> Scorer:
        """Scores batches with the policy's present weights."""
        return Scorer(self.policy, self.loss, self.data.sampling.temperature)

    def on_fit_start(self) -> None:
        self._step = TrainingStep(
            self.scorer,
            self.loss,
            [parameter for parameter in self.parameters() if parameter.requires_grad],
            # Only alone is a device free to go forward and back as often as it must.
            splits=isinstance(self.trainer.strategy, SingleDeviceStrategy),
            bad_steps=self.bad_steps,
            reduce_sum=lambda values: cast(Tensor, self.trainer.strategy.reduce(values, reduce_op="sum")),
            count_incident=self.data.count_incident,
        )
        if self._resumed is not None:
            self._step.load_state_dict(self._resumed)

    def training_step(self, batch: OpaqueBatch[Batch], batch_idx: int) -> Tensor:
        # Lightning divides by the accumulated micro-batches and averages gradients over ranks.
        return self._step.forward(batch.content, self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self._step.backward(loss, self.trainer.precision_plugin.train_step_context)

    def on_after_backward(self) -> None:
        metrics = {f"train/{name}": value for name, value in self._step.judge().items()}
        if metrics:
            self.log("train/loss", metrics.pop("train/loss"), prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        norm = self._step.close(self.trainer.global_step, self.data.directory, self.trainer.global_rank)
        if norm is not None:
            self.log("train/grad_norm", norm, on_step=False, on_epoch=True, batch_size=1)

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        # A step from which nothing is learnt has no gradient, which torch cannot clip by value.
        if any(parameter.grad is not None for parameter in self.parameters()):
            super().configure_gradient_clipping(*args, **kwargs)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.data.check_signals()

    def on_validation_epoch_start(self) -> None:
        self._open_tallies()

    def on_test_epoch_start(self) -> None:
        self._open_tallies()

    def _open_tallies(self) -> None:
        self._tallies = [Tally(benchmark).to(self.device) for benchmark in self.data.evaluated]

    def validation_step(
        self, batch: OpaqueBatch[list[Problem]], batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Any]:
        return self._evaluate(batch.content, dataloader_idx)

    def test_step(self, batch: OpaqueBatch[list[Problem]], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        return self._evaluate(batch.content, dataloader_idx)

    def predict_step(self, batch: OpaqueBatch[list[Problem]], batch_idx: int) -> list[RolloutTree]:
        return self.data.respond(batch.content)

    def _evaluate(self, problems: list[Problem], dataloader_idx: int) -> dict[str, list[RolloutTree]]:
        tally = self._tallies[dataloader_idx]
        trees = self.data.respond(problems, tally.benchmark)
        tally.update(trees)
        return {"trees": trees}

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def _report(self, stage: str) -> None:
        """Log ``STAGE/accuracy``; of several benchmarks the mean, and each under ``STAGE/NAME/accuracy``."""
        self.reports = {tally.benchmark.name: tally.report() for tally in self._tallies}
        accuracies = {name: report.overall.accuracy for name, report in self.reports.items()}
        self.log_dict(_scalars(stage, macro_average(list(accuracies.values()))), prog_bar=True)
        if len(accuracies) > 1:
            for name, accuracy in accuracies.items():
                self.log_dict(_scalars(f"{stage}/{name}", accuracy))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take what :meth:`state_dict` gave; the base weights stay as they are.

        Raises:
            ConfigError: ``strict``, and it is of another policy.
        """
        self.configure_model()
        missing, unexpected = super().load_state_dict(state_dict, strict=False, assign=assign)
        left = sorted({*missing} & self._trainable_names())
        if strict and (left or unexpected):
            raise ConfigError(
                f"These weights are of another policy or loss: {len(left)} are missing and {len(unexpected)} are too "
                f"many, such as {[*left, *unexpected][0]}."
            )
        return _IncompatibleKeys(left, unexpected)

    def _trainable_names(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Only what training changes: adapters, not base weights."""
        trainable = self._trainable_names()
        whole = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", "")
        return {name: value for name, value in whole.items() if name.removeprefix(prefix) in trainable}

    def on_train_epoch_end(self) -> None:
        # Before anybody evaluates, keeps or exports them.
        self.check_weights()

    @torch.no_grad()
    def check_weights(self) -> None:
        """Refuse to keep weights that are no numbers. Every rank must call it.

        Raises:
            TrainingError: some are infinite or not a number, on any rank.
        """
        trained = [p for p in self.parameters() if p.requires_grad]
        odd = torch.stack([(~torch.isfinite(_local(p))).any() for p in trained]).any().float()
        if cast(Tensor, self.trainer.strategy.reduce(odd, reduce_op="sum")).item() > 0:
            raise TrainingError(
                f"After optimiser step {self.trainer.global_step} the policy's weights are infinite or not a number, "
                "so nothing of them is kept; the checkpoint before this iteration is the last sound state. A lower "
                "learning rate (model.optimizer) or trainer.gradient_clip_val helps."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["training_step"] = self._step.state_dict()
        given = checkpoint.get("hyper_parameters", {})
        checkpoint["hyper_parameters"] = nameable(own_arguments(type(self), given, GPOModule))
        checkpoint["sharded"] = self.policy.sharded
        checkpoint["logged"] = written(self.trainer)
        run = getattr(self.trainer, "run", None)
        if run is not None:
            checkpoint["run"] = run.identity.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint.get("training_step")
        trainer = self._trainer  # none where a user loads the module by itself
        path = "the checkpoint" if trainer is None else str(trainer.ckpt_path)
        self._check_fits(checkpoint, path, getattr(trainer, "settings", {}))
        if trainer is not None and trainer.state.fn == "fit":
            keep_to_folder(trainer, checkpoint, Path(path))
            renew(checkpoint, getattr(trainer, "meant", ()), self.configure_optimizers)

    def load_trained(self, checkpoint: str, settings: Mapping[str, Any]) -> None:
        """Take the trained weights of a checkpoint.

        Args:
            checkpoint: its path.
            settings: the configuration by dotted key, of which the policy must be the checkpoint's.

        Raises:
            ConfigError: it is not, or the file is not whole.
        """
        content = load_checkpoint(Path(checkpoint))
        if "state_dict" not in content:
            raise ConfigError(f"--ckpt_path: {checkpoint!r} is not a checkpoint of this trainer: it has no weights.")
        self._check_fits(content, checkpoint, settings)
        self.load_state_dict(content["state_dict"], strict=False)

    def _check_fits(self, content: Mapping[str, Any], path: str, settings: Mapping[str, Any]) -> None:
        """Refuse weights of which only a part, or nothing, would be taken.

        Raises:
            ConfigError: they were trained in a policy of other settings; the message says which.
        """
        before = content.get("run")
        found = other_policy(before["config"], settings) if before else []
        if found:
            raise ConfigError(f"--ckpt_path: {path} holds weights of another policy:\n{table(found)}")
        if "state_dict" not in content:
            return  # of a sharded policy the weights come to the other ranks by way of the first
        wanted, given = _shapes(self.state_dict()), _shapes(content["state_dict"])
        if wanted != given:
            odd = sorted({*wanted.items()} ^ {*given.items()})[0][0]
            raise ConfigError(
                f"--ckpt_path: {path} does not fit model.policy and model.loss, which train {len(wanted)} weights; it "
                f"holds {len(given)}. The first that differs is {odd}: {given.get(odd, 'absent')} in the checkpoint, "
                f"{wanted.get(odd, 'absent')} by the configuration. Give the configuration it was made with."
            )


def _local(value: Tensor) -> Tensor:
    """This rank's share of a weight that is spread over ranks."""
    return value.to_local() if isinstance(value, DTensor) else value


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _scalars(place: str, accuracy: Estimate) -> dict[str, float]:
    values = {"accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high, "n": float(accuracy.n)}
    return {f"{place}/{name}": value for name, value in values.items()}


def share_done(trainer: Trainer) -> float:
    """Share of a fit that is done, 0 to 1: of its iterations, and within one of its batches; or of its steps.

    Raises:
        ConfigError: the fit has no end.
    """
    shares: list[float] = []
    if (trainer.max_epochs or -1) > 0:
        loop = trainer.fit_loop
        batches = cast(Any, loop.epoch_loop.batch_progress.current).processed
        within = min(batches / trainer.num_training_batches, 1.0) if batches else 0.0
        shares.append((cast(Any, loop.epoch_progress.current).processed + within) / cast(int, trainer.max_epochs))
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    if not shares:
        raise ConfigError("model.schedule needs a run with an end: set trainer.max_epochs or trainer.max_steps.")
    return max(shares)
