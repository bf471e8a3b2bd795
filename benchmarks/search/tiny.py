"""The embedded model behind an engine, for tables that need a real policy."""

from collections.abc import Generator
from contextlib import contextmanager

from gpo_lightning.critical import Newline, SearchStrategy, Selector
from gpo_lightning.engines import Sampling, Transformers
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.problems import ProblemSource
from gpo_lightning.rollouts import RolloutLoop, RolloutPlan

SAMPLING = Sampling(max_tokens=96)


@contextmanager
def served() -> Generator[tuple[Policy, Transformers]]:
    """The tiny policy as it comes, and an engine that serves it."""
    policy, engine = Policy(PolicyConfig(base="tiny", dtype="float32", lora=None)), Transformers()
    engine.start(policy)
    engine.sync(policy, 0)
    try:
        yield policy, engine
    finally:
        engine.shutdown()


def explorer(
    engine: Transformers,
    policy: Policy,
    source: ProblemSource,
    plan: RolloutPlan,
    search: SearchStrategy,
    selector: Selector,
    seed: int,
) -> RolloutLoop:
    return RolloutLoop(engine, policy.tokenizer, source, plan, SAMPLING, Newline(min_tokens=4), search, selector, seed)
