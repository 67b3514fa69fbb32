"""Pages that never end: lines as they come, as plain text (for `curl -N`) or as an event stream, by Accept.

Responsible for the way of a line to its reader. Not responsible for what the lines say: a feed makes them, and is told where a reader
has no room for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from m2mapp.formats.documents import choose
from m2mapp.http.connection import WireRequest
from m2mapp.http.outlet import EVENT_STREAM, Outlet, Outlets
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.model.principal import Principal
from m2mapp.tree.access import check_access

_TEXT = "text/plain"
_FORMS: Mapping[str, tuple[str, bytes, bytes]] = {
    _TEXT: ("text/plain;charset=utf-8", b"%s\n", b"\n"),
    EVENT_STREAM: (EVENT_STREAM, b"data: %s\n\n", b":\n\n"),
}
"""By what was chosen: the media type, how a line is written, and what says nothing."""

Query = tuple[tuple[str, str], ...]
Feed = Callable[[Query, Callable[[str], bool]], Callable[[], None]]
"""Begins to make lines as a query asks; each goes to the function, which is False where there is no room for it. Returns what ends it.

A line has no line break. Raises a `Fault` for a query that it does not understand.
"""


class LinePages:
    """The feeds of one HTTP service by their paths."""

    def __init__(self, feeds: Mapping[Path, Feed], outlets: Outlets) -> None:
        self._feeds, self._outlets = feeds, outlets

    def __contains__(self, path: Path) -> bool:
        """Whether there is a feed at the path."""
        return path in self._feeds

    def open(self, wire: WireRequest, path: Path, principal: Principal, query: Query, accept: tuple[str, ...]) -> None:
        """Answer a request with the lines of the feed at its path, until the reader goes. Raises the `Fault` that says why not."""
        check_access(principal, Method.GET, path)
        if wire.method != b"GET":
            raise MethodNotAllowed(wire.method.decode(), path_text(path), ("GET",))
        media_type, form, heartbeat = _FORMS[choose(accept, (_TEXT, EVENT_STREAM))]
        self._outlets.check_room(wire)
        ends: list[Callable[[], None]] = []
        outlet = Outlet(self._outlets, wire, lambda: ends[0]())
        ends.append(self._feeds[path](query, lambda line: outlet.send(form % line.encode("utf-8", "backslashreplace"))))
        outlet.start(media_type, heartbeat)
