"""Engines of ours are spoken to from this machine alone, or by nobody but the trainer."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpo_lightning.engines import VLLM, VLLMServer
from gpo_lightning.engines.vllm_launch import Launch
from gpo_lightning.policy import Policy
from tests.engines.listening import listens_at

pytestmark = [pytest.mark.vllm, pytest.mark.long]


@pytest.mark.parametrize("kind", ["engine", "server"])
def test_all_that_an_engine_starts_listens_on_loopback_alone(kind: str, tiny_policy: Policy, tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    launch = Launch(memory_gib=0.1, log=tmp_path / "log")
    engine: Any = VLLM(memory_gib=0.1) if kind == "engine" else VLLMServer(launch=launch)
    engine.start(tiny_policy)
    try:
        started = {child.pid for child in psutil.Process().children(recursive=True)} - before
        assert started, "else nobody could listen"
        addresses = listens_at([os.getpid(), *started])
    finally:
        engine.shutdown()
    assert {address for address in addresses if not address.is_loopback} == set()
    assert addresses or kind == "engine", "a server listens somewhere"
