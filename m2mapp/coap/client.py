"""Requests of this node to CoAP servers: URIs and `Outgoing` in, `Answer` out.

Responsible for what a request says on the wire. Not responsible for names (`clients` looks them up and hands over an address), nor for
blocks and repeats (`transfer`, `exchange`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail

from m2mapp.coap import numbers, things
from m2mapp.coap.addresses import canonical, remote_of, uri_options
from m2mapp.coap.context import Context
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.message import Options, uint
from m2mapp.coap.observation import Observation, OnAnswer, OnEnd
from m2mapp.coap.shared import SharedObservations
from m2mapp.coap.transfer import Asking, Transfer
from m2mapp.coap.transmission import Repeats
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault, Malformed, NotSupported
from m2mapp.model.messages import Answer, GroupOutgoing, Method, Outgoing
from m2mapp.net.interfaces import Sockaddr

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
        self.shared = SharedObservations(self.observe, context)

    def request(
        self, outgoing: Outgoing, remote: Sockaddr | None = None, *, confirmable: bool = True, repeats: Repeats | None = None
    ) -> Deferred[Answer]:
        """Send a request to a `coap` URI. The whole answer, however many blocks it came in.

        `remote` is where it goes; without it the URI's host is an IP literal. `repeats` in place of the transmission parameters is for
        a caller that knows the round-trip time; `Repeats(first_s, 0)` sends once. Fails with `PeerFailed` (Reset, never acknowledged,
        an answer that is none), `DeadlinePassed` after `timeout_s`, `Overloaded`, `Malformed` for the URI, `NotSupported`.
        """
        try:
            to, of_uri = self._where(outgoing, remote)
            if outgoing.request_id is not None:
                # A group operation: the next server must answer while this one still waits (spec section 4).
                of_uri.append((numbers.DEADLINE, uint(min(int(outgoing.timeout_s * 1000), _LONGEST_DEADLINE_MS))))
            options = request_options(outgoing, of_uri)
            code = numbers.CODE_OF_METHOD[outgoing.method]
            asking = Asking(code, to, options, outgoing.payload, outgoing.timeout_s, confirmable, repeats)
            return Transfer(asking, self._endpoint, self._context).start()
        except Fault as fault:
            return fail(fault)

    def observe(self, outgoing: Outgoing, remote: Sockaddr | None, on_answer: OnAnswer, on_end: OnEnd) -> Observation:
        """Observe the resource of a GET (RFC 7641). `remote` as in `request`; `timeout_s` is for the answer to a registration.

        `on_answer` is called with each newer state; `on_end` once, unless it is cancelled: with the answer (4.04 where the resource was
        deleted) or the fault that ended it. A peer that falls silent after a first answer does not end it: it is asked again, later
        each time. `shared` does the same with one observation for all here. Raises `Overloaded`, `PeerFailed`, `Malformed` for the URI
        and for another method, `NotSupported`.
        """
        if outgoing.method is not Method.GET:
            raise Malformed("method", outgoing.method.value, "GET: nothing else can be observed")
        to, of_uri = self._where(outgoing, remote)
        asking = Asking(numbers.CODE_OF_METHOD[Method.GET], to, request_options(outgoing, of_uri), b"", outgoing.timeout_s)
        observation = Observation(asking, (on_answer, on_end), self._endpoint, self._context)
        observation.start()
        return observation

    def _where(self, outgoing: Outgoing, remote: Sockaddr | None) -> tuple[Sockaddr, list[tuple[int, bytes]]]:
        """The address that a request goes to, and the options of its URI."""
        uri = parse_uri(outgoing.uri)
        if uri.scheme != "coap":
            raise Malformed("uri", outgoing.uri, "a URI of the scheme coap")
        to = canonical(remote) if remote is not None else remote_of(uri, self._interface_index)
        return to, uri_options(uri, to)

    def rtt_s(self, remote: Sockaddr) -> float | None:
        """The round-trip time seen with a peer, smoothed, in seconds; None where none was seen yet."""
        try:
            peer = self._endpoint.layer_to(remote).peers.find(canonical(remote))
        except Fault:
            return None
        return None if peer is None else peer.rtt_s
