"""Ends a run when its rollouts have cost so many tokens: what methods are compared at."""

from typing import TYPE_CHECKING

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info

from gpo_lightning.engines import Purpose
from gpo_lightning.errors import ConfigError
from gpo_lightning.rollouts import gather

if TYPE_CHECKING:
    from gpo_lightning.module import GPOModule

COUNTED = (Purpose.SAMPLE, Purpose.PROBE, Purpose.RESET)


class TokenBudget(Callback):
    """Ends training after the iteration in which the budget is spent.

    Generated tokens and prefix tokens that were computed count, over all ranks, whatever they were for, but for
    evaluations: a method that searches pays for its probes. They are logged as ``compute/generated`` and
    ``compute/prefilled``. An iteration is never cut short, so a run may end up to one iteration above its budget.
    ``trainer.max_epochs: -1`` leaves the end to the budget alone.

    Args:
        tokens: the budget.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        if tokens < 1:
            raise ConfigError(f"TokenBudget.tokens is {tokens}; it must be at least 1.")

    def on_fit_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A run that is taken up again may have spent everything before it was stopped."""
        trainer.should_stop |= sum(tokens_spent(pl_module)) >= self.tokens

    def on_train_epoch_start(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The iteration's rollouts are made by now."""
        generated, prefilled = tokens_spent(pl_module)
        pl_module.log_dict({"compute/generated": float(generated), "compute/prefilled": float(prefilled)})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: "GPOModule") -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        spent = sum(tokens_spent(pl_module))
        if spent >= self.tokens:
            rank_zero_info(f"TokenBudget: {spent:,} tokens are spent, {self.tokens:,} were allowed; training ends.")
            trainer.should_stop = True


def tokens_spent(module: "GPOModule") -> tuple[int, int]:
    """Generated and prefilled tokens of rollouts so far, over all ranks; every rank must call it."""
    accounts = [module.data.engine.ledger.accounts[purpose] for purpose in COUNTED]
    ranks = gather([(sum(account.generated for account in accounts), sum(account.prefilled for account in accounts))])
    return sum(rank[0] for rank in ranks), sum(rank[1] for rank in ranks)
