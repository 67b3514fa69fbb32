"""A LwM2M client's registration at one server: register, update, deregister (OMA TS-LightweightM2M-Core 1.1, section 6.2). Pure.

Responsible for what is sent and when: an update before the lifetime ends and when the objects have changed, a new registration where the
server knows none any more, pauses that grow while it does not answer. Not responsible for sending (`drivers.registering`), nor for which
objects there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final
from urllib.parse import unquote

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import new_trace
from m2mapp.model.messages import Answer, Method, Outgoing, Shown

UPDATE_AT: Final = 0.75
"""The part of the lifetime after which the registration is renewed: further attempts fit before its end."""
SPREAD: Final = 0.1
"""Updates, and attempts after a failure, come up to this part earlier, at random: clients that started together drift apart."""
START_S: Final = 1.0
"""A start registers within this time, at random."""
GATHER_S: Final = 1.0
"""So long changes of the objects are gathered before the server is told of them by one update."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
"""The pause after the first failure; each further one doubles it, up to the longest."""
REQUEST_TIMEOUT_S: Final = 30.0
FAREWELL_TIMEOUT_S: Final = 2.0
"""How long a stop waits for the server to confirm that the client is deregistered."""
_UNKNOWN, _VERSION_REFUSED = "4.04", "4.12"
_FIRST_VERSION: Final = "1.0"


class State(Enum):
    """How a registration stands."""

    OUT = "not registered"
    REGISTERING = "registering"
    REGISTERED = "registered"
    UPDATING = "updating"
    LEFT = "left"


class Event(Enum):
    """What happens to it. `UNKNOWN`: the server answers that there is no such registration (4.04)."""

    ASK = "it is time"
    TAKEN = "the server agreed"
    UNKNOWN = "the server does not know it"
    FAILED = "it failed"
    STOP = "the client stops"
    START = "the client starts"


REGISTRATION: Final[dict[tuple[State, Event], State]] = {
    (State.OUT, Event.ASK): State.REGISTERING,
    (State.OUT, Event.STOP): State.LEFT,
    (State.REGISTERING, Event.TAKEN): State.REGISTERED,
    (State.REGISTERING, Event.UNKNOWN): State.OUT,
    (State.REGISTERING, Event.FAILED): State.OUT,
    (State.REGISTERING, Event.STOP): State.LEFT,
    (State.REGISTERED, Event.ASK): State.UPDATING,
    (State.REGISTERED, Event.STOP): State.LEFT,
    (State.UPDATING, Event.TAKEN): State.REGISTERED,
    (State.UPDATING, Event.UNKNOWN): State.OUT,
    (State.UPDATING, Event.FAILED): State.OUT,
    (State.UPDATING, Event.STOP): State.LEFT,
    (State.LEFT, Event.START): State.OUT,
}
"""What follows: a key that is missing cannot happen, and raises. After a failure the client registers anew, which does no harm where the
server has it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The server and what it is told. `server` is its URI without path; `version` that of LwM2M.

    `certificate` (DER) is the one that the server of a `coaps` URI has to show, byte for byte; None: one that names the URI's host.
    `more`: further parameters of a registration. `shown`: what the client shows there, in place of the node's own certificate.
    """

    server: Uri
    endpoint: str
    lifetime_s: int
    version: str = "1.1"
    binding: str = "U"
    certificate: bytes | None = None
    more: tuple[tuple[str, str], ...] = ()
    shown: Shown | None = None


