"""The client's side of an LwM2M bootstrap: asks the service that it was told of, is written to, and finishes. A pure machine.

OMA TS-LightweightM2M-Core 1.1, section 6.1. Responsible for the states, for who is the bootstrap server, and for what its requests do to
what the client holds (`held`). Not responsible for sending (`drivers.bootstrapping`), nor for the registrations that follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.lwm2m.accounts import SECURITY, SERVER
from m2mapp.lwm2m.held import Held, ToldServer
from m2mapp.lwm2m.reading import MAX_NUMBER, instances_in
from m2mapp.model.errors import Fault, Malformed, MethodNotAllowed, NoSuchResource
from m2mapp.model.identifiers import Path, new_trace, path_text
from m2mapp.model.messages import Answer, Method, Outgoing, Request, Response, Status

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
"""The pause after the first failure; each further one doubles it, up to the longest."""
SPREAD: Final = 0.25
"""Each pause is up to this part shorter, at random: devices that failed together drift apart."""
REQUEST_S: Final = 60.0
SILENCE_S: Final = 93.0
"""So long the server may leave between its requests: as long as one takes with all its repetitions (RFC 7252, section 4.8.2)."""
UNREGISTERED_S: Final = 600.0
"""A client that has had no registration for so long asks the bootstrap service again: its servers may be others now."""
_BS: Final[Path] = ("bs",)
_DONE: Final = {Method.DELETE: Status.DELETED, Method.PUT: Status.CHANGED}


class Phase(Enum):
    """Where the client is; the value is how it is shown."""

    IDLE = "no bootstrap service is known"
    ASKING = "bootstrap requested"
    OPEN = "being bootstrapped"
    PAUSED = "failed"
    DONE = "bootstrapped"


class Event(Enum):
    """What can happen to it."""

    TOLD = "a bootstrap service is known, or another one"
    LOST = "none is known any more"
    KEPT = "what it held before its start is of this service"
    TAKEN = "the server agrees, or begins"
    FAILED = "it refuses, is silent, or what it wrote makes no sense"
    FINISHED = "what was written is whole, and kept"
    DUE = "it is time to ask again"


_P, _E = Phase, Event
BOOTSTRAP: Final[dict[tuple[Phase, Event], Phase]] = {
    **{(phase, _E.TOLD): _P.ASKING for phase in _P},
    **{(phase, _E.LOST): _P.IDLE for phase in _P},
    (_P.IDLE, _E.KEPT): _P.DONE,
    (_P.ASKING, _E.TAKEN): _P.OPEN,
    (_P.ASKING, _E.FAILED): _P.PAUSED,
    (_P.OPEN, _E.FAILED): _P.PAUSED,
    (_P.OPEN, _E.FINISHED): _P.DONE,
    (_P.PAUSED, _E.DUE): _P.ASKING,
    (_P.DONE, _E.DUE): _P.ASKING,
}
"""The transitions; an event that has none raises `KeyError` and changes nothing."""


@dataclass(frozen=True, slots=True)
class BootstrapServer:
    """The bootstrap service: its URI, as it was told, and its certificate (DER), where it was told one."""

    uri: str
    certificate: bytes | None = None

    def where(self) -> Uri:
        """Where a Bootstrap-Request is sent. Raises `Malformed` where it cannot be, or must not be: a certificate has to be shown."""
        uri = parse_uri(self.uri, "bootstrapURI")
        if uri.scheme not in ("coap", "coaps"):
            raise Malformed("bootstrapURI", self.uri, "a coap or coaps URI")
        if self.certificate is not None and uri.scheme != "coaps":
            raise Malformed("bootstrapURI", self.uri, "a coaps URI, since a certificate came with it, and plain CoAP shows none")
        return uri if uri.path[-1:] == _BS else replace(uri, path=(*uri.path, *_BS))


class BootstrapClient:
    """The machine. After each call look at `phase`, and call `wake` at `wake_at` (monotonic seconds; None: nothing is waited for).

    `format_number` is the Content-Format that it prefers to be written in; `chance` gives numbers from 0 up to 1.
    """

    def __init__(self, endpoint: str, format_number: int, chance: Callable[[], float]) -> None:
        self._endpoint, self._format, self._chance = endpoint, format_number, chance
        self.phase = Phase.IDLE
        self.server: BootstrapServer | None = None
        self.held = Held()
        self.wake_at: float | None = None
        self.why = ""
        self._pause_s = FIRST_PAUSE_S
        self._at: tuple[str, int] | None = None

    # What is told to it.

    def told(self, server: BootstrapServer | None) -> None:
        """This is the bootstrap service from now on: it is asked at once. None: there is none."""
        self.server, self._at, self.why = server, None, ""
        self._pause_s = FIRST_PAUSE_S
        self._move(Event.LOST if server is None else Event.TOLD)

    def kept(self, server: BootstrapServer) -> None:
        """What was held before the start is of this service, and is used on. Raises `KeyError` where it has begun already."""
        self.server = server
        self._move(Event.KEPT)

    def request(self) -> Outgoing:
        """The Bootstrap-Request. Raises `Malformed` where the service cannot be asked, and `LookupError` where there is none."""
        server = self.server
        if server is None:
            raise LookupError("no bootstrap service is known")
        uri = server.where()
        query = (*uri.query, ("ep", self._endpoint), ("pct", str(self._format)))
        text = replace(uri, query=query).text()
        return Outgoing(Method.POST, text, timeout_s=REQUEST_S, trace=new_trace(), certificate=server.certificate)

    def answered(self, answer: Answer, now: float) -> None:
        """The answer to the request. That the server has begun meanwhile says as much."""
        if answer.ok:
            self._at = answer.source, answer.port
        if self.phase is not Phase.ASKING:
            return
        if answer.ok:
            self._taken(now)
        else:
            self.failed(f"{answer.code} {answer.payload[:200].decode(errors='replace')}".strip(), now)

    def failed(self, why: str, now: float) -> None:
        """It came to nothing, and is tried again after a pause."""
        if (self.phase, Event.FAILED) in BOOTSTRAP:
            self._move(Event.FAILED)
            self.why = why
            self.wake_at = now + self._pause_s * (1 - SPREAD * self._chance())
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)

    def wake(self, now: float) -> None:
        """The time of `wake_at` is there; in `ASKING` the service is to be asked. Called too early it does nothing."""
        if self.wake_at is None or now < self.wake_at:
            return
        if self.phase is Phase.OPEN:
            self.failed(f"the server was silent for {SILENCE_S:g} s", now)
        else:
            self._move(Event.DUE)

    def registered(self, now: float, for_s: float) -> None:
        """A server has it registered for so long (0: none has): it asks again some time after that, unless this is called before."""
        if self.phase is Phase.DONE:
            self.wake_at = now + for_s + UNREGISTERED_S * (1 - SPREAD * self._chance())

    # The server's requests.

    def is_open(self) -> bool:
        """Whether the server's requests are awaited."""
        return self.phase in (Phase.ASKING, Phase.OPEN)

    def comes_from_server(self, source: tuple[str, int] | None) -> bool:
        """Whether an address and port are those of the server, where that is asked by plain CoAP: with coaps its session tells."""
        if self.server is None or source is None:
            return False
        if source == self._at:
            return True
        uri = parse_uri(self.server.uri)
        return self._at is None and uri.address is not None and source == (uri.host, uri.port)

    def taken(self, request: Request, now: float) -> tuple[ToldServer, ...] | Response:
        """What a request of the server does: its answer, or at its Finish the servers, and then `finished` is called once they are kept.

        Raises `Fault`: what it refuses changes nothing, but that a Finish of what makes no sense ends the session.
        """
        if self.phase is Phase.ASKING:
            self._taken(now)
        self.wake_at = now + SILENCE_S
        if request.path == _BS and request.method is Method.POST:
            try:
                return self.held.servers()
            except Fault as fault:
                self.failed(fault.detail, now)
                raise
        number, instance = _place(request.path)
        if request.method is Method.DELETE:
            self.held = self.held.without(number, instance)
        elif request.method is Method.PUT and number is not None:
            self.held = self.held.written(instances_in(request.payload, request.content_type, number, instance))
        elif request.method is Method.GET and number is None and self.server is not None:
            return Response(Status.CONTENT, self.held.discovery(self.server.uri).encode(), LINK_FORMAT)
        else:
            raise MethodNotAllowed(
                request.method.value, path_text(request.path), ("DELETE", "PUT") if number is not None else ("DELETE", "GET")
            )
        return Response(_DONE[request.method])

    def finished(self) -> None:
        """What was written is kept, and is what the client goes by."""
        self._move(Event.FINISHED)
        self.why = ""
        self._pause_s = FIRST_PAUSE_S

    def _taken(self, now: float) -> None:
        self._move(Event.TAKEN)
        self.held = Held()
        self.wake_at = now + SILENCE_S

    def _move(self, event: Event) -> None:
        self.phase = BOOTSTRAP[self.phase, event]
        self.wake_at = None


def _place(path: Path) -> tuple[int | None, int | None]:
    """The object and the instance that a path names; None for all. Raises `NoSuchResource`."""
    if len(path) > 2 or not all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in path):  # noqa: PLR2004 - /object/instance
        raise NoSuchResource(path_text(path))
    numbers = [int(part) for part in path]
    if numbers and (numbers[0] not in (SECURITY, SERVER) or numbers[-1] > MAX_NUMBER):
        raise NoSuchResource(path_text(path))
    return numbers[0] if numbers else None, numbers[1] if len(numbers) > 1 else None
