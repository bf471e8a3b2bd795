"""A journal answers what it has answered before, to the bit, and never anything else."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Completion, Engine, JournaledEngine, Purpose, Request, Sampling, Transformers
from gpo_lightning.engines.journal import CompletionJournal, JournalEntry
from gpo_lightning.errors import StorageError
from gpo_lightning.policy import Policy
from tests.conftest import disturb

PROMPTS = [(40, 107, 101, 8, 105, 100), (3, 107, 103, 6, 108, 101, 9, 105, 100)]
ASKED = [
    Request(PROMPTS[seed % 2], 12, Sampling(12), Purpose.PROBE if seed % 3 else Purpose.SAMPLE, seed)
    for seed in range(10)
]


class Killed(BaseException):
    """As good as a kill: nothing after it runs."""


class StopsAfter(Transformers):
    """Makes some polls, then ends the process's world."""

    def __init__(self, polls: int, batch_size: int = 3) -> None:
        super().__init__(batch_size)
        self.polls = polls

    def poll(self) -> list[Completion]:
        if self.polls == 0:
            raise Killed
        self.polls -= 1
        return super().poll()


def journaled(policy: Policy, folder: Path, polls: int = 1000, version: int = 0) -> JournaledEngine:
    engine = JournaledEngine(StopsAfter(polls), CompletionJournal(folder))
    engine.start(policy)
    engine.sync(policy, version)
    return engine


def answers(engine: Engine) -> list[list[tuple[int, Completion]]]:
    """Every poll's completions, asking as a search does: one more request for each of the first that come back."""
    waiting, more = list(ASKED[:7]), list(ASKED[7:])
    for request in waiting:
        engine.submit(request)
    polls: list[list[tuple[int, Completion]]] = []
    while made := engine.poll():
        polls.append([(len(polls), completion) for completion in made])
        if more:
            engine.submit(more.pop(0))
    return polls


@pytest.mark.parametrize("polls", [0, 1, 2, 3])
def test_after_a_stop_at_any_poll_the_caller_sees_the_same_polls(
    polls: int, tiny_policy: Policy, tmp_path: Path
) -> None:
    whole = journaled(tiny_policy, tmp_path / "whole")
    expected = answers(whole)
    with pytest.raises(Killed):
        answers(journaled(tiny_policy, tmp_path / "stopped", polls))
    again = journaled(tiny_policy, tmp_path / "stopped")
    assert answers(again) == expected
    assert again.reused == sum(map(len, expected[:polls]))
    assert again.engine.ledger.state_dict() == whole.engine.ledger.state_dict(), "each is counted once"


def test_a_finished_answer_is_on_the_disk_before_anybody_sees_it(tiny_policy: Policy, tmp_path: Path) -> None:
    engine = journaled(tiny_policy, tmp_path)
    for request in ASKED[:4]:
        engine.submit(request)
    seen = len(engine.poll())
    lines = CompletionJournal(tmp_path).turn_to(0)
    assert lines is not None
    assert sum(map(len, lines)) == seen > 0


def test_other_weights_never_get_these_answers(tiny_policy: Policy, tmp_path: Path) -> None:
    answers(journaled(tiny_policy, tmp_path))
    disturb(tiny_policy, seed=1)
    other = journaled(tiny_policy, tmp_path)
    answers(other)
    assert other.reused == 0


@pytest.mark.parametrize(
    "different",
    [
        Request(PROMPTS[1], 12, Sampling(12), Purpose.SAMPLE, 0),
        Request(PROMPTS[0], 11, Sampling(12), Purpose.SAMPLE, 0),
        Request(PROMPTS[0], 12, Sampling(12, temperature=0.5), Purpose.SAMPLE, 0),
        Request(PROMPTS[0], 12, Sampling(12, top_p=0.5), Purpose.SAMPLE, 0),
        Request(PROMPTS[0], 12, Sampling(12, stop="#"), Purpose.SAMPLE, 0),
        Request(PROMPTS[0], 12, Sampling(12), Purpose.EVALUATION, 0),
        Request(PROMPTS[0], 12, Sampling(12), Purpose.SAMPLE, 1),
    ],
    ids=["prefix", "max_tokens", "temperature", "top_p", "stop", "purpose", "seed"],
)
def test_another_request_never_gets_this_answer(different: Request, tiny_policy: Policy, tmp_path: Path) -> None:
    journaled(tiny_policy, tmp_path).generate([Request(PROMPTS[0], 12, Sampling(12), Purpose.SAMPLE, 0)])
    other = journaled(tiny_policy, tmp_path)
    other.generate([different])
    assert other.reused == 0


