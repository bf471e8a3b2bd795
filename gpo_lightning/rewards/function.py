"""One reward function as a user writes it: found by path, called with what it asks for, held to its word.

Whatever a function does, a response ends with a number, with ``None`` (not applicable), or with an incident that says
what went wrong; only what cannot work for any response is an error.
"""

import asyncio
import ctypes
import inspect
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any, cast

from gpo_lightning.errors import ConfigError
from gpo_lightning.rewards.grader import Case

_EXAMPLE = "def my_reward(completion, answer, **columns): return float(answer in completion)"


@dataclass(frozen=True, slots=True)
class Incident:
    """Why a function gave no usable value.

    Args:
        kind: ``reward_failed``, ``reward_timeout``, ``reward_not_finite`` or ``reward_not_a_number``.
        detail: the value or exception, for people.
    """

    kind: str
    detail: str


Score = float | None | Incident


class _Overdue(BaseException):
    """No ``Exception``, so that a function that catches those is interrupted all the same."""


class RewardFunction:
    """A callable, or an instance of a class with ``__call__``.

    It may be ``async``. One with a parameter ``completions`` is called once for many responses, with lists, and
    returns a list.

    >>> function = RewardFunction(lambda completion, answer: float(answer in completion), "contains")
    >>> function.scores([Case("It is 42.", "42"), Case("It is 41.", "42")])
    [1.0, 0.0]

    Args:
        call: the function.
        name: for logs and messages.
        deadline: seconds for one call; one that the callable itself has, as ``deadline``, goes before.

    Raises:
        ConfigError: it cannot be called, or not with what there is.
    """

    def __init__(self, call: Callable[..., Any], name: str, deadline: float = 60.0) -> None:
        if not callable(call) or inspect.isclass(call):
            raise ConfigError(f"rewards: {name} is no function but {call!r:.60}. Write one: {_EXAMPLE}")
        self.call, self.name = call, name
        own = getattr(call, "deadline", None)
        self.deadline = float(own) if isinstance(own, int | float) else deadline
        parameters = inspect.signature(call).parameters
        self._takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._taken = set(named)
        self._needed = {n for n, p in named.items() if p.default is p.empty}
        self.batched = "completions" in named
        is_async = inspect.iscoroutinefunction
        self._async = is_async(call) or is_async(getattr(call, "__call__", None))  # noqa: B004  (an instance's method)
        if any(p.kind is p.POSITIONAL_ONLY for p in parameters.values()):
            raise ConfigError(f"rewards: {name} has parameters without a name. Write: {_EXAMPLE}")

    def scores(self, cases: Sequence[Case]) -> list[Score]:
        """A score for each case."""
        if self.batched:
            return self._whole(cases)
        arguments = [self._chosen(_arguments(case)) for case in cases]
        if self._async:
            return [_score(value) for value in self._together(arguments)]
        return [_score(self._guarded(each)) for each in arguments]

    def _whole(self, cases: Sequence[Case]) -> list[Score]:
        rows = [_arguments(case) for case in cases]
        columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}
        plural = {"completions": "completion", "prompts": "prompt", "answers": "answer"}
        chosen = self._chosen(columns | {many: columns[one] for many, one in plural.items()})
        value = self._together([chosen])[0] if self._async else self._guarded(chosen)
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, int | float) and len(cases) == 1:
            value = [value]
        if isinstance(value, list | tuple) and len(cast(Sequence[Any], value)) == len(cases):
            return [_score(each) for each in cast(Sequence[Any], value)]
        wrong = Incident("reward_not_a_number", f"{value!r:.60} instead of a list of {len(cases)} numbers")
        return [value if isinstance(value, Incident) else wrong] * len(cases)

    def _chosen(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the function asks for."""
        if missing := sorted(self._needed - set(arguments)):
            near = get_close_matches(missing[0], sorted(set(arguments) - self._taken), 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"rewards: {self.name} asks for {missing[0]!r}, which rows do not have.{hint} There are: "
                f"{', '.join(sorted(arguments))}. Rename the parameter, or give it a default."
            )
        return {name: value for name, value in arguments.items() if self._takes_all or name in self._taken}

    def _guarded(self, arguments: Mapping[str, Any]) -> Any:
        try:
            if threading.current_thread() is threading.main_thread():
                with _alarm(self.deadline):
                    return self.call(**arguments)
            return _aside(lambda: self.call(**arguments), self.deadline)
        except _Overdue:
            return Incident("reward_timeout", f"no answer within {self.deadline:g} s")
        except ConfigError:  # of a reward of ours, which cannot work for any response
            raise
        except Exception as error:  # a function may raise whatever it likes on what a policy writes
            return _failure(error)

    def _together(self, arguments: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Results of an ``async`` function, all awaited at once, in a thread of their own: a notebook has a loop."""
        results: list[Any] = []

        async def one(each: Mapping[str, Any]) -> Any:
            try:
                return await asyncio.wait_for(self.call(**each), self.deadline)
            except TimeoutError:
                return Incident("reward_timeout", f"no answer within {self.deadline:g} s")
            except Exception as error:
                return _failure(error)

        async def everyone() -> list[Any]:
            return await asyncio.gather(*map(one, arguments))

        thread = threading.Thread(target=lambda: results.extend(asyncio.run(everyone())), daemon=True)
        thread.start()
        thread.join(2 * self.deadline)
        stuck = Incident("reward_timeout", f"blocks its event loop for more than {2 * self.deadline:g} s")
        return list(results) or [stuck] * len(arguments)


def load(path: str) -> Any:
    """What a dotted path names; of a class, an instance. A hub id or a directory names a reward model.

    >>> load("math.sqrt")(4.0)
    2.0

    Raises:
        ConfigError: there is no such thing.
    """
    if "/" in path or Path(path).is_dir():
        from gpo_lightning.rewards.sequence_classifier import SequenceClassifier

        return SequenceClassifier(path)
    module, _, name = path.rpartition(".")
    if not module or name == "py" or ":" in path:
        stem = path.partition(":")[0].removesuffix(".py")
        raise ConfigError(
            f"data.rewards: {path!r} is no dotted path. Write module.function, for {stem}.py: {stem}.NAME"
        )
    try:
        found = import_module(module)
    except ImportError as error:
        if error.name is not None and not f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"data.rewards: module {module!r} of {path!r} imports {error.name!r}, which fails: {error}."
            ) from error
        raise ConfigError(
            f"data.rewards: module {module!r} of {path!r} cannot be imported: {error}. It must lie in the folder the "
            "command runs in, or be installed."
        ) from error
    if not hasattr(found, name):
        near = get_close_matches(name, dir(found), 1)
        hint = f" Did you mean {module}.{near[0]}?" if near else ""
        raise ConfigError(f"data.rewards: module {module!r} has no {name!r}.{hint}")
    what = getattr(found, name)
    return what() if inspect.isclass(what) else what


