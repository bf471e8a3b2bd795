"""One event loop for all problems: it keeps the engine full, and lets each problem go on once its own answers are in.

What is done for a problem is a *road*: a generator written straight down, that asks for continuations and yields where
it needs them. Nothing that a road does depends on when, or beside what, its continuations came back.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from gpo_lightning.engines import Completion, Engine, Purpose, Request, Sampling
from gpo_lightning.engines.engine import remaining_tokens
from gpo_lightning.rollouts.clock import Clock
from gpo_lightning.rollouts.judge import Finished, Judge
from gpo_lightning.rollouts.occupancy import Occupancy
from gpo_lightning.rollouts.progress import Progress, ProgressListener
from gpo_lightning.rollouts.seeds import derive_seed
from gpo_lightning.rollouts.tree import Prefix, RolloutTree, Sample

Road = Generator[None]
"""What is done for one problem; yields to wait for continuations that it has asked for."""


class Draws:
    """One problem's continuations: a road asks for them here, and finds them in its tree when they are back.

    On an engine that is ``reproducible`` all that a road waits for enters the tree together, in the order in which it
    was asked for; so the tree does not depend on what was finished first. On others each enters as it comes.

    Args:
        scheduler: carries the requests.
        tree: where the continuations will live.
        again: how often the same problem was opened before, which must not draw the same once more.
    """

    def __init__(self, scheduler: "Scheduler", tree: RolloutTree, again: int) -> None:
        self.tree = tree
        self._scheduler, self._again = scheduler, (again,) if again else ()
        self._together = scheduler.engine.capabilities.reproducible
        self._asked: Counter[tuple[Purpose, Prefix]] = Counter()
        self._waiting: dict[int, Prefix] = {}
        self._back: dict[int, Sample] = {}
        self._pending: Counter[Prefix] = Counter()

    def ask(self, purpose: Purpose, prefix: Prefix, count: int, longest: int | None = None) -> None:
        """Request ``count`` continuations of ``prefix``; none where the token limits leave no room (counted).

        Args:
            purpose: account of the tokens.
            prefix: what they continue.
            count: how many.
            longest: tokens at which one is cut off, if it should be before the token limits are reached.
        """
        for _ in range(count):
            number = self._asked[purpose, prefix]
            what = (purpose, self.tree.problem.id, prefix, number, *self._again)
            handle = self._scheduler.submit(self, purpose, prefix, longest, what)
            if handle is not None:
                self._asked[purpose, prefix] += 1
                self._waiting[handle] = prefix
                self._pending[prefix] += 1

    @property
    def waiting(self) -> bool:
        """Whether something asked for is not in the tree yet."""
        return bool(self._waiting)

    def pending(self, prefix: Prefix) -> int:
        """Continuations of ``prefix`` asked for and not in the tree yet."""
        return self._pending[prefix]

    def back(self) -> Road:
        """Wait until all is in the tree."""
        while self._waiting:
            yield

    def cancel(self, prefix: Prefix) -> None:
        """Give up on the continuations of ``prefix`` in flight (counted); what they had drawn is lost."""
        for handle in [handle for handle, its in self._waiting.items() if its == prefix]:
            self._scheduler.cancel(handle)
            self._forget(handle)

    def receive(self, handle: int, sample: Sample) -> bool:
        """Take one that is back; returns whether the tree has grown."""
        self._back[handle] = sample
        if self._together and len(self._back) < len(self._waiting):
            return False
        for ready in [each for each in self._waiting if each in self._back]:
            self.tree.add(self._back.pop(ready))
            self._forget(ready)
        return True

    def _forget(self, handle: int) -> None:
        self._pending[self._waiting.pop(handle)] -= 1


@dataclass(frozen=True, slots=True)
class _Flight:
    draws: Draws
    prefix: Prefix
    purpose: Purpose


Take = Callable[[int], list[tuple[Draws, Road]]]
"""The next roads to set out on, by the number of continuations in flight; empty where it is enough, or no more come."""


class Scheduler:
    """Walks many roads at once.

    Args:
        engine: a started engine.
        judge: makes samples of what the engine finishes.
        sampling: how to draw, by purpose.
        seed: every request's own seed follows from it.
        counts: what was skipped is added here.
        phase: name of what is done, for the listener.
        listener: told about progress.
    """

    def __init__(
        self,
        engine: Engine,
        judge: Judge,
        sampling: Sampling,
        seed: int,
        counts: Counter[str],
        phase: str = "rollouts",
        listener: ProgressListener | None = None,
    ) -> None:
        self.engine = engine
        self.seconds, self.occupancy = Clock(), Occupancy(engine.capabilities.slots)
        self.expected = 0
        """Roads there will be, for the listener."""
        self._judge, self._seed, self._counts = judge, seed, counts
        self._sampling = {purpose: sampling.of(purpose) for purpose in Purpose}
        self._phase, self._listener = phase, listener
        self._opened: Counter[str] = Counter()
        self._flights: dict[int, _Flight] = {}
        self._roads: dict[Draws, Road] = {}
        self._in_flight: Counter[str] = Counter()
        self._done = self._tokens = 0
        self._since = 0.0

    @property
    def room(self) -> int:
        """Continuations in flight below which new problems are set out on: what keeps the engine full, and no more."""
        return 2 * self.engine.capabilities.slots

    def put_off(self, roads: int) -> None:
        """So many of the roads that have ended go on later, here or elsewhere."""
        self._done -= roads
        self.expected -= roads

    def open(self, tree: RolloutTree) -> Draws:
        """Make ready to draw for a tree."""
        again = self._opened[tree.problem.id]
        self._opened[tree.problem.id] += 1
        return Draws(self, tree, again)

    def run(self, take: Take) -> None:
        """Walk all roads to their ends."""
        for _ in self.polls(take):
            pass

    def run_all(self, roads: Iterable[tuple[Draws, Road]]) -> None:
        """Walk roads to their ends, and set out on the next one wherever the engine has room."""
        left = iter(roads)
        self.run(lambda in_flight: list(islice(left, 1)) if in_flight < self.room else [])

    def polls(self, take: Take) -> Iterator[None]:
        """Walk all roads to their ends, and pause after each poll of the engine for whoever wants what is finished."""
        self._since = perf_counter()
        while True:
            with self.seconds("search"):
                while roads := take(len(self._flights)):
                    self._roads.update(roads)
                    for draws, _ in roads:
                        self._walk(draws)
            self._tell()
            if not self._flights:
                return
            completions = self._poll()
            with self.seconds("grade"):
                grown = self._store(completions)
            with self.seconds("search"):
                for draws in grown:
                    self._walk(draws)
            yield

    def submit(
        self, draws: Draws, purpose: Purpose, prefix: Prefix, longest: int | None, what: tuple[object, ...]
    ) -> int | None:
        """Request one continuation; ``None`` where there is no room for any (counted). For :class:`Draws`."""
        sampling, prompt = self._sampling[purpose], draws.tree.prompt
        room = remaining_tokens(sampling, prompt, prefix, self.engine.capabilities.context)
        if room < 1:
            self._counts["no_room"] += 1
            return None
        room = room if longest is None else min(room, longest)
        request = Request(prompt + prefix, room, sampling, purpose, derive_seed(self._seed, *what))
        handle = self.engine.submit(request)
        self._flights[handle] = _Flight(draws, prefix, purpose)
        self._in_flight[purpose] += 1
        return handle

    def cancel(self, handle: int) -> None:
        """Give up on one. For :class:`Draws`."""
        self.engine.cancel(handle)
        self._in_flight[self._flights.pop(handle).purpose] -= 1
        self._counts["cancelled"] += 1

    def _walk(self, draws: Draws) -> None:
        """Let a road go on as far as it can."""
        try:
            next(self._roads[draws])
        except StopIteration:
            del self._roads[draws]
            self._done += 1

    def _poll(self) -> list[Completion]:
        """Wait for the engine; the time is shared out among the purposes of what it works on."""
        begin, whole = perf_counter(), len(self._flights)
        completions = self.engine.poll()
        end = perf_counter()
        for purpose, count in self._in_flight.items():
            if count:
                self.seconds.book(str(purpose), (end - begin) * count / whole)
        self.occupancy.add(end - self._since, whole)
        self._since = end
        return completions

    def _store(self, completions: list[Completion]) -> list[Draws]:
        """Have what is finished graded and stored; returns those whose tree has grown."""
        flights = [self._flights.pop(completion.handle) for completion in completions]
        finished = [
            Finished(flight.draws.tree, flight.prefix, flight.purpose, completion)
            for flight, completion in zip(flights, completions, strict=True)
        ]
        grown: dict[Draws, None] = {}
        samples = self._judge.samples(finished, self.engine.version)
        for flight, completion, sample in zip(flights, completions, samples, strict=True):
            self._in_flight[flight.purpose] -= 1
            self._tokens += len(completion.tokens)
            if flight.draws.receive(completion.handle, sample):
                grown[flight.draws] = None
        return list(grown)

    def _tell(self) -> None:
        if self._listener is not None:
            in_flight = {purpose: count for purpose, count in self._in_flight.items() if count}
            self._listener(Progress(self._phase, self._done, self.expected, self._tokens, in_flight))
