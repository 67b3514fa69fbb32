"""Writes that bear a request identifier are done once: the same again gets the first answer again (spec section 6).

A late copy of a multicast write must not undo what was written since, and a repair must not act where the multicast did. In memory,
bounded in time and number, the oldest forgotten first; nothing survives a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method, Request, Response

KEEP_S = 247.0
"""EXCHANGE_LIFETIME (RFC 7252, section 4.8.2)."""
MAX_KEPT = 10_000

_Key = tuple[bytes, Method, Path]
_Waiting = list[Deferred[Response]]


class Repeats:
    """The first answers of the last minutes. `now` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float], keep_s: float = KEEP_S, most: int = MAX_KEPT) -> None:
        self._now, self._keep_s, self._most = now, keep_s, most
        self._first: OrderedDict[_Key, tuple[float, Response | _Waiting]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._first)

    def once(self, request: Request, act: Callable[[], Response | Deferred[Response]]) -> Response | Deferred[Response]:
        """What `act` answers, the first time; the same answer for the same identifier, method and path again, without acting.

        Where the first is still under way, its answer is waited for. A request that failed was not done: the next one is.
        """
        if request.request_id is None:
            return act()
        key = (request.request_id, request.method, request.path)
        self._forget()
        known = self._first.get(key)
        if known is not None:
            return self._again(known[1])
        answered = act()
        if isinstance(answered, Response):
            self._first[key] = (self._now(), answered)
            return answered
        waiting: _Waiting = []
        self._first[key] = (self._now(), waiting)
        return answered.addCallbacks(self._done, self._failed, (key, waiting), {}, (key, waiting))

    @staticmethod
    def _again(known: Response | _Waiting) -> Response | Deferred[Response]:
        if isinstance(known, Response):
            return known
        later: Deferred[Response] = Deferred(lambda cancelled: known.remove(cancelled) if cancelled in known else None)
        known.append(later)
        return later

    def _done(self, response: Response, key: _Key, waiting: _Waiting) -> Response:
        if key in self._first:
            self._first[key] = (self._first[key][0], response)
        for later in list(waiting):
            later.callback(response)
        return response

    def _failed(self, failure: Failure, key: _Key, waiting: _Waiting) -> Failure:
        self._first.pop(key, None)
        for later in list(waiting):
            later.errback(failure)
        return failure

    def _forget(self) -> None:
        before = self._now() - self._keep_s
        while self._first and (len(self._first) >= self._most or next(iter(self._first.values()))[0] <= before):
            self._first.popitem(last=False)
