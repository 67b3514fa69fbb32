"""Enters in the audit list who changes what by HTTP, past the pages: a handler before the node's own.

The first write of somebody to a path is entered within a second, the same again within ten minutes as one entry with its number: a meter
that writes each second neither fills the list nor costs a flush of its own. What a killed process had not entered yet is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.admin.audit import Deed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import ICommit, IHandle
from m2mapp.model.messages import WRITES, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NOBODY
from m2mapp.tree.unit import Unit

_log = Logger()

SOON_S = 1.0
AGAIN_S = 600.0
_MOST = 1000
"""So many different deeds are counted at a time; while there are more, further ones are counted in a metric only."""


class _Key(NamedTuple):
    who: str
    what: str
    where: str
    source: str


@dataclass(slots=True)
class _Seen:
    """What was done: how often since it was entered last, the last trace, and until when the same is only counted."""

    number: int
    trace: str
    until_s: float


@implementer(IHandle)
class Recorder:
    """Hands requests on to a handler, and remembers the writes that went well."""

    def __init__(self, handler: IHandle, committer: ICommit, reactor: IReactorTime, metrics: Metrics) -> None:
        self._handle = handler.handle
        self._committer, self._reactor = committer, reactor
        self._seen: dict[_Key, _Seen] = {}
        self._call: IDelayedCall | None = None
        self._left_out = metrics.counter("m2mapp_audit_left_out_total", "Writes by HTTP that the audit list had no room for.")

    def handle(self, request: Request) -> Response | Deferred[Response] | None:
        """The handler's answer."""
        answered: Response | Deferred[Response] | None = self._handle(request)
        if request.method not in WRITES or request.principal is NOBODY or _only_asks(request):
            return answered
        if isinstance(answered, Deferred):
            return answered.addBoth(self._settled, request)
        if answered is not None:
            self._remember(request, answered.location or request.path)
        return answered

    def enter(self) -> None:
        """Enter what has not been entered yet, all in one unit."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        now = self._reactor.seconds()
        entries = []
        for key, seen in list(self._seen.items()):
            fresh, over = seen.until_s == 0.0, seen.until_s <= now
            if seen.number and (fresh or over):
                what = key.what if seen.number == 1 else f"{key.what} ({seen.number} times)"
                entries.append(Deed(key.who, what, key.where, source=key.source, trace=seen.trace).entry())
                seen.number, seen.until_s = 0, now + AGAIN_S
            elif over:
                del self._seen[key]
        if entries:
            self._committer.commit(Unit(appends=tuple(entries))).addErrback(_not_entered)
        if self._seen:
            self._call = self._reactor.callLater(min(max(0.0, seen.until_s - now) for seen in self._seen.values()), self.enter)

    def stop(self) -> None:
        """Enter what there is, and count no more."""
        for seen in self._seen.values():
            seen.until_s = 0.0
        self.enter()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._seen.clear()

    def _settled(self, result: Response | Failure, request: Request) -> Response | Failure:
        # Who does not wait for the answer has made the change all the same, as far as anybody knows.
        if isinstance(result, Response):
            self._remember(request, result.location or request.path)
        elif result.check(CancelledError) is not None:
            self._remember(request, request.path)
        return result

    def _remember(self, request: Request, path: Path) -> None:
        key = _Key(request.principal.name, request.method.value, path_text(path), request.principal.source)
        seen = self._seen.get(key)
        if seen is not None:
            seen.number, seen.trace = seen.number + 1, request.trace
        elif len(self._seen) < _MOST:
            self._seen[key] = _Seen(1, request.trace, 0.0)
            self._soon()
        else:
            self._left_out.add()

    def _soon(self) -> None:
        if self._call is None or self._call.getTime() > self._reactor.seconds() + SOON_S:
            if self._call is not None:
                self._call.cancel()
            self._call = self._reactor.callLater(SOON_S, self.enter)


def _only_asks(request: Request) -> bool:
    """Whether a request asks what a write would do, and does nothing: an edit of a group with `?explain`, an operation's `evaluate`."""
    path = request.path
    explains = path[:1] == ("groups",) and request.query_value("explain") is not None
    return explains or (path[-3:-2] == ("Operations",) and path[-1] == "evaluate")


def _not_entered(failure: Failure) -> None:
    _log.warn("what was changed by HTTP could not be entered in the audit list: {reason}", reason=failure.getErrorMessage())
