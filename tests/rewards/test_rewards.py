"""Reward functions as users write them, and what becomes of values that are no rewards."""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards import Case, Grade, Marked, Number, Rewards
from gpo_lightning.rewards.rewards import as_rewards

CASES = [Case("It is 42.", "42", {"level": 1}, "6 * 7?", (5, 6), "p0"), Case("No idea", "42", {"level": 2}, id="p1")]


def contains(completion: str, answer: str, **columns: Any) -> float:
    return float(answer in completion)


def level(level: int) -> int:
    return level


class Counting:
    """State of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, completion: str) -> float:
        self.calls += 1
        return 1 / self.calls


def test_a_function_gets_what_it_asks_for_by_name() -> None:
    seen: list[Any] = []

    def look(prompt: str, completion: str, completion_ids: list[int], answer: str, level: int, id: str) -> float:
        seen.append((prompt, completion, completion_ids, answer, level, id))
        return 1.0

    Rewards(look).grade_all(CASES[:1])
    assert seen == [("6 * 7?", "It is 42.", [5, 6], "42", 1, "p0")]


def test_functions_are_weighed_and_every_part_is_kept() -> None:
    grades = Rewards({contains: 1.0, level: 0.5}, success="contains").grade_all(CASES)
    assert [grade.reward for grade in grades] == [1.5, 1.0]
    assert [grade.success for grade in grades] == [1.0, 0.0]
    assert grades[1].parts == {"contains": 0.0, "level": 2.0}


def test_batched_async_and_stateful_functions_and_graders_agree() -> None:
    def batched(completions: list[str], answers: list[str], **columns: Any) -> list[float]:
        return [float(answer in text) for text, answer in zip(completions, answers, strict=True)]

    async def later(completion: str, answer: str) -> float:
        await asyncio.sleep(0)
        return contains(completion, answer)

    marked = [Case("#### 42", "42"), Case("#### 41", "42")]
    for function in (batched, later, contains, Number((Marked("####"),))):
        assert [grade.reward for grade in Rewards(function).grade_all(marked)] == [1.0, 0.0]
    assert [grade.reward for grade in Rewards(Counting()).grade_all(CASES)] == [1.0, 0.5]
    assert Rewards([Number((Marked("####"),)), contains], success="contains").grade_all(marked)[1].answer == "41"


@pytest.mark.parametrize("value", [True, 1, np.float32(1.0), np.array([1.0]), torch.tensor(1.0), torch.ones(1)])
def test_what_is_plainly_a_number_is_one(value: Any) -> None:
    assert Rewards(lambda completion: value).grade("x", "", {}).reward == 1.0


@pytest.mark.parametrize("value", [nan, inf, -inf, "1.0", [1.0], {}, torch.ones(2), torch.tensor(nan), object()])
def test_what_is_no_number_leaves_the_response_ungraded_and_is_named(value: Any, caplog: Any) -> None:
    def odd(completion: str) -> Any:
        return value

    grade = Rewards(odd).grade_all(CASES[:1])[0]
    assert (grade.reward, grade.success) == (None, None)
    assert grade.reason in ("reward_not_finite", "reward_not_a_number")
    assert all(named in caplog.text for named in ("odd", "p0", repr(value)[:20]))


def test_none_means_not_applicable() -> None:
    def sometimes(level: int) -> float | None:
        return None if level == 1 else 0.25

    grades = Rewards([sometimes]).grade_all(CASES)
    assert [(grade.reward, grade.reason) for grade in grades] == [(None, "not_applicable"), (0.25, "partly")]
    assert Rewards([sometimes, contains]).grade_all(CASES)[0].reward == 1.0


def test_a_function_that_mostly_fails_stops_with_its_name_and_error() -> None:
    def broken(completion: str) -> float:
        raise KeyError("gone")

    with pytest.raises(ConfigError, match=r"broken failed on 8 of 8.*KeyError: 'gone'"):
        Rewards(broken).grade_all(CASES * 4)


def test_a_function_without_return_is_told_of_and_then_stops_the_run(caplog: pytest.LogCaptureFixture) -> None:
    def forgot(completion: str) -> None:
        float("4" in completion)

    rewards = Rewards(forgot)
    for _ in range(3):
        assert {grade.reason for grade in rewards.grade_all(CASES * 4)} == {"not_applicable"}
    assert [record.message for record in caplog.records] == [
        "data.rewards: forgot gave None for all 8 responses so far, which leaves them ungraded. A function without "
        "`return` gives None; return a number wherever the reward applies."
    ]
    with pytest.raises(ConfigError, match="gave None for all 280 responses so far"):
        rewards.grade_all(CASES * 128)
    seldom = Rewards(lambda level: 1.0 if level == 2 else None)
    for _ in range(3):
        seldom.grade_all(CASES)
        seldom.grade_all([case for case in CASES if case.metadata["level"] == 1] * 128)


def test_a_function_that_hangs_is_interrupted_even_where_it_catches_exceptions() -> None:
    begin = time.monotonic()
    grades = Rewards(hangs, deadline=0.2).grade_all(CASES)
    assert [grade.reason for grade in grades] == ["right", "reward_timeout"]
    assert time.monotonic() - begin < 5


def hangs(level: int) -> float:
    while level == 2:
        try:  # noqa: SIM105
            time.sleep(0.05 if threading.current_thread() is not threading.main_thread() else 30)
        except Exception:
            pass
    return 1.0


def blocks(level: int) -> float:
    """Where no exception reaches it."""
    time.sleep(5 if level == 2 else 0)
    return 1.0


@pytest.mark.parametrize("function", [hangs, blocks])
def test_a_function_that_hangs_has_a_deadline_in_any_thread(function: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        begin = time.monotonic()
        grades = pool.submit(Rewards(function, deadline=0.2).grade_all, CASES).result(30)
        assert [grade.reason for grade in grades] == ["right", "reward_timeout"]
        assert time.monotonic() - begin < 4, "nobody waits for it"
    if function is hangs:
        end = time.monotonic() + 10
        while (left := [t for t in threading.enumerate() if t.name == "reward"]) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left, "what runs Python is ended, and uses no processor any more"


def test_in_another_thread_a_function_fails_and_succeeds_as_in_the_first() -> None:
    def fails(level: int) -> float:
        if level == 2:
            raise TimeoutError("its own")
        return 0.5

    with ThreadPoolExecutor(1) as pool:
        grades = pool.submit(Rewards(fails).grade_all, CASES).result(30)
    assert [(grade.reward, grade.reason) for grade in grades] == [(0.5, "partly"), (None, "reward_failed")]


def test_rewards_outside_0_and_1_ask_what_success_is() -> None:
    with pytest.raises(ConfigError, match=r"level gave 2 for problem 'p1'.*success=1\.0"):
        Rewards(level).grade_all(CASES)
    assert [grade.success for grade in Rewards(level, success=2).grade_all(CASES)] == [0.0, 1.0]
    assert [grade.success for grade in Rewards(level, success=contains).grade_all(CASES)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("nowhere.at_all", "cannot be imported"),
        ("math.sqrtt", "Did you mean math.sqrt"),
        ("contains", "no dotted path"),
        (42, "no function but 42"),
        (Counting, "no function"),
        ([], "names no function"),
        ({contains: "much"}, "no weight"),
        (lambda completion, solution: 1.0, "'solution', which rows do not have"),
    ],
)
def test_what_is_no_reward_is_refused_with_advice(given: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        as_rewards(given).grade_all(CASES)  # type: ignore[union-attr]


def test_a_dotted_path_names_a_function_or_a_class(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "own_rewards.py").write_text(
        "def short(completion): return float(len(completion) < 8)\n"
        "class Long:\n    def __call__(self, completion): return float(len(completion) >= 8)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    grade = Rewards(["own_rewards.short", "own_rewards.Long"]).grade_all(CASES)[0]
    assert grade.parts == {"short": 0.0, "Long": 1.0}
    sys.modules.pop("own_rewards")


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_success_is_always_in_0_and_1_or_unknown(reward: float) -> None:
    success = Grade(reward, "x").success
    assert success is None or 0 <= success <= 1
