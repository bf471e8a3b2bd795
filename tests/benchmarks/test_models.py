"""Every architecture that can be built tiny agrees with the policy, or is refused with a message."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest

from tests.conftest import ROOT


def _load() -> Any:
    spec = spec_from_file_location("models_benchmark", ROOT / "benchmarks" / "models.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["models_benchmark"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


models = _load()


def test_a_line_says_how_an_architecture_fares() -> None:
    found = models.line("lfm2")
    assert found.agrees
    assert (found.head, found.cache, found.chat) == ("read", "cached", True)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(models.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_every_architecture_agrees_or_is_refused_with_a_message(name: str) -> None:
    found = models.line(name)
    if found.not_built:
        pytest.skip(found.not_built)
    assert not found.failed
    assert found.refused or found.agrees
