"""Event streams (Server-Sent Events, WHATWG HTML 9.2): the changes of a resource or a subtree, live and after a gap (spec section 12).

A stream first replays from the journal of changes what came after `Last-Event-ID`, then goes on live; it never holds back more than a
bounded number of events. Not responsible for rights beyond asking `tree.access`.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import content_value, dump_json, rfc3339
from m2mapp.http.connection import WireRequest
from m2mapp.http.limits import HttpLimits
from m2mapp.http.outlet import EVENT_STREAM, Outlet, Outlets
from m2mapp.model.errors import Fault, Malformed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IJournals
from m2mapp.model.messages import Method, Request
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal
from m2mapp.tree.access import check_access, needed
from m2mapp.tree.etags import CONTENT_TAG, JSON_TAG, etag
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import CHANGES, CONTENT, Change, Entry, values_journal

_log = Logger()

_PAGE = 200
_RETRY_MS = 2000
_MAX_ID_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Ask:
    """What a stream was asked for: at a path or also below it, and after which change (None: from now on)."""

    path: Path
    subtree: bool
    after: int | None


def read_ask(request: Request, last_event_id: bytes | None) -> Ask:
    """What a request for a stream asks: `?subtree`, and `Last-Event-ID` as a field or as `?last-event-id=`. Raises `Malformed`."""
    flag = request.query_value("subtree")
    if flag not in (None, "", "true", "false"):
        raise Malformed("subtree", flag, "true, false or left empty")
    text = last_event_id.decode("latin-1") if last_event_id else request.query_value("last-event-id")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= _MAX_ID_DIGITS):
        raise Malformed("Last-Event-ID", text, "the number of a change")
    return Ask(request.path, flag is not None and flag != "false", int(text) if text else None)


class Streams:
    """All event streams of one HTTP service, which take their places among its `outlets`."""

    def __init__(self, tree: Tree, journals: IJournals, reactor: IReactorTime, limits: HttpLimits, metrics: Metrics) -> None:
        self.tree, self.journals = tree, journals
        self.outlets = Outlets(reactor, limits, metrics)
        self._formatted: tuple[Change | None, bytes] = (None, b"")
        self.events = metrics.counter("m2mapp_http_events_total", "Events sent to event streams.")
        self.overflows = metrics.counter("m2mapp_http_stream_overflows_total", "Event streams ended because the reader was too slow.")

    def open(self, wire: WireRequest, request: Request, last_event_id: bytes | None) -> None:
        """Answer a request with a stream. Raises the `Fault` that says why not."""
        check_access(request.principal, Method.GET, request.path)
        ask = read_ask(request, last_event_id)
        # Who comes back to a stream learns that the resource is gone by its event, not by a 404, which would end the stream for good.
        if ask.after is None and request.path and self.tree.find(request.path) is None:
            raise NoSuchResource(path_text(request.path))
        self.outlets.check_room(wire)
        Stream(self, wire, ask, request.principal).start()

    def format_live(self, change: Change) -> bytes:
        """A change that was just committed as an event; made once for all the streams that are told of it."""
        made_for, text = self._formatted
        if made_for is not change:
            after = change.after
            content = None if after is None or after.type != CONTENT else (after.content or b"", after.media_type)
            kind_of = None if after is None else after.type
            text = format_change(change.number, path_text(change.path), change.kind, (change.at_ms, change.trace), kind_of, content)
            self._formatted = (change, text)
        return text


class Stream:
    """One event stream."""

    def __init__(self, streams: Streams, wire: WireRequest, ask: Ask, principal: Principal) -> None:
        self._streams, self._trace, self._ask = streams, wire.trace, ask
        self._principal = principal
        self._prefix = path_text(ask.path).rstrip("/") + "/"
        self._position = streams.tree.committed_number if ask.after is None else ask.after
        self._live = ask.after is None
        self._room: Deferred[None] | None = None
        self._outlet = Outlet(streams.outlets, wire, self._forget, self._has_room)
        self._watch = streams.tree.watch(ask.path, self._on_change, subtree=ask.subtree)

    def start(self) -> None:
        """Send what came after the last event, if one was named; then go on live."""
        self._outlet.start(EVENT_STREAM, b":\n\n")
        if self._live:
            # Where the stream begins, for a client that loses it before the first event.
            self._send(b"retry: %d\nid: %d\n\n" % (_RETRY_MS, self._position))
            return
        self._send(b"retry: %d\n\n" % _RETRY_MS)
        Deferred.fromCoroutine(self._replay(self._position)).addErrback(self._replay_failed)

    def _has_room(self) -> None:
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)

    def _forget(self) -> None:
        self._watch.stop()
        self._has_room()

    def _on_change(self, change: Change) -> None:
        if self._live and not self._outlet.ended and change.number > self._position:
            self._position = change.number
            if self._may_see(change.path):
                self._send_event(self._streams.format_live(change))

    def _may_see(self, path: Path) -> bool:
        """What stands below needs a right of its own in places, such as `/admin`."""
        return self._principal.may(needed(Method.GET, path), path)

    def _send_event(self, data: bytes) -> None:
        self._streams.events.add()
        self._send(data)

    def _send(self, data: bytes) -> None:
        """Send it; a reader that has too much to read already comes back, and resumes."""
        if not self._outlet.send(data) and not self._outlet.ended:
            self._streams.overflows.add()
            self._outlet.end()

    async def _replay(self, position: int) -> None:
        """Send what was committed after a change, page by page; go live in the very turn in which nothing is left."""
        tree, journals = self._streams.tree, self._streams.journals
        while not self._outlet.ended:
            # Read before the journal: what the journal holds above it is not committed yet, or comes with the next page.
            target = tree.committed_number
            page: list[Entry] = await journals.read_journal(CHANGES, after=position, limit=_PAGE)
            # Asked after the page was read: what is still there now was there then.
            complete = self._outlet.ended or await self._complete_since(position)
            if not complete:
                self._reset()
                return
            for entry in page:
                if entry.number > target or self._outlet.ended:
                    break
                await self._replay_entry(entry)
                position = entry.number
            caught_up = len(page) < _PAGE or page[-1].number > target
            if caught_up and tree.committed_number == target:
                self._position, self._live = target, True
                return

    def _reset(self) -> None:
        """Tell the client to read again, and go on live from here."""
        if not self._outlet.ended:
            self._position, self._live = self._streams.tree.committed_number, True
            self._send_event(b'id: %d\nevent: reset\ndata: {"from":%d}\n\n' % (self._position, self._position))

    async def _complete_since(self, position: int) -> bool:
        """Whether the journal still has everything after a change."""
        if position > self._streams.tree.committed_number:
            return False  # Not of this tree: it was put back to an older state.
        if position == self._streams.tree.committed_number:
            return True
        oldest: list[Entry] = await self._streams.journals.read_journal(CHANGES, after=0, limit=1)
        return bool(oldest) and position >= oldest[0].number - 1

    async def _replay_entry(self, entry: Entry) -> None:
        body = entry.body
        text = str(body.get("path", ""))
        if not (text == path_text(self._ask.path) or (self._ask.subtree and text.startswith(self._prefix))):
            return
        if not self._may_see(_path(text)):
            return
        kind, kind_of = str(body.get("kind", "")), body.get("type")
        content = await self._content_at(_path(text), entry.number) if kind_of == CONTENT else None
        if self._outlet.paused and not self._outlet.ended:
            self._room = Deferred()
            await self._room
        if not self._outlet.ended:
            when = (entry.at_ms, str(body.get("trace", "")))
            self._send_event(format_change(entry.number, text, kind, when, kind_of, content))

    async def _content_at(self, path: Path, number: int) -> tuple[bytes, str | None] | None:
        """The content that a change wrote: still there, or in the journal of values, or no longer known."""
        resource = self._streams.tree.find(path)
        if resource is not None and resource.version == number:
            return resource.content or b"", resource.media_type
        found: list[Entry] = await self._streams.journals.read_journal(values_journal(path), after=number - 1, limit=1)
        if not found or found[0].number != number:
            return None
        content, media_type = found[0].body.get("content"), found[0].body.get("contentType")
        return (content, media_type if isinstance(media_type, str) else None) if isinstance(content, bytes) else None

    def _replay_failed(self, failure: Failure) -> None:
        if failure.check(Fault) is None:
            _log.failure("{trace} the event stream could not be resumed", failure, trace=self._trace)
        self._outlet.end()


def format_change(
    number: int, path: str, kind: str, when: tuple[int, str], kind_of: object, content: tuple[bytes, str | None] | None
) -> bytes:
    """One change as an event (spec section 12). `when`: wall-clock milliseconds and trace; `kind_of`: the resource's type, None if gone."""
    at_ms, trace = when
    document: dict[str, object] = {"path": path, "kind": kind}
    if kind_of is not None:
        document["etag"] = etag(CONTENT_TAG if kind_of == CONTENT else JSON_TAG, number).hex()
    document["at"] = rfc3339(at_ms)
    document["trace"] = trace
    if content is not None:
        document["contentType"] = content[1]
        document["content"] = content_value(*content)
    return b"id: %d\nevent: change\ndata: %s\n\n" % (number, dump_json(document))


def _path(text: str) -> Path:
    return tuple(text[1:].split("/")) if text != "/" else ()
