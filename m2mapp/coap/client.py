"""Requests of this node to CoAP servers: URIs and `Outgoing` in, `Answer` out.

Responsible for what a request says on the wire. Not responsible for names (`clients` looks them up and hands over an address), nor for
blocks and repeats (`transfer`, `exchange`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

from twisted.internet.defer import Deferred, fail

from m2mapp.coap import numbers, things
from m2mapp.coap.addresses import canonical, remote_of, uri_options
from m2mapp.coap.context import Context
from m2mapp.coap.dtls.address import Wanted, session_of
from m2mapp.coap.dtls.dialer import Dialer
from m2mapp.coap.dtls.observing import SessionObservation
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.message import Options, uint
from m2mapp.coap.observation import Observation, OnAnswer, OnEnd
from m2mapp.coap.shared import SharedObservations
from m2mapp.coap.transfer import Asking, Transfer
from m2mapp.coap.transmission import Repeats
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.model.errors import DeadlinePassed, Fault, Malformed, NotSupported
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing
from m2mapp.net.interfaces import Sockaddr

_SECURE = "coaps"
_LEAST_S = 0.001
_LONGEST_CAUSE = 255
_LONGEST_DEADLINE_MS = 0xFFFFFFFF


def request_options(outgoing: Outgoing | GroupOutgoing, of_uri: Sequence[tuple[int, bytes]]) -> Options:
    """The options of a request, in order. Raises `NotSupported` for a media type that has no Content-Format."""
    options = list(of_uri)
    if outgoing.content_type is not None and outgoing.payload:
        options.append((things.CONTENT_FORMAT, uint(_format(outgoing.content_type))))
    if outgoing.accept is not None:
        options.append((things.ACCEPT, uint(_format(outgoing.accept))))
    if outgoing.request_id is not None:
        options.append((numbers.REQUEST_ID, outgoing.request_id))
    if outgoing.requester is not None:
        options.append((numbers.REQUESTER, outgoing.requester))
    options += [(numbers.CAUSE, cause.encode()[:_LONGEST_CAUSE]) for cause in outgoing.cause[: numbers.CAUSES] if cause]
    return tuple(sorted(options, key=lambda option: option[0]))


def _format(media_type: str) -> int:
    number = numbers.format_of(media_type)
    if number is None:
        raise NotSupported(f"the media type {media_type} has no Content-Format")
    return number


class CoapClient:
    """Sends requests by the ports of an endpoint. `interface_index` gives the index of an interface by its name."""

    def __init__(self, endpoint: Endpoint, context: Context, interface_index: Callable[[str], int]) -> None:
        self._endpoint = endpoint
        self._context = context
        self._interface_index = interface_index
        self.dialer: Dialer | None = None
        self.shared = SharedObservations(self.observe, context)

    def request(
        self, outgoing: Outgoing, remote: Sockaddr | None = None, *, confirmable: bool = True, repeats: Repeats | None = None
    ) -> Deferred[Answer]:
        """Send a request to a `coap` or `coaps` URI. The whole answer, however many blocks it came in.

        `remote` is where it goes; without it the URI's host is an IP literal. To a `coaps` URI it goes by a session with a server whose
        certificate names the URI's host, or is the request's; or by the session whose address `remote` is. `repeats` in place of the
        transmission parameters is for a caller that knows the round-trip time; `Repeats(first_s, 0)` sends once. Fails with `PeerFailed`
        (Reset, never acknowledged, no session, an answer that is none), `DeadlinePassed` after `timeout_s`, `Overloaded`, `Malformed` for
        the URI, `NotSupported`.
        """
        try:
            target, to = self._where(outgoing, remote)
            if target.scheme == _SECURE and session_of(to) is None:
                return self._request_by_session(outgoing, self._session(outgoing, target, to), confirmable, repeats)
            of_uri = uri_options(target, to)
            if outgoing.request_id is not None:
                # A group operation: the next server must answer while this one still waits (spec section 4).
                of_uri.append((numbers.DEADLINE, uint(min(int(outgoing.timeout_s * 1000), _LONGEST_DEADLINE_MS))))
            options = request_options(outgoing, of_uri)
            code = numbers.CODE_OF_METHOD[outgoing.method]
            asking = Asking(code, to, options, outgoing.payload, outgoing.timeout_s, confirmable, repeats, outgoing.patient)
            return Transfer(asking, self._endpoint, self._context).start()
        except Fault as fault:
            return fail(fault)

    def _request_by_session(
        self, outgoing: Outgoing, session: Deferred[Sockaddr], confirmable: bool, repeats: Repeats | None
    ) -> Deferred[Answer]:
        """Send it when there is a session; `timeout_s` is for both."""
        began = self._context.clock.seconds()

        def send(address: Sockaddr) -> Deferred[Answer]:
            left_s = max(0.0, outgoing.timeout_s - (self._context.clock.seconds() - began))
            return self.request(replace(outgoing, timeout_s=left_s), address, confirmable=confirmable, repeats=repeats)

        return session.addCallback(send)

    def _session(self, outgoing: Outgoing, target: Uri, to: Sockaddr) -> Deferred[Sockaddr]:
        """The address of a session with the server that a `coaps` URI means."""
        if self.dialer is None:
            raise NotSupported(f"{outgoing.uri}: this endpoint has no coaps")
        session = self.dialer.session(to, Wanted(target.host.partition("%")[0], outgoing.certificate, outgoing.shown))

        def too_late(_result: object, timeout_s: float) -> NoReturn:
            raise DeadlinePassed(f"{to[0]}: no DTLS session within {timeout_s:g} s")

        return session.addTimeout(max(_LEAST_S, outgoing.timeout_s), self._context.clock, too_late)

    def observe(self, outgoing: Outgoing, remote: Sockaddr | None, on_answer: OnAnswer, on_end: OnEnd) -> Observation | SessionObservation:
        """Observe the resource of a GET (RFC 7641). `remote` as in `request`; `timeout_s` is for the answer to a registration.

        `on_answer` is called with each newer state; `on_end` once, unless it is cancelled: with the answer (4.04 where the resource was
        deleted) or the fault that ended it. A peer that falls silent after a first answer does not end it: it is asked again, later
        each time, and over coaps by a new session. `shared` does the same with one observation for all here. Raises `Overloaded`,
        `PeerFailed`, `Malformed` for the URI and for another method, `NotSupported`.
        """
        if outgoing.method is not Method.GET:
            raise Malformed("method", outgoing.method.value, "GET: nothing else can be observed")
        target, to = self._where(outgoing, remote)
        if target.scheme == _SECURE and session_of(to) is None:
            dial, observe = partial(self._session, outgoing, target, to), partial(self._observe, outgoing, target)
            by_sessions = SessionObservation(dial, observe, (on_answer, on_end), self._context)
            by_sessions.start()
            return by_sessions
        return self._observe(outgoing, target, to, on_answer, on_end)

    def _observe(self, outgoing: Outgoing, target: Uri, to: Sockaddr, on_answer: OnAnswer, on_end: OnEnd) -> Observation:
        options = request_options(outgoing, uri_options(target, to))
        asking = Asking(numbers.CODE_OF_METHOD[Method.GET], to, options, b"", outgoing.timeout_s)
        observation = Observation(asking, (on_answer, on_end), self._endpoint, self._context)
        observation.start()
        return observation

    def _where(self, outgoing: Outgoing, remote: Sockaddr | None) -> tuple[Uri, Sockaddr]:
        """What the URI says, and the address that the request goes to."""
        target = parse_uri(outgoing.uri)
        if target.scheme not in {"coap", _SECURE}:
            raise Malformed("uri", outgoing.uri, "a URI of the scheme coap or coaps")
        return target, canonical(remote) if remote is not None else remote_of(target, self._interface_index)

    def rtt_s(self, remote: Sockaddr) -> float | None:
        """The round-trip time seen with a peer, smoothed, in seconds; None where none was seen yet."""
        try:
            peer = self._endpoint.layer_to(remote).peers.find(canonical(remote))
        except Fault:
            return None
        return None if peer is None else peer.rtt_s
