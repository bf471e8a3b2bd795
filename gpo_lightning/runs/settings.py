"""What Lightning must know of these runs, so that nobody has to tell it."""

from typing import Any, cast

from lightning import Trainer

from gpo_lightning.errors import ConfigError
from gpo_lightning.trainer_arguments import complaints

_LIGHTNINGS_LOG_EVERY_N_STEPS = 50


def settle(trainer: Trainer) -> None:
    """Set what follows from one epoch being one iteration with rollouts of its own; any ``lightning.Trainer`` will do.

    Every epoch has new data, which is sharded already; there is nothing to try out before the first one (a sanity
    check would generate responses); and an epoch has too few optimiser steps to log every fiftieth.

    Raises:
        ConfigError: the trainer was told what means nothing here, such as to keep data for several epochs.
    """
    settings = cast(Any, trainer)
    if wrong := complaints(lambda name: getattr(trainer, name, None)):
        raise ConfigError(wrong[0])
    settings.reload_dataloaders_every_n_epochs = 1
    settings._accelerator_connector.use_distributed_sampler = False
    settings.num_sanity_val_steps = 0
    if settings.log_every_n_steps == _LIGHTNINGS_LOG_EVERY_N_STEPS:
        settings.log_every_n_steps = 1
