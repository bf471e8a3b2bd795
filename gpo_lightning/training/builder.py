"""Which builder makes the experience that a loss reads."""

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import ExperienceBuilder
from gpo_lightning.losses import Loss


def builder_for(loss: Loss, experience: ExperienceBuilder | None) -> ExperienceBuilder:
    """The builder that was chosen, else the loss's own.

    Raises:
        ConfigError: ``data.experience`` is of another kind than the loss reads.
    """
    if experience is None:
        return loss.default_experience()
    if not isinstance(experience, loss.experience):
        raise ConfigError(
            f"data.experience is {type(experience).__name__}, but model.loss {type(loss).__name__} reads "
            f"{loss.experience.__name__}. Set data.experience to null, or to the kind the loss reads."
        )
    return experience
