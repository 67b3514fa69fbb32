"""When registrations end: the pure part, which counts in the node's monotonic seconds.

Nothing here is kept over a restart, on purpose. Wall-clock times would have to be trusted for it, and a box without a clock battery
steps by years at start; the monotonic clock of the run before is lost. So each registration has its full lifetime anew when the node
starts: it may outlive its device by one lifetime, and never ends early.
"""

from __future__ import annotations

from itertools import islice

from sortedcontainers import SortedList


class Lifetimes:
    """Until when each name lasts. Every operation costs the logarithm of their number."""

    def __init__(self) -> None:
        self._ends_s: dict[str, float] = {}
        self._in_order = SortedList()

    def start(self, name: str, lifetime_s: float, now_s: float) -> None:
        """The name lasts `lifetime_s` seconds from now on, whatever it lasted before."""
        self.forget(name)
        self._ends_s[name] = now_s + lifetime_s
        self._in_order.add((now_s + lifetime_s, name))

    def forget(self, name: str) -> None:
        """The name is gone; one that is not known is no error."""
        ends_s = self._ends_s.pop(name, None)
        if ends_s is not None:
            self._in_order.remove((ends_s, name))

    def clear(self) -> None:
        """All names are gone."""
        self._ends_s.clear()
        self._in_order.clear()

    def remaining_s(self, name: str, now_s: float) -> float | None:
        """The seconds that a name still lasts, not below 0; None for one that is not known."""
        ends_s = self._ends_s.get(name)
        return None if ends_s is None else max(0.0, ends_s - now_s)

    def next_end_s(self) -> float | None:
        """When the next name ends, in monotonic seconds; None where there is none."""
        return float(self._in_order[0][0]) if self._in_order else None

    def due(self, now_s: float, limit: int) -> list[str]:
        """The names whose time is over, the longest over first, at most `limit`."""
        names: list[str] = []
        for ends_s, name in islice(self._in_order, limit):
            if ends_s > now_s:
                break
            names.append(str(name))
        return names
