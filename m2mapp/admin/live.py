"""The one event stream of each browser: which paths and topics have changed, told at most ten times a second.

It says what changed and not how: a page that shows it fetches itself again, with its visitor's rights. So one stream serves all tabs of a
browser, ten thousand writes a second cost ten events, and there is one way in which a value is rendered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from m2mapp.formats.documents import dump_json
from m2mapp.http.connection import WireRequest
from m2mapp.http.outlet import EVENT_STREAM, Outlet, Outlets
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.model.principal import Principal
from m2mapp.tree.access import needed
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change
from m2mapp.tree.watch import Watch

EVERY_S = 0.1
BEAT_S = 5.0
"""A page that hears nothing for two of these and a bit takes the connection for lost."""
_MOST = 200
"""So many paths are told one by one; where more have changed the event says `*`: anything may have."""
_ANYTHING = "*"
SIGNED_OUT = b"event: signed-out\ndata: \n\n"
"""Tells a browser that its session has ended."""


def topic(path: Path) -> str:
    """A path as `data-live` names it: topics are separated by spaces."""
    return path_text(path).replace(" ", "%20")


class Live:
    """All the streams of the pages."""

    def __init__(self, tree: Tree, reactor: IReactorTime) -> None:
        self._tree, self._reactor = tree, reactor
        self._run = secrets.token_hex(4)
        self._streams: set[_Stream] = set()
        self._watch: Watch | None = None
        self._paths: dict[Path, None] = {}
        self._topics: dict[str, None] = {}
        self._touches = 0
        self._call: IDelayedCall | None = None
        self._beat: IDelayedCall | None = None

    @property
    def stamp(self) -> int:
        """A number that grows with whatever is told: a page that bears a smaller one than the stream may be old."""
        return self._tree.committed_number + self._touches

    def open(self, wire: WireRequest, who: Callable[[], Principal | None], outlets: Outlets) -> None:
        """Answer a request with a stream; it ends when `who` finds nobody any more. Raises the `Fault` that says why not."""
        outlets.check_room(wire)
        stream = _Stream(wire, who, outlets, self._closed)
        self._streams.add(stream)
        if self._watch is None:
            self._watch = self._tree.watch((), self._on_change, subtree=True)
            self._beat = self._reactor.callLater(BEAT_S, self._on_beat)
        stream.start(b"retry: 2000\nevent: hello\ndata: %s\n\n" % dump_json({"run": self._run, "stamp": self.stamp}))

    def touch(self, topic: str) -> None:
        """Something that is no resource has changed."""
        self._touches += 1
        if self._streams:
            self._topics[topic] = None
            self._soon()

    def stop(self) -> None:
        """End all streams."""
        for stream in tuple(self._streams):
            stream.end()

    def _on_change(self, change: Change) -> None:
        if len(self._paths) <= _MOST:
            self._paths[change.path] = None
        self._soon()

    def _soon(self) -> None:
        if self._call is None:
            self._call = self._reactor.callLater(EVERY_S, self._tell)

    def _tell(self) -> None:
        self._call = None
        paths, self._paths = tuple(self._paths), {}
        topics, self._topics = list(self._topics), {}
        for stream in tuple(self._streams):
            stream.tell(paths, topics, self.stamp)

    def _on_beat(self) -> None:
        self._beat = self._reactor.callLater(BEAT_S, self._on_beat)
        for stream in tuple(self._streams):
            stream.beat()

    def _closed(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        if self._streams:
            return
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        for call in (self._call, self._beat):
            if call is not None and call.active():
                call.cancel()
        self._call = self._beat = None
        self._paths, self._topics = {}, {}


class _Stream:
    """One of them."""

    def __init__(self, wire: WireRequest, who: Callable[[], Principal | None], outlets: Outlets, on_end: Callable[[_Stream], None]) -> None:
        self._who = who
        self._outlet = Outlet(outlets, wire, lambda: on_end(self))

    def start(self, hello: bytes) -> None:
        self._outlet.start(EVENT_STREAM, b":\n\n")
        self._outlet.send(hello)

    def tell(self, paths: tuple[Path, ...], topics: list[str], stamp: int) -> None:
        principal = self._who()
        if principal is None:
            self._sign_out()
            return
        seen = [_ANYTHING] if len(paths) > _MOST else [topic(path) for path in paths if principal.may(needed(Method.GET, path), path)]
        if (seen or topics) and not self._outlet.send(b"id: %d\nevent: changed\ndata: %s\n\n" % (stamp, dump_json(seen + topics))):
            self.end()

    def beat(self) -> None:
        if self._who() is None:
            self._sign_out()
        else:
            self._outlet.send(b"event: beat\ndata: \n\n")

    def end(self) -> None:
        self._outlet.end()

    def _sign_out(self) -> None:
        self._outlet.send(SIGNED_OUT)
        self.end()
