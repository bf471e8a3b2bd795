"""Scores of a batch's tokens: log-probs of the policy and the reference, values, and how far the policy has moved."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpo_lightning.experience import Batch, Rows, Scores
from gpo_lightning.losses import Loss
from gpo_lightning.policy import Policy


class Scorer:
    """What a loss reads of the policy, for any batch.

    Args:
        policy: what is trained; with its adapter switched off it is the reference.
        loss: says which scores it reads.
        temperature: that rollouts were drawn with; losses that compare with rollout log-probs read the policy at it.
    """

    def __init__(self, policy: Policy, loss: Loss, temperature: float) -> None:
        self.policy, self.loss = policy, loss
        self.temperature = temperature if loss.reads_rollout_logprobs else 1.0

    def __call__(self, batch: Batch) -> Scores:
        """Scores of a batch, with gradient where gradients are on.

        Where the batch brings the reference's log-probs from the start of the iteration, those are taken: the
        reference never changes.
        """
        rows, old = batch.rows, batch.old_scores
        reference = None if old is None else old.reference
        if reference is None and self.loss.needs_reference:
            reference = self.reference(rows)
        if self.loss.needs_values:
            logprobs, values = self.policy.logprobs_and_values(*self._inputs(rows))
            return Scores(logprobs, reference, values)
        return Scores(self.policy.logprobs(*self._inputs(rows)), reference)

    def reference(self, rows: Rows) -> Tensor:
        """``[R, T]`` log-probs of the reference policy."""
        with self.policy.reference():
            return self.policy.logprobs(*self._inputs(rows))

    @torch.no_grad()
    def drift(self, rows_of_step: Sequence[Rows]) -> Tensor:
        """``[2]`` float64: the summed log-ratio of the policy to the reference over all rows, and how many rows."""
        total, count = torch.zeros((), device=self.policy.device, dtype=torch.float64), 0
        for rows in rows_of_step:
            gap = self.policy.logprobs(*self._inputs(rows)) - self.reference(rows)
            total += (gap * rows.loss_mask).sum()
            count += int((rows.loss_mask.sum(-1) > 0).sum())
        return torch.stack([total, torch.full_like(total, count)])

    def _inputs(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor, float]:
        mask = rows.loss_mask
        if self.loss.reads_context:
            # The first token of a row is predicted by nothing.
            mask = (rows.attention_mask * (rows.attention_mask.cumsum(-1) > 1)).to(mask.dtype)
        return rows.input_ids, rows.attention_mask, mask, self.temperature
