"""Group requests made on the pages: sent, their answers kept as they come in, for the pages that show them.

In memory, the last few of them: what came of each stands in its group's record. Not responsible for how they are shown (`views.asked`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import NDJSON, dump_json, load_json
from m2mapp.model.errors import Fault, InternalError, Overloaded
from m2mapp.model.interfaces import IStream
from m2mapp.model.messages import Request

_KEPT = 32
_TEXT = 200
_log = Logger()


@dataclass(frozen=True, slots=True)
class Heard:
    """What one member answered: its URI, its status ("2.05", "200"), by which way, after how many milliseconds, the content's beginning."""

    member: str
    status: str
    via: str
    ms: float
    text: str

    @property
    def ok(self) -> bool:
        """Whether the status says that it went well."""
        return self.status.startswith("2")


@dataclass(slots=True)
class Asking:
    """One group request. `expected` are the group's members when it began; `summary` is what was told at the end, `fault` why nothing came.

    `heard` are the members that have answered, in that order.
    """

    id: str
    group: str
    request: Request
    who: str
    at_ms: int
    expected: tuple[str, ...]
    heard: dict[str, Heard] = field(default_factory=dict)
    summary: Mapping[str, object] | None = None
    fault: Fault | None = None
    over: bool = False

    @property
    def topic(self) -> str:
        """What pages that show it follow."""
        return f"asked/{self.id}"

    @property
    def silent(self) -> tuple[str, ...]:
        """Who has not answered, when it is over."""
        told = self.summary.get("silent") if self.summary is not None else None
        if isinstance(told, list):
            return tuple(str(uri) for uri in told)
        return self.awaited if self.over else ()

    @property
    def awaited(self) -> tuple[str, ...]:
        """The members that have not answered so far."""
        return tuple(uri for uri in self.expected if uri not in self.heard)

    def take(self, lines: bytes) -> None:
        """Whole lines of the answer (`application/x-ndjson`), each a member's answer, the last one the summary."""
        for line in lines.splitlines():
            document = load_json(line)
            if not isinstance(document, Mapping):
                continue
            uri = document.get("member")
            if isinstance(uri, str):
                self.heard[uri] = _heard(uri, document)
            else:
                self.summary = document


class Askings:
    """The group requests of this node's pages."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Asking] = OrderedDict()

    def find(self, key: str) -> Asking | None:
        """The one of that name, while it is kept."""
        return self._kept.get(key)

    def begin(self, visit: Visit, group: str, request: Request, expected: tuple[str, ...]) -> Asking:
        """Send a request to a group's `membersContent` as the visitor. Raises the `Fault` with which it is refused at once."""
        asked = request._replace(accept=(NDJSON,), takes_stream=True)
        one = Asking(token_hex(8), group, asked, visit.principal.name, visit.now_ms, expected)
        while len(self._kept) >= _KEPT:
            over = next((key for key, kept in self._kept.items() if kept.over), None)
            if over is None:
                raise Overloaded(f"{_KEPT} group requests of these pages are under way")
            del self._kept[over]
        self._kept[one.id] = one
        running = Deferred.fromCoroutine(_run(one, visit))
        running.addErrback(_broken, one, visit)
        if one.fault is not None and one.over:
            del self._kept[one.id]
            raise one.fault
        return one


async def _run(one: Asking, visit: Visit) -> None:
    """Send it, and take the answers as they come, to the end."""

    def told() -> None:
        visit.touch(one.topic)

    try:
        response = await visit.send(one.request)
        if response.stream is None:
            one.take(response.payload)
        else:
            await Reading(response.stream, one.take, told).done
    except Fault as fault:
        one.fault = fault
    _end(one, visit)


def _end(one: Asking, visit: Visit) -> None:
    one.over = True
    visit.touch(one.topic)
    visit.touch(asked_topic(one.group))


def _broken(failure: Failure, one: Asking, visit: Visit) -> None:
    _log.failure("{trace} a group request of the pages failed", failure, trace=visit.asked.trace)
    one.fault = InternalError()
    _end(one, visit)


def asked_topic(group: str) -> str:
    """What pages follow that show what came of the requests to a group."""
    return f"asked-of/{quote(group, safe='')}"


class Reading:
    """Reads a stream to its end, as fast as it comes. `done` fires then; what `take` raises ends it, too."""

    def __init__(self, stream: IStream, take: Callable[[bytes], None], told: Callable[[], None]) -> None:
        self._stream, self._take, self._told = stream, take, told
        self.done: Deferred[None] = Deferred(lambda _: stream.close())
        stream.open(self._read)
        self._read()

    def _read(self) -> None:
        try:
            while not self.done.called:
                part = self._stream.read()
                if part is None:
                    self._stream.close()
                    self.done.callback(None)
                    return
                if not part:
                    return
                self._take(part)
                self._told()
        except Exception:  # noqa: BLE001 - it goes to who waits
            self._stream.close()
            self.done.errback()


def _heard(uri: str, document: Mapping[str, object]) -> Heard:
    ms, content = document.get("ms"), document.get("content")
    text = content if isinstance(content, str) else "" if content is None else dump_json(content).decode()
    return Heard(
        uri,
        str(document.get("status", "")),
        str(document.get("via", "")),
        float(ms) if isinstance(ms, int | float) else 0.0,
        text if len(text) <= _TEXT else f"{text[:_TEXT]}…",
    )
