"""The LightningModule: policy and loss, from a batch to a gradient."""

from dataclasses import replace
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch, Rows, Scores
from gpo_lightning.losses import Loss
from gpo_lightning.metrics import Estimate, Report, Tally, macro_average
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.sharding import norm_of
from gpo_lightning.problems import Problem
from gpo_lightning.running import BadSteps, Learnt, Parts, Whole, mean_metrics
from gpo_lightning.sealed import Sealed
from gpo_lightning.tree import RolloutTree


class GPOModule(LightningModule):
    """Wraps a policy and a loss.

    The loss of an optimiser step is divided by the step's weight over all micro-batches and ranks, known beforehand,
    so accumulation and the number of ranks do not change the gradient.

    Args:
        loss: what is minimised; decides which kind of experience the data module makes.
        policy: what is trained.
        optimizer: over the trainable weights.
        lr_scheduler: stepped once an optimiser step.
        bad_steps: optimiser steps in a row whose loss or gradient is not finite, after which the run stops; until
            then such steps are skipped, counted, and their batches kept in ``bad_steps/`` of the run.
    """

    def __init__(
        self,
        loss: Loss,
        policy: PolicyConfig = PolicyConfig(),
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        bad_steps: int = 5,
    ) -> None:
        super().__init__()
        self.policy_config, self.loss = policy, loss
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.strict_loading = False
        self.reports: dict[str, Report] = {}
        self._tallies: list[Tally] = []
        self.policy: Policy
        if loss.needs_reference and policy.lora is None and policy.adapter is None:
            raise ConfigError(
                f"model.loss: {type(loss).__name__} reads a reference policy, which is the adapter switched off, "
                "but model.policy.lora is null. Give model.policy.lora, or choose a loss without a reference."
            )
        self._divergence: Tensor | None = None
        self._bad_steps = BadSteps(bad_steps)
        self._parts = Whole(self._learn)

    @property
    def data(self) -> RolloutDataModule:
        return cast(RolloutDataModule, cast(Any, self.trainer).datamodule)

    def configure_model(self) -> None:
        """Load the weights; only now, so that a wrong configuration is found before."""
        if "policy" not in self._modules:
            mesh = self.device_mesh
            if mesh is not None:
                self.policy_config.check_shardable()
            self.policy = Policy(self.policy_config, values=self.loss.needs_values)
            if mesh is not None:
                self.policy.shard(mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}}

    def on_fit_start(self) -> None:
        # Only alone is a device free to go forward and back as often as it must.
        if isinstance(self.trainer.strategy, SingleDeviceStrategy):
            too_big, self._parts = self._parts.too_big, Parts(self._learn, lambda: self.data.note("micro_batches_cut"))
            self._parts.too_big = too_big

    def training_step(self, batch: Sealed[Batch], batch_idx: int) -> Tensor:
        if batch.content.outlook:
            self._divergence = self._mean_drift(batch.content.outlook)
        return self._parts.begin(batch.content)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        parameters = [p for p in self.parameters() if p.requires_grad]
        self._parts.backward(loss, parameters, self.trainer.precision_plugin.train_step_context)

    def _learn(self, batch: Batch) -> Learnt:
        scores = replace(self.score(batch), divergence=self._divergence)
        terms = self.loss(scores, batch)
        # Lightning divides by the accumulated micro-batches and averages gradients over ranks.
        share = self.trainer.accumulate_grad_batches * self.trainer.world_size
        parts = [term / weight for term, weight in zip(terms.sums, batch.normalisers, strict=True)]
        return Learnt(batch, scores.logprobs.detach(), torch.stack(parts).sum() * share, terms.metrics)

    def on_after_backward(self) -> None:
        learnt = self._parts.learnt
        sound = [self._bad_steps.judge(its.batch, its.logprobs, its.loss) for its in learnt]
        if not all(sound):
            return
        loss = torch.stack([its.loss for its in learnt]).sum()
        self.log("train/loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        metrics = {f"train/{name}": value for name, value in mean_metrics(learnt).items()}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)

    def score(self, batch: Batch) -> Scores:
        """What the policy, and where the loss asks the reference and the value head, say of a batch's tokens.

        Where the batch brings the reference's word from the start of the iteration, that is taken: it never changes.
        """
        rows, prior = batch.rows, batch.prior
        reference = None if prior is None else prior.reference
        if reference is None and self.loss.needs_reference:
            reference = self._reference_logprobs(rows)
        if self.loss.needs_values:
            logprobs, values = self.policy.logprobs_and_values(*self._inputs(rows))
            return Scores(logprobs, reference, values)
        return Scores(self.policy.logprobs(*self._inputs(rows)), reference)

    def _inputs(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor, float]:
        temperature = self.data.sampling.temperature if self.loss.reads_behaviour else 1.0
        mask = rows.mask
        if self.loss.reads_context:
            # The first token of a row is predicted by nothing.
            mask = (rows.attention_mask * (rows.attention_mask.cumsum(-1) > 1)).to(mask.dtype)
        return rows.input_ids, rows.attention_mask, mask, temperature

    def _reference_logprobs(self, rows: Rows) -> Tensor:
        with self.policy.reference():
            return self.policy.logprobs(*self._inputs(rows))

    @torch.no_grad()
    def _mean_drift(self, outlook: tuple[Rows, ...]) -> Tensor:
        """Mean over the optimiser step and all ranks of a row's summed log-ratio to the reference."""
        drift, count = torch.zeros((), device=self.device, dtype=torch.float64), 0
        for rows in outlook:
            gap = self.policy.logprobs(*self._inputs(rows)) - self._reference_logprobs(rows)
            drift += (gap * rows.mask).sum()
            count += int((rows.mask.sum(-1) > 0).sum())
        sums = torch.stack([drift, torch.full_like(drift, count)])
        drift, rows_in_all = cast(Tensor, self.trainer.strategy.reduce(sums, reduce_op="sum"))
        return drift / rows_in_all.clamp(min=1)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = norm_of(gradients)
        reduce = self.trainer.strategy.reduce
        bad = cast(Tensor, reduce(self._bad_steps.flag(norm), reduce_op="sum")).item() > 0
        if bad:
            # An optimiser leaves alone, moments and all, what has no gradient.
            for parameter in self.parameters():
                parameter.grad = None
            self.data.note("skipped_steps")
        else:
            self.log("train/grad_norm", norm, on_step=False, on_epoch=True, batch_size=1)
        self._bad_steps.close(bad, self.trainer.global_step, self.data.directory, self.trainer.global_rank)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.data.check_signals()

    def on_validation_epoch_start(self) -> None:
        self._open_tallies()

    def on_test_epoch_start(self) -> None:
        self._open_tallies()

    def _open_tallies(self) -> None:
        self._tallies = [Tally(benchmark).to(self.device) for benchmark in self.data.evaluated]

    def validation_step(self, batch: Sealed[list[Problem]], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        return self._evaluate(batch.content, dataloader_idx)

    def test_step(self, batch: Sealed[list[Problem]], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        return self._evaluate(batch.content, dataloader_idx)

    def predict_step(self, batch: Sealed[list[Problem]], batch_idx: int) -> list[RolloutTree]:
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

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Only what training changes: adapters, not base weights."""
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        whole = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", "")
        return {name: value for name, value in whole.items() if name.removeprefix(prefix) in trainable}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["bad_steps_in_a_row"] = self._bad_steps.in_a_row
        checkpoint["too_big"] = self._parts.too_big
        checkpoint["sharded"] = self.policy.sharded

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._bad_steps.in_a_row = checkpoint.get("bad_steps_in_a_row", 0)
        self._parts.too_big = checkpoint.get("too_big")

    def load_trained(self, checkpoint: str) -> None:
        """Take the trained weights of a Lightning checkpoint."""
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        except (OSError, KeyError, RuntimeError) as error:
            raise ConfigError(f"--ckpt_path: {checkpoint!r} is not a checkpoint of this trainer: {error}") from error
        self.load_state_dict(state, strict=False)


def _scalars(place: str, accuracy: Estimate) -> dict[str, float]:
    values = {"accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high, "n": float(accuracy.n)}
    return {f"{place}/{name}": value for name, value in values.items()}
