"""An engine that dies or hangs is started again with the same weights, and everything asked for arrives, once."""

import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from gpo_lightning.engines import VLLM, Completion, Purpose, Recovery, Request, RestartingEngine, Sampling, Transformers
from gpo_lightning.engines.engine import Tokens
from gpo_lightning.errors import ConfigError, EngineDied, EngineError
from gpo_lightning.policy import Policy

PROMPT = (40, 107, 101, 8, 105, 100)
ASKED = [Request(PROMPT, 8, Sampling(8), Purpose.SAMPLE, seed) for seed in range(9)]


class Mortal(Transformers):
    """Dies or hangs at given calls of a method; started again, it has forgotten what it was asked and its weights.

    Args:
        deaths: polls, by number, at which it dies.
        hangs: polls at which it hangs until it is killed.
        bad_starts: starts that fail.
    """

    def __init__(self, deaths: Sequence[int] = (), hangs: Sequence[int] = (), bad_starts: Sequence[int] = ()) -> None:
        super().__init__(batch_size=2)
        self.deaths, self.hangs, self.bad_starts = set(deaths), set(hangs), set(bad_starts)
        self.polls = self.starts = 0
        self.synced: list[int] = []
        self._killed = threading.Event()

    def start(self, policy: Policy, seed: int = 0) -> None:
        self.starts += 1
        if self.starts in self.bad_starts:
            raise RuntimeError("no memory")
        self._killed.clear()
        super().start(policy, seed)

    def sync(self, policy: Policy, version: int) -> None:
        self.synced.append(version)
        super().sync(policy, version)

    def poll(self) -> list[Completion]:
        self.polls += 1
        if self.polls in self.deaths:
            raise EngineDied("gone")
        if self.polls in self.hangs:
            assert self._killed.wait(60), "nobody came"
            raise EngineDied("killed")
        return super().poll()

    def kill(self) -> None:
        self._killed.set()

    def shutdown(self) -> None:
        self._queue.clear()
        self._policy = None


def supervised(policy: Policy, engine: Transformers, recovery: Recovery = Recovery()) -> RestartingEngine:
    subject = RestartingEngine(engine, recovery)
    subject.start(policy)
    subject.sync(policy, 7)
    return subject


@pytest.mark.parametrize("deaths", [(1,), (2, 4), (1, 2, 3), (5,)])
def test_everything_asked_for_arrives_once_whenever_the_engine_dies(
    deaths: tuple[int, ...], tiny_policy: Policy
) -> None:
    undisturbed = Transformers()
    undisturbed.start(tiny_policy)
    expected = undisturbed.generate(ASKED)
    engine = Mortal(deaths)
    subject = supervised(tiny_policy, engine)
    made = subject.generate(ASKED)
    subject.shutdown()
    assert [c.tokens for c in made] == [c.tokens for c in expected]
    assert subject.restarts == len(deaths)
    assert engine.synced == [7] * (1 + len(deaths)), "it serves the weights of the last sync"
    booked: Tokens = subject.ledger.accounts[Purpose.SAMPLE]
    assert booked.requests == len(ASKED), "what arrives is counted once"


def test_a_hung_engine_is_killed_and_started_again(tiny_policy: Policy) -> None:
    subject = supervised(tiny_policy, Mortal(hangs=[2]), Recovery(patience=0.2))
    assert len(subject.generate(ASKED)) == len(ASKED)
    assert subject.restarts == 1
    subject.shutdown()


def test_a_restart_that_fails_is_tried_again(tiny_policy: Policy) -> None:
    subject = supervised(tiny_policy, Mortal(deaths=[1], bad_starts=[2, 3]))
    assert len(subject.generate(ASKED)) == len(ASKED)
    assert subject.restarts == 3
    subject.shutdown()


def test_an_engine_that_only_dies_stops_the_run_with_advice(tiny_policy: Policy) -> None:
    subject = supervised(tiny_policy, Mortal(deaths=range(1, 100)), Recovery(restarts=3))
    with pytest.raises(EngineError, match=r"4 times .* gone .*--ckpt_path last"):
        subject.generate(ASKED)
    assert subject.restarts == 3
    subject.shutdown()


def test_deaths_with_progress_in_between_never_stop_the_run(tiny_policy: Policy) -> None:
    subject = supervised(tiny_policy, Mortal(deaths=range(2, 100, 2)), Recovery(restarts=1))
    assert len(subject.generate(ASKED)) == len(ASKED)
    assert subject.restarts == 4
    subject.shutdown()


def test_the_watch_ends_with_the_engine(tiny_policy: Policy) -> None:
    before = threading.active_count()
    subject = supervised(tiny_policy, Mortal())
    assert threading.active_count() == before + 1
    subject.shutdown()
    subject.shutdown()
    assert threading.active_count() == before


def test_a_recovery_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience"):
        Recovery(patience=0)


@pytest.mark.vllm
@pytest.mark.long
def test_a_vllm_process_that_is_killed_or_stopped_costs_only_what_was_in_flight(tiny_policy: Policy) -> None:
    from gpo_lightning.engines.vllm import _processes

    engine = VLLM(memory_gib=0.1)
    subject = supervised(tiny_policy, engine, Recovery(patience=45))
    # Long enough that none can be done when the first is, whatever the machine is busy with.
    long = [Request(PROMPT, 400, Sampling(400), Purpose.SAMPLE, seed) for seed in range(24)]
    short = Request(PROMPT, 2, Sampling(2), Purpose.SAMPLE, 99)
    try:
        for blow in (signal.SIGKILL, signal.SIGSTOP):
            restarts = subject.restarts
            asked = {subject.submit(request) for request in (*long, short)}
            arrived = [c.handle for c in subject.poll()]
            for process in _processes(engine._engine):
                os.kill(process.pid, blow)
            assert 0 < len(arrived) < len(asked), "the blow is to come in the middle"
            while made := subject.poll():
                arrived += [c.handle for c in made]
            assert sorted(arrived) == sorted(asked), "each once"
            # A machine that is very busy may be taken for a hung engine once more.
            assert subject.restarts > restarts
        assert subject.ledger.accounts[Purpose.SAMPLE].requests == 2 * (len(long) + 1)
        subject.sync(tiny_policy, 8)
        assert len(subject.generate(ASKED)) == len(ASKED)
    finally:
        subject.shutdown()
    left = [*Path("/dev/shm").glob(f"gpo-weights-{os.getpid()}-*"), *Path(tempfile.gettempdir()).glob("gpo-weights-*")]
    assert left == [], "weights of a dead engine would fill the memory"
