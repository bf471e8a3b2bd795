"""Searches shared among ranks: each tree is searched once, by whoever has the least to do or the most room."""

import json
import os
import subprocess
import sys
import threading
import time
from random import Random

import pytest
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from gpo_lightning.engines.vllm_launch import _free_port
from gpo_lightning.rollouts.work_queue import SearchJob, SharedWorkQueue, WorkQueue, assign
from tests.conftest import ROOT, tree_of

works = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1000)), max_size=40).map(
    lambda work: sorted(work, key=lambda item: -item[1])
)


@given(work=works, ranks=st.integers(4, 6))
def test_no_rank_has_more_than_a_fair_part_and_one_tree(work: list[tuple[int, int]], ranks: int) -> None:
    takers = assign(work, ranks)
    loads = [sum(cost for (_, cost), taker in zip(work, takers, strict=True) if taker == rank) for rank in range(ranks)]
    total, dearest = sum(cost for _, cost in work), max((cost for _, cost in work), default=0)
    assert max(loads) <= total / ranks + dearest
    assert sum(loads) == total


def test_where_it_does_not_matter_a_tree_stays_where_it_was_sampled() -> None:
    assert assign([(1, 5), (0, 5)], ranks=2) == [1, 0]


@settings(max_examples=20)
@given(count=st.integers(0, 30), ranks=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_queue_loses_nothing_and_gives_nothing_twice(count: int, ranks: int, seed: int) -> None:
    jobs = [SearchJob(tree_of([((i, 2), 0, 1.0)]), ()) for i in range(count)]
    store, taken = dist.HashStore(), [list[SearchJob]() for _ in range(ranks)]

    def rank(number: int) -> None:
        queue, pause = SharedWorkQueue(jobs, store, "work", room=1), Random(seed + number)
        while more := queue.take(0):
            taken[number] += more
            time.sleep(pause.random() / 2000)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(id(job) for rank_jobs in taken for job in rank_jobs) == sorted(map(id, jobs))


def test_a_rank_with_enough_to_do_takes_nothing() -> None:
    queue = SharedWorkQueue([SearchJob(tree_of([]), ())], dist.HashStore(), "work", room=3)
    assert queue.take(3) == []
    assert len(queue.take(2)) == 1
    assert queue.take(0) == []


def test_what_is_taken_at_once_is_taken_once() -> None:
    queue = WorkQueue([SearchJob(tree_of([]), ())])
    assert len(queue.take(10**6)) == 1
    assert queue.take(0) == []


@pytest.mark.parametrize("how", [pytest.param("static", marks=pytest.mark.long), "dynamic"])
def test_a_rank_without_work_searches_for_the_other(how: str) -> None:
    port = str(_free_port())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.rollouts.two_ranks", str(rank), port, how],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (json.loads(rank.communicate(timeout=200)[0].splitlines()[-1]) for rank in ranks)
    names = [name for name, _, _ in first + second]
    assert len(names) == len(set(names)) == 48, "each tree is somewhere, and nowhere twice"
    searched = [name for name, curves, reset in first + second if curves == "1" and reset == "True"]
    assert len(searched) >= 20
    assert all(name.startswith("0-") for name in searched)
    lent = [name for name, _, _ in second if name.startswith("0-")]
    assert lent, "the idle rank has taken some"
    assert set(lent) <= set(searched)
    assert {name for name, _, _ in first} & set(searched), "and the busy one has kept some"
    if how == "static":
        assert abs(len(lent) - len(searched) / 2) <= 2
