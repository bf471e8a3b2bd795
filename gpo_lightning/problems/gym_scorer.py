"""reasoning-gym's own scorers, inside a worker process and nowhere else: some run an answer as a program."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import reasoning_gym
from reasoning_gym.factory import create_curriculum

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems.reasoning_gym import SCORING


def score(job: list[Any], at: Callable[[str], None]) -> float:
    """What the scorer of ``[task, options, level, given, gold, metadata]`` says of the given answer."""
    task, options, level, given, gold, metadata = job
    dataset = _made_once(task, json.dumps(options, sort_keys=True), level)
    at(SCORING)
    return float(dataset.score_answer(answer=given, entry={"answer": gold, "metadata": metadata}))


@lru_cache(maxsize=32)
def _made_once(task: str, options: str, level: int | None) -> Any:
    return make_dataset(task, json.loads(options), level, size=1, seed=0)


def make_dataset(task: str, options: dict[str, Any], level: int | None, size: int, seed: int) -> Any:
    """A data set of the library.

    Raises:
        ConfigError: it does not know the task, or refuses an option.
    """
    try:
        settings = {**_level_options(task, level), **options}
        return reasoning_gym.create_dataset(task, size=size, seed=seed, **settings)
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"data.problems: reasoning-gym refuses {task!r} with {options}: {error}") from error


def _level_options(task: str, level: int | None) -> dict[str, Any]:
    if level is None:
        return {}
    curriculum = create_curriculum(task)
    deepest = max((len(each.levels) for each in curriculum.attributes.values()), default=0) - 1
    if not 0 <= level <= deepest:
        raise ConfigError(f"data.problems.level is {level}; the curriculum of {task} has the levels 0 to {deepest}.")
    curriculum.set_global_level(level)
    configured = cast(dict[str, Any], vars(curriculum.generate_configuration()))
    return {name: value for name, value in configured.items() if name not in ("seed", "size")}
