"""vLLM that does not start: its reason and the key to change, and no process left over."""

import pytest

from gpo_lightning.engines import VLLM
from gpo_lightning.errors import ConfigError, EngineDied
from gpo_lightning.policy import Policy

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")


def test_an_option_vllm_does_not_have_is_named(tiny_policy: Policy) -> None:
    engine = VLLM(options={"no_such": 1})
    with pytest.raises(ConfigError, match=r"data\.engine: (.|\n)*'no_such'(.|\n)*init_args\.options"):
        engine.start(tiny_policy)
    assert engine.alive()
    engine.shutdown()


@pytest.mark.long
def test_processes_that_fail_are_told_of_with_the_usual_mend(tiny_policy: Policy) -> None:
    engine = VLLM(options={"kv_cache_memory_bytes": 1})
    with pytest.raises(EngineDied, match=r"did not start with model\.policy\.base='tiny'(.|\n)*memory_gib"):
        engine.start(tiny_policy)
    engine.shutdown()
