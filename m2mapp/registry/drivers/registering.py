"""The device's side: keeps one node registered at another (RFC 9176, sections 5 and 5.3).

It registers, updates at three quarters of the lifetime, registers again when its links have changed or anything failed, and takes the
registration away when it stops. What the registrar makes of it is in `rd` and `service`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from urllib.parse import unquote

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import LINK_FORMAT
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.model.errors import Fault, Malformed, PeerFailed
from m2mapp.model.identifiers import new_trace
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.net.alarm import Alarm

UPDATE_AT = 0.75
"""The part of the lifetime after which the registration is renewed: two further attempts fit before its end."""
SPREAD = 0.1
"""Renewals, and attempts after a failure, come up to this part earlier, at random: devices that started together drift apart."""
START_S = 1.0
"""A start registers after half to all of this, at random: what the node makes at its start is among the links then, and devices that get
power together do not all ask at once."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
"""The pause after the first failure; each further one doubles it, up to the longest."""
REQUEST_TIMEOUT_S = 30.0
FAREWELL_TIMEOUT_S = 2.0
"""How long a stop waits for the registrar to confirm the removal."""


@dataclass(frozen=True, slots=True)
class Registrant:
    """What is registered: the endpoint's name, the lifetime, further query parameters, and the links, asked for each time."""

    endpoint: str
    lifetime_s: int
    links: Callable[[], str]
    query: tuple[tuple[str, str], ...] = ()


class Registering(Service):
    """Keeps `registrant` registered at `registrar_uri`, the URI of an `/rd`. Raises `Malformed` where that is no URI.

    `random` spreads the times; a seeded one gives the same times again.
    """

    name = "registering"
    _log = Logger()

    def __init__(self, reactor: IReactorTime, requester: IRequester, registrar_uri: str, registrant: Registrant, random: Random) -> None:
        self._requester, self._registrant, self._random = requester, registrant, random
        self._registrar = parse_uri(registrar_uri, "registrar")
        self._location: Uri | None = None
        self._links_there = ""
        self._pause_s = FIRST_PAUSE_S
        self._alarm = Alarm(reactor, self._renew)
        self._under_way: Deferred[None] | None = None

    @property
    def registered(self) -> bool:
        """Whether the registrar has confirmed the registration, and nothing failed since."""
        return self._location is not None

    def startService(self) -> None:
        """Register within a second."""
        super().startService()
        self._pause_s = FIRST_PAUSE_S
        self._alarm.set(START_S * (1 - 0.5 * self._random.random()))

    def stopService(self) -> Deferred[None]:
        """Take the registration away, as far as the registrar answers in time. The Deferred fires after that and never fails."""
        super().stopService()
        self._alarm.stop()
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None
        if self._location is None:
            return succeed(None)
        farewell = Outgoing(Method.DELETE, self._location.text(), timeout_s=FAREWELL_TIMEOUT_S, trace=new_trace())
        self._location = None
        removed: Deferred[Answer] = maybeDeferred(self._requester.send, farewell)
        return removed.addCallbacks(lambda _: None, self._not_removed)

    def _renew(self) -> None:
        links = self._registrant.links()
        location = self._location if links == self._links_there else None
        outgoing = self._registration(links) if location is None else self._update(location)
        sent: Deferred[Answer] = maybeDeferred(self._requester.send, outgoing)
        done = sent.addCallback(self._answered, links, location)
        done.addErrback(self._failed)
        if not done.called:
            self._under_way = done

    def _registration(self, links: str) -> Outgoing:
        registrant = self._registrant
        query = (("ep", registrant.endpoint), ("lt", str(registrant.lifetime_s)), *registrant.query)
        uri = Uri(
            self._registrar.scheme, self._registrar.host, self._registrar.port, self._registrar.path, (*self._registrar.query, *query)
        )
        return Outgoing(Method.POST, uri.text(), links.encode(), LINK_FORMAT, timeout_s=REQUEST_TIMEOUT_S, trace=new_trace())

    def _update(self, location: Uri) -> Outgoing:
        uri = Uri(location.scheme, location.host, location.port, location.path, (("lt", str(self._registrant.lifetime_s)),))
        return Outgoing(Method.POST, uri.text(), timeout_s=REQUEST_TIMEOUT_S, trace=new_trace())

    def _answered(self, answer: Answer, links: str, updated: Uri | None) -> None:
        self._under_way = None
        if not answer.ok:
            reason = answer.payload[:200].decode(errors="replace")
            raise PeerFailed(f"{self._registrar.text()} answered {answer.code}: {reason}")
        if updated is None:
            self._location = self._located(answer)
            self._links_there = links
            self._log.info("{endpoint} is registered at {where}", endpoint=self._registrant.endpoint, where=self._location.text())
        self._pause_s = FIRST_PAUSE_S
        self._wait(self._registrant.lifetime_s * UPDATE_AT)

    def _located(self, answer: Answer) -> Uri:
        """The registration's URI: the Location, which CoAP gives as a path and HTTP also as a URI."""
        location = answer.location or ""
        if "://" in location:
            return parse_uri(location, "Location")
        path = tuple(unquote(segment) for segment in location.strip("/").split("/"))
        if path == ("",):
            raise Malformed("Location", location, "the path of the registration")
        return Uri(self._registrar.scheme, self._registrar.host, self._registrar.port, path)

    def _failed(self, failure: Failure) -> None:
        self._under_way = None
        if not self.running:
            return
        known = failure.check(Fault) is not None
        if known:
            text = "{endpoint} could not register, tried again in about {pause_s:g} s: {fault}"
            self._log.warn(text, endpoint=self._registrant.endpoint, pause_s=self._pause_s, fault=failure.getErrorMessage())
        else:
            self._log.failure("{endpoint} could not register", failure, endpoint=self._registrant.endpoint)
        # The registrar may have lost the registration, or had never got it: register anew, which does no harm where it has it.
        was_registered, self._location = self._location is not None, None
        pause_s = 0.0 if was_registered and known else self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
        self._wait(pause_s)

    def _wait(self, pause_s: float) -> None:
        self._alarm.set(pause_s * (1 - SPREAD * self._random.random()))

    def _not_removed(self, failure: Failure) -> None:
        text = "the registration of {endpoint} was not taken away; it ends with its lifetime: {fault}"
        self._log.info(text, endpoint=self._registrant.endpoint, fault=failure.getErrorMessage())
