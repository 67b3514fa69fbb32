"""When resources with a lifetime end (registrations, leases): the pure part, which counts in the node's monotonic seconds.

Nothing here is kept over a restart, on purpose. Wall-clock times would have to be trusted for it, and a box without a clock battery
steps by years at start; the monotonic clock of the run before is lost. So each resource has its full lifetime anew when the node
starts: it may outlive its device by one lifetime, and never ends early.
"""

from __future__ import annotations

from itertools import islice

from sortedcontainers import SortedList

from m2mapp.model.identifiers import Path


class Lifetimes:
    """Until when the resource at each path lasts. Every operation costs the logarithm of their number."""

    def __init__(self) -> None:
        self._ends_s: dict[Path, float] = {}
        self._in_order = SortedList()

    def start(self, path: Path, lifetime_s: float, now_s: float) -> None:
        """The resource lasts `lifetime_s` seconds from now on, whatever it lasted before."""
        self.forget(path)
        self._ends_s[path] = now_s + lifetime_s
        self._in_order.add((now_s + lifetime_s, path))

    def forget(self, path: Path) -> None:
        """The resource is gone; one that is not known is no error."""
        ends_s = self._ends_s.pop(path, None)
        if ends_s is not None:
            self._in_order.remove((ends_s, path))

    def clear(self) -> None:
        """All are gone."""
        self._ends_s.clear()
        self._in_order.clear()

    def remaining_s(self, path: Path, now_s: float) -> float | None:
        """The seconds that a resource still lasts, not below 0; None for one that is not known."""
        ends_s = self._ends_s.get(path)
        return None if ends_s is None else max(0.0, ends_s - now_s)

    def next_end_s(self) -> float | None:
        """When the next one ends, in monotonic seconds; None where there is none."""
        return float(self._in_order[0][0]) if self._in_order else None

    def due(self, now_s: float, limit: int) -> list[Path]:
        """The paths of those whose time is over, the longest over first, at most `limit`."""
        paths: list[Path] = []
        for ends_s, path in islice(self._in_order, limit):
            if ends_s > now_s:
                break
            paths.append(path)
        return paths
