"""Many deadlines on one delayed call.

Responsible for calling functions at their time: a heap of deadlines, and one `callLater` for the earliest. Not responsible for what is
called; a function that raises is logged and keeps no other from its time.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()
_DEAD_AT_LEAST = 64


class Deadline:
    """One function that is called once, at its time, unless it is cancelled before."""

    __slots__ = ("_deadlines", "function")

    def __init__(self, deadlines: Deadlines, function: Callable[[], object]) -> None:
        self._deadlines = deadlines
        self.function: Callable[[], object] | None = function

    def cancel(self) -> None:
        """Do not call it any more. Calling this again, or too late, does nothing."""
        if self.function is not None:
            self.function = None
            self._deadlines.cancelled()


class Deadlines:
    """All deadlines of one CoAP service. `clock` is the reactor or a test's clock; times are seconds of it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Deadline]] = []
        self._serial = count()
        self._dead = 0
        self._call: IDelayedCall | None = None
        self._call_at = 0.0
        self._running = False

    def __len__(self) -> int:
        """How many deadlines are ahead."""
        return len(self._heap) - self._dead

    def after(self, delay_s: float, function: Callable[[], object]) -> Deadline:
        """Call the function in so many seconds. The `Deadline` can be cancelled."""
        deadline = Deadline(self, function)
        at = self._clock.seconds() + delay_s
        heappush(self._heap, (at, next(self._serial), deadline))
        if not self._running and (self._call is None or at < self._call_at):
            self._arm(at)
        return deadline

    def stop(self) -> None:
        """Forget every deadline; nothing is pending afterwards. It can be used again."""
        for _, _, deadline in self._heap:
            deadline.function = None
        self._heap.clear()
        self._dead = 0
        self._disarm()

    def cancelled(self) -> None:
        """One deadline was cancelled: what the dead take up stays below what the living do."""
        self._dead += 1
        if self._dead == len(self._heap):
            self._heap.clear()
            self._dead = 0
            self._disarm()
        elif self._dead > _DEAD_AT_LEAST and self._dead * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].function is not None]
            heapify(self._heap)
            self._dead = 0

    def _arm(self, at: float) -> None:
        self._disarm()
        self._call_at = at
        self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._run)

    def _disarm(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _run(self) -> None:
        """Call what is due, then wait for the next."""
        self._call = None
        self._running = True
        now = self._clock.seconds()
        while self._heap and self._heap[0][0] <= now:
            deadline = heappop(self._heap)[2]
            function, deadline.function = deadline.function, None
            if function is None:
                self._dead -= 1
                continue
            try:
                function()
            except Exception:  # noqa: BLE001 - the one catch-all of this entry point: the other deadlines must have their turn
                _log.failure("a deadline's function failed")
        self._running = False
        if self._heap:
            self._arm(self._heap[0][0])
