"""How full the engine was kept: continuations in flight over the time of the rollouts."""

_SPANS = 4096


class Occupancy:
    """Seconds, in their order, with so many continuations in flight.

    >>> occupancy = Occupancy(slots=32)
    >>> for seconds, in_flight in ((6.0, 64), (3.0, 10), (1.0, 2)):
    ...     occupancy.add(seconds, in_flight)
    >>> occupancy.idle_share, occupancy.mean, occupancy.curve(5)
    (0.1, 41.6, [64.0, 64.0, 64.0, 10.0, 6.0])

    Args:
        slots: continuations that the engine works on at once.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._spans: list[tuple[float, float]] = []
        self._idle: dict[int, float] = {}

    def add(self, seconds: float, in_flight: int) -> None:
        """So long, so many were asked for and not back."""
        self._spans.append((seconds, in_flight))
        self._idle[in_flight] = self._idle.get(in_flight, 0.0) + seconds
        if len(self._spans) == _SPANS:
            self._spans = [_joined(*pair) for pair in zip(self._spans[::2], self._spans[1::2], strict=True)]

    @property
    def seconds(self) -> float:
        return sum(seconds for seconds, _ in self._spans)

    @property
    def mean(self) -> float:
        """Mean number in flight."""
        return sum(seconds * count for seconds, count in self._spans) / (self.seconds or 1.0)

    @property
    def idle_share(self) -> float:
        """Share of the time with fewer than a quarter of the slots busy; few rollouts may not fill them all."""
        quarter = min(self.slots, max(self._idle, default=0)) / 4
        return sum(seconds for count, seconds in self._idle.items() if count < quarter) / (self.seconds or 1.0)

    def curve(self, parts: int = 20) -> list[float]:
        """``[parts]`` mean number in flight in each equal part of the time."""
        width, found, end = self.seconds / parts, [0.0] * parts, 0.0
        if not width:
            return found
        for seconds, count in self._spans:
            begin, end = end, end + seconds
            for part in range(int(begin / width), min(parts, int(end / width) + 1)):
                inside = min(end, (part + 1) * width) - max(begin, part * width)
                found[part] += max(0.0, inside) * count / width
        return found


def _joined(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    seconds = first[0] + second[0]
    return seconds, (first[0] * first[1] + second[0] * second[1]) / (seconds or 1.0)
