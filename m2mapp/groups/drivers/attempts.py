"""What waits to be told to others: so many at a time, again after a pause where it was not taken, at once where there is news of it.

Responsible for the order, and for what is under way. Not responsible for what is told, nor for how long a pause is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

Task = TypeVar("Task", bound=Hashable)


class Attempts(Generic[Task]):
    """The tasks that are not done. `work` begins those whose turn it is; whoever was told of news calls it when all of that is added.

    `begin` makes one attempt: a Deferred, which is cancelled by `stop`, and after which `over` has to be called; None: nothing is to be
    told, and the task is done.
    """

    def __init__(self, reactor: IReactorTime, at_once: int, begin: Callable[[Task], Deferred[Any] | None]) -> None:
        self._reactor, self._at_once, self._begin = reactor, at_once, begin
        self._numbers: dict[Task, int] = {}
        self._queue: deque[Task] = deque()
        self._under_way: dict[Task, Deferred[Any] | None] = {}
        self._news: set[Task] = set()
        self._pauses: dict[Task, IDelayedCall] = {}
        self._working = False

    def __len__(self) -> int:
        """How many tasks are not done."""
        return len(self._numbers)

    def __contains__(self, task: Task) -> bool:
        """Whether it is not done."""
        return task in self._numbers

    def number(self, task: Task) -> int:
        """How many attempts were made since there was news of it."""
        return self._numbers[task]

    def has_news(self, task: Task) -> bool:
        """Whether there is news of a task that is under way: what it tells is old."""
        return task in self._news

    def add(self, task: Task) -> None:
        """There is news of a task: it does not wait for the end of a pause that an older state brought."""
        if task in self._under_way:
            self._news.add(task)
        elif self._end_pause(task) or task not in self._numbers:
            self._queue_anew(task)

    def take(self, task: Task) -> None:
        """Its first attempt is made by another way: it is under way until it is `over`."""
        self._numbers[task], self._under_way[task] = 1, None

    def work(self) -> None:
        """Begin those whose turn it is."""
        # A loop, and not each answer telling the next: answers that are there at once would be as many calls deep.
        if self._working:
            return
        self._working = True
        while self._queue and len(self._under_way) < self._at_once:
            task = self._queue.popleft()
            self._numbers[task] += 1
            self._under_way[task] = None
            begun = self._begin(task)
            if begun is None:
                self.over(task, None)
            elif task in self._under_way:
                self._under_way[task] = begun
        self._working = False

    def over(self, task: Task, pause_s: float | None) -> float | None:
        """An attempt is over: the next one is made at once where there is news, after a pause (which is given back), or not (None)."""
        self._under_way.pop(task, None)
        if task in self._news:
            self._end_pause(task)
            self._queue_anew(task)
            pause_s = 0.0
        elif pause_s is None:
            self._numbers.pop(task, None)
        else:
            self.rest(task, pause_s)
        self.work()
        return pause_s

    def rest(self, task: Task, pause_s: float) -> None:
        """Begin it in so many seconds, unless there is news before."""
        self._end_pause(task)
        self._pauses[task] = self._reactor.callLater(pause_s, self._rested, task)

    def settle(self, task: Task) -> None:
        """A task that pauses is done by another way."""
        if self._end_pause(task):
            del self._numbers[task]

    def stop(self) -> None:
        """Nothing is under way any more, and nothing waits."""
        for pause in self._pauses.values():
            pause.cancel()
        under_way, self._under_way = self._under_way, {}
        for state in (self._pauses, self._queue, self._numbers, self._news):
            state.clear()
        for begun in under_way.values():
            if begun is not None:
                begun.cancel()

    def _queue_anew(self, task: Task) -> None:
        self._news.discard(task)
        self._numbers[task] = 0
        self._queue.append(task)

    def _end_pause(self, task: Task) -> bool:
        pause = self._pauses.pop(task, None)
        if pause is not None:
            pause.cancel()
        return pause is not None

    def _rested(self, task: Task) -> None:
        del self._pauses[task]
        self._numbers.setdefault(task, 0)
        self._queue.append(task)
        self.work()