def test_a_cancelled_request_is_never_polled(tiny_policy: Policy, tmp_path: Path) -> None:
    journaled(tiny_policy, tmp_path).generate(ASKED[:2])
    engine = journaled(tiny_policy, tmp_path)
    kept, dropped, made, gone = (engine.submit(request) for request in ASKED[:4])
    engine.cancel(dropped)
    engine.cancel(gone)
    assert [c.handle for c in engine.poll()] == [kept]
    assert [c.handle for c in engine.poll()] == [made]
    assert engine.poll() == []


LINES = [
    (JournalEntry("a", (1, 2), (-0.5, -0.25), False, 0), JournalEntry("b", (), (), True, 3)),
    (JournalEntry("c", (7,), (-1e-17,), False, 1),),
    (JournalEntry("d", (7, 8, 9), (-1 / 3, -2.0, float("-inf")), True, 0),),
]


def written(folder: Path) -> CompletionJournal:
    journal = CompletionJournal(folder)
    journal.turn_to(3)
    for line in LINES:
        journal.append(line)
    return journal


def test_what_is_read_is_what_was_written_to_the_last_bit(tmp_path: Path) -> None:
    written(tmp_path)
    assert CompletionJournal(tmp_path).turn_to(3) == LINES
    assert CompletionJournal(tmp_path).turn_to(4) == []


def test_what_other_ranks_made_is_there_too_and_theirs_to_write(tmp_path: Path) -> None:
    """A search that one rank has begun may fall to another when the run is taken up again."""
    theirs = written(tmp_path).path_of(3)
    content = theirs.read_bytes()
    theirs.write_bytes(content + b"half a li")
    other = CompletionJournal(tmp_path, rank=1)
    assert other.turn_to(3) == LINES
    other.append(LINES[0])
    assert theirs.read_bytes() == content + b"half a li"
    assert CompletionJournal(tmp_path, rank=1).turn_to(3) == [LINES[0], *LINES], "its own come first"
    assert CompletionJournal(tmp_path, rank=0).turn_to(3) == [*LINES, LINES[0]]


@given(data=st.data())
def test_a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = written(folder).path_of(3)
        content = journal.read_bytes()
        kept = data.draw(st.integers(0, len(content)))
        journal.write_bytes(content[:kept])
        whole = content[:kept].count(b"\n")
        journal = CompletionJournal(folder)
        assert journal.turn_to(3) == LINES[:whole]
        journal.append(LINES[0])
        assert CompletionJournal(folder).turn_to(3) == [*LINES[:whole], LINES[0]]


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_spoilt_byte_is_never_taken_for_an_answer(position: int, flip: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = written(folder).path_of(3)
        content = bytearray(journal.read_bytes())
        content[position % len(content)] ^= flip
        journal.write_bytes(bytes(content))
        lines = CompletionJournal(folder).turn_to(3)
        assert lines is not None
        assert lines == LINES[: len(lines)]
        assert len(lines) < len(LINES)


def test_only_older_versions_are_discarded_of_whatever_rank(tmp_path: Path) -> None:
    for rank in (0, 1):
        journal = CompletionJournal(tmp_path, rank)
        for version in (1, 2, 3):
            journal.turn_to(version)
            journal.append(LINES[0])
    CompletionJournal(tmp_path, 0).discard(before=3)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["version-000003-rank0.journal", "version-000003-rank1.journal"]


@pytest.mark.parametrize("rank", [0, 1])
def test_at_the_end_a_rank_clears_its_own_journals_and_some_of_ranks_that_are_no_more(
    rank: int, tmp_path: Path
) -> None:
    for before in range(4):
        journal = CompletionJournal(tmp_path, before, ranks=4)
        journal.turn_to(1)
        journal.append(LINES[0])
    CompletionJournal(tmp_path, rank, ranks=2).clear()
    assert {path.name[-len("0.journal")] for path in tmp_path.iterdir()} == {str(1 - rank), str(3 - rank)}


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from gpo_lightning.engines.journal import (JournalEntry, CompletionJournal)
    from gpo_lightning.errors import StorageError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    journal = CompletionJournal(Path(sys.argv[1]))
    journal.turn_to(0)
    try:
        for number in range(1000):
            journal.append([JournalEntry(str(number), tuple(range(20)), (-0.5,) * 20, False, 0)])
    except StorageError as error:
        print(number, error)
"""


def test_a_full_disk_is_an_error_with_advice_and_spoils_nothing(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: the system takes part of the line, then refuses."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    safe, message = done.stdout.split(" ", 1)
    assert "Make room" in message
    assert "--ckpt_path last" in message
    journal = CompletionJournal(tmp_path)
    lines = journal.turn_to(0)
    assert lines is not None
    assert len(lines) == int(safe) > 0
    journal.append(LINES[0])
    assert CompletionJournal(tmp_path).turn_to(0) == [*lines, LINES[0]]


def test_a_spool_that_was_turned_to_no_version_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="version"):
        CompletionJournal(tmp_path).append(LINES[0])