class Registration:
    """The machine. Whoever drives it calls `ask` at `wake_at` (monotonic seconds; None: nothing is to be sent by itself).

    `chance` gives numbers from 0 up to 1, and spreads the times.
    """

    def __init__(self, account: Account, chance: Callable[[], float]) -> None:
        self.account = account
        self.state = State.LEFT
        self.location: Uri | None = None
        self.wake_at: float | None = None
        self.pause_s = FIRST_PAUSE_S
        self._chance = chance
        self._links_told: str | None = None
        self._links_sent = ""
        self._stale = False

    def start(self, now_s: float) -> None:
        """Begin: it registers within a second. Raises `KeyError` where it had begun."""
        self._move(Event.START)
        self.pause_s = FIRST_PAUSE_S
        self.wake_at = now_s + START_S * self._chance()

    def changed(self, now_s: float) -> None:
        """The objects have changed: where the server has been told of others, it is told soon."""
        self._stale = self.state in (State.REGISTERING, State.UPDATING)
        if self.state is State.REGISTERED:
            self._wake(now_s + GATHER_S)

    def renew(self, now_s: float) -> None:
        """Update now: the server asked for it (Registration Update Trigger, resource 8 of Server)."""
        if self.state is State.REGISTERED:
            self._wake(now_s)

    def ask(self, links: str) -> Outgoing:
        """The request that it is time for: a registration, or an update, which has the links only where they are not those it knows.

        `links` are the client's objects and instances in link format. Raises `KeyError` where one is under way.
        """
        location = self.location
        self._move(Event.ASK)
        self.wake_at = None
        self._links_sent, self._stale = links, False
        account = self.account
        if location is None:
            own = (("lwm2m", account.version), ("ep", account.endpoint), ("b", account.binding), ("lt", str(account.lifetime_s)))
            query = (*own, *account.more)
            return self._outgoing(Method.POST, replace(account.server, path=("rd",), query=query), links)
        return self._outgoing(Method.POST, location, links if links != self._links_told else "")

    def answered(self, answer: Answer, now_s: float) -> bool:
        """The server answered: whether it agreed. Raises `Malformed` where it agreed and the Location is none; then it failed."""
        if not answer.ok:
            unknown = answer.code == _UNKNOWN and self.state is State.UPDATING
            self._lost(Event.UNKNOWN if unknown else Event.FAILED, now_s)
            if answer.code == _VERSION_REFUSED:  # it does not serve this version (1.1, section 6.2.1.1)
                self.account = replace(self.account, version=_FIRST_VERSION)
            return False
        if self.state is State.REGISTERING:
            try:
                self.location = self._located(answer.location or "")
            except Malformed:
                self.failed(now_s)
                raise
        self._move(Event.TAKEN)
        self._links_told = self._links_sent
        self.pause_s = FIRST_PAUSE_S
        self.wake_at = now_s + (GATHER_S if self._stale else self._spread(self.account.lifetime_s * UPDATE_AT))
        return True

    def failed(self, now_s: float) -> None:
        """No answer came, or none could be asked for."""
        self._lost(Event.FAILED, now_s)

    def leave(self) -> Outgoing | None:
        """The client stops: what deregisters it; None where it is not registered. Whatever is under way is no more."""
        location, self.location = self.location, None
        self._move(Event.STOP)
        self.wake_at = self._links_told = None
        if location is None:
            return None
        return replace(self._outgoing(Method.DELETE, location, ""), timeout_s=FAREWELL_TIMEOUT_S)

    def _move(self, event: Event) -> None:
        self.state = REGISTRATION[self.state, event]

    def _wake(self, at_s: float) -> None:
        self.wake_at = at_s if self.wake_at is None else min(self.wake_at, at_s)

    def _lost(self, event: Event, now_s: float) -> None:
        """The server does not have it, or it is not known whether it does."""
        was_there = self.location is not None
        self._move(event)
        self.location = self._links_told = None
        if was_there:  # at once, the first time: the server has forgotten it, or a datagram was lost
            self.wake_at = now_s
            return
        self.wake_at = now_s + self._spread(self.pause_s)
        self.pause_s = min(LONGEST_PAUSE_S, self.pause_s * 2)

    def _spread(self, seconds: float) -> float:
        return seconds * (1 - SPREAD * self._chance())

    def _outgoing(self, method: Method, uri: Uri, links: str) -> Outgoing:
        kind = LINK_FORMAT if links else None
        account, trace = self.account, new_trace()
        outgoing = Outgoing(method, uri.text(), links.encode(), kind, timeout_s=REQUEST_TIMEOUT_S, trace=trace)
        return replace(outgoing, certificate=account.certificate, shown=account.shown)

    def _located(self, location: str) -> Uri:
        path = tuple(unquote(location).strip("/").split("/"))  # lwm2m-node-lib sends "rd/1" as one Location-Path option
        if "://" in location or "" in path:
            raise Malformed("Location", location, "the path of the registration")
        return replace(self.account.server, path=path, query=())
