"""The node's one registry of metrics: counters, gauges and histograms that cost an addition where they are used.

Names follow Prometheus (`m2mapp_<part>_<what>_<unit or total>`). `http.metrics` renders them; nothing here knows the text format.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Labels = tuple[tuple[str, str], ...]


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.value += amount


class Histogram:
    """How often values fell into each bucket; the last bucket is for all above the last bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BUCKETS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Instrument = Counter | Histogram | Callable[[], float]


class Metrics:
    """All instruments of one node, by name and labels."""

    def __init__(self) -> None:
        self._help: dict[str, str] = {}
        self._instruments: dict[str, dict[Labels, Instrument]] = {}

    def counter(self, name: str, about: str, **labels: str) -> Counter:
        """The counter of that name and those labels; made at the first call."""
        found = self._place(name, about).setdefault(tuple(sorted(labels.items())), Counter())
        if not isinstance(found, Counter):
            raise TypeError(f"{name} is not a counter")
        return found

    def histogram(self, name: str, about: str, **labels: str) -> Histogram:
        """The histogram (of seconds) of that name and those labels; made at the first call."""
        found = self._place(name, about).setdefault(tuple(sorted(labels.items())), Histogram())
        if not isinstance(found, Histogram):
            raise TypeError(f"{name} is not a histogram")
        return found

    def gauge(self, name: str, about: str, read: Callable[[], float], **labels: str) -> None:
        """A value that is read when it is asked for: the depth of a queue, a number of resources."""
        place, key = self._place(name, about), tuple(sorted(labels.items()))
        if isinstance(place.get(key), Counter | Histogram):
            raise TypeError(f"{name} is not a gauge")
        place[key] = read

    def collect(self) -> Iterable[tuple[str, str, dict[Labels, Instrument]]]:
        """Name, explanation and instruments, by name."""
        for name in sorted(self._instruments):
            yield name, self._help[name], self._instruments[name]

    def _place(self, name: str, about: str) -> dict[Labels, Instrument]:
        self._help.setdefault(name, about)
        return self._instruments.setdefault(name, {})
