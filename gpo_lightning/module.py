"""The LightningModule: policy and loss, from a batch to a gradient."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.utils import get_total_norm

from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Batch
from gpo_lightning.losses import Loss, Scores
from gpo_lightning.metrics import SuccessRate, problem_rewards
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.problems import Problem
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
    """

    def __init__(
        self,
        loss: Loss,
        policy: PolicyConfig = PolicyConfig(),
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.policy_config, self.loss = policy, loss
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.strict_loading = False
        self.success = SuccessRate()
        self.policy: Policy
        if loss.needs_reference and policy.lora is None and policy.adapter is None:
            raise ConfigError(
                f"model.loss: {type(loss).__name__} reads a reference policy, which is the adapter switched off, "
                "but model.policy.lora is null. Give model.policy.lora, or choose a loss without a reference."
            )
        if loss.needs_values:
            raise ConfigError(f"model.loss: {type(loss).__name__} reads a value head, and this policy has none.")

    @property
    def data(self) -> RolloutDataModule:
        return cast(RolloutDataModule, cast(Any, self.trainer).datamodule)

    def configure_model(self) -> None:
        """Load the weights; only now, so that a wrong configuration is found before."""
        if "policy" not in self._modules:
            self.policy = Policy(self.policy_config)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}}

    def training_step(self, batch: Sealed[Batch], batch_idx: int) -> Tensor:
        return self._learn(batch.content)

    def _learn(self, batch: Batch) -> Tensor:
        scores = self.score(batch)
        terms = self.loss(scores, batch)
        # Lightning divides by the accumulated micro-batches and averages gradients over ranks.
        loss = terms.total / batch.normaliser * self.trainer.accumulate_grad_batches * self.trainer.world_size
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        metrics = {f"train/{name}": value for name, value in terms.metrics.items()}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def score(self, batch: Batch) -> Scores:
        """Per-token log-probabilities of a batch, by the policy and, where the loss asks, by the reference."""
        rows = batch.rows
        temperature = self.data.sampling.temperature if self.loss.reads_behaviour else 1.0
        inputs = (rows.input_ids, rows.attention_mask, rows.mask, temperature)
        reference = None
        if self.loss.needs_reference:
            with self.policy.reference():
                reference = self.policy.logprobs(*inputs)
        return Scores(self.policy.logprobs(*inputs), reference)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/grad_norm", get_total_norm(gradients), on_step=False, on_epoch=True, batch_size=1)

    def validation_step(self, batch: Sealed[list[Problem]], batch_idx: int) -> None:
        self._evaluate(batch.content)

    def test_step(self, batch: Sealed[list[Problem]], batch_idx: int) -> None:
        self._evaluate(batch.content)

    def predict_step(self, batch: Sealed[list[Problem]], batch_idx: int) -> list[RolloutTree]:
        return self.data.respond(batch.content)

    def _evaluate(self, problems: Sequence[Problem]) -> None:
        self.success.update(problem_rewards(self.data.respond(problems)))

    def on_validation_epoch_end(self) -> None:
        self._log_success("val")

    def on_test_epoch_end(self) -> None:
        self._log_success("test")

    def _log_success(self, stage: str) -> None:
        values = {f"{stage}/{name}": value.float() for name, value in self.success.compute().items()}
        self.log_dict(values, prog_bar=True)
        self.success.reset()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Only what training changes: adapters, not base weights."""
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        whole = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", "")
        return {name: value for name, value in whole.items() if name.removeprefix(prefix) in trainable}

    def load_trained(self, checkpoint: str) -> None:
        """Take the trained weights of a Lightning checkpoint."""
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        except (OSError, KeyError, RuntimeError) as error:
            raise ConfigError(f"--ckpt_path: {checkpoint!r} is not a checkpoint of this trainer: {error}") from error
        self.load_state_dict(state, strict=False)