def _arguments(case: Case) -> dict[str, Any]:
    """Everything a function may ask for, by name; the columns do not hide what the policy wrote."""
    own = {"prompt": case.prompt, "completion": case.response, "completion_ids": list(case.tokens), "id": case.id}
    return {**case.metadata, "answer": case.answer, **own}


def _score(value: Any) -> Score:
    """The value as a number: of Python, of numpy, or a tensor of one element."""
    if value is None or isinstance(value, Incident):
        return value
    said = f"{value!r:.60}"
    try:
        number = value.item() if hasattr(value, "item") else value
        if isinstance(number, str | bytes):
            raise TypeError
        number = float(number)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return Incident("reward_not_a_number", said)
    return number if isfinite(number) else Incident("reward_not_finite", said)


def _failure(error: Exception) -> Incident:
    return Incident("reward_failed", f"{type(error).__name__}: {error}")


def _aside(call: Callable[[], Any], seconds: float) -> Any:
    """What ``call`` returns, in a thread of its own, which signals do not reach and nobody has to wait for.

    Raises:
        _Overdue: it runs for too long. It is interrupted at its next line of Python; if it never comes to one, it is
            left behind.
    """
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # handed to whoever waits
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="reward", daemon=True)
    thread.start()
    try:
        return outcome.result(seconds)
    except FutureTimeout:
        if outcome.done():
            raise
        threading.Thread(target=_interrupt, args=(thread,), name="reward-deadline", daemon=True).start()
        raise _Overdue from None


def _interrupt(thread: threading.Thread) -> None:
    """Again every second, for a function may swallow the first; for a minute, for it may wait for what never comes."""
    for _ in range(60):
        if thread.ident is None or not thread.is_alive():
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Overdue))
        thread.join(1.0)


@contextmanager
def _alarm(seconds: float) -> Generator[None]:
    """Interrupt what runs for too long in the main thread."""

    def ring(*_: Any) -> None:
        raise _Overdue

    handler = signal.signal(signal.SIGALRM, ring)
    # Again every second, for a function may swallow the first.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)
