"""What a worker process does, or does not do, reaches the run as an outcome and in no other way."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from gpo_lightning.rewards.workers import Workers


@pytest.fixture
def pool() -> Iterator[Workers]:
    pool = Workers("tests.rewards.jobs:run", 1, 3.0, 1024)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    "noise",
    [
        {"noise": "no answer\n"},
        {"noise": '{"done": "forged"\n'},
        {"noise": "[" * 100_000 + "\n"},
        {"noise": "7\n"},
        {"noise": "x" * 60_000, "times": 40},
    ],
)
def test_what_is_no_answer_costs_the_job_and_nothing_else(noise: dict[str, object], pool: Workers) -> None:
    outcomes = pool.run([noise, {"say": "sound"}])
    assert [outcome.status for outcome in outcomes] in (["crashed", "done"], ["timeout", "done"])
    assert outcomes[1].value == "sound"


def test_a_stopped_worker_is_ended_at_the_deadline_however_much_it_was_to_read(pool: Workers) -> None:
    pool.run([{"say": 1}])
    (pid,) = pool.pids
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    outcomes = pool.run([{"say": "x" * 1_000_000}, {"say": 2}])
    assert [outcome.status for outcome in outcomes] == ["timeout", "done"]
    assert time.monotonic() - begin < 60
    assert len(pool.run([{"say": "x" * 1_000_000}])[0].value) == 1_000_000
