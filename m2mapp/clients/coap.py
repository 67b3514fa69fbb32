"""Requests by CoAP to an address that a name was found to have."""

from __future__ import annotations

from collections.abc import Callable
from math import log2

from twisted.internet.defer import Deferred, fail

from m2mapp.coap.client import CoapClient
from m2mapp.coap.transmission import Repeats
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.net.interfaces import Sockaddr

FASTEST_S, SLOWEST_S = 0.2, 2.0
"""The bounds of the time until a message of a group operation is repeated; the second is ACK_TIMEOUT (RFC 7252, section 4.8)."""
_ROUND_TRIPS = 4
FASTEST_AGAIN_S, AGAIN_ROUND_TRIPS, STEADY = 0.002, 0.32, 8
"""For a message whose first copy was lost: the least time until it is repeated, and its part of a round trip; so many times at that pace.

With one in five lost each way a copy in three is not answered; two that are on their way at a time bring a group's last answer within few
round trips, for 1.3 datagrams a member (docs/benchmarks.md)."""


def coap_sender(client: CoapClient, interface_index: Callable[[str], int]) -> Callable[[Outgoing, Uri, str, int], Deferred[Answer]]:
    """What sends a request by a node's CoAP ports to the address (with its zone) and port where its URI's host is.

    A group operation is repeated at times that follow the round-trip time seen, until its time is over
    (spec section 4); others as RFC 7252 has it.
    """

    def send(outgoing: Outgoing, uri: Uri, host: str, port: int) -> Deferred[Answer]:
        address, _, zone = host.partition("%")
        remote: Sockaddr = (address, port)
        if ":" in address:
            try:
                remote = (address, port, 0, interface_index(zone) if zone and not zone.isdecimal() else int(zone or 0))
            except OSError as error:
                return fail(PeerFailed(f"{uri.text()}: there is no interface {zone}: {error}"))
        rtt_s = (client.rtt_s(remote) or outgoing.rtt_s) if outgoing.of_group else None
        how = repeats_again if outgoing.again else repeats
        return client.request(outgoing, remote, repeats=how(rtt_s, outgoing.timeout_s) if rtt_s is not None else None)

    return send


def repeats(rtt_s: float, timeout_s: float) -> Repeats:
    """How a message is repeated where the round trip takes so long and an answer is awaited for so long."""
    first_s = min(SLOWEST_S, max(FASTEST_S, _ROUND_TRIPS * rtt_s))
    return Repeats(first_s, int(log2(timeout_s / first_s + 1)))


def repeats_again(rtt_s: float, timeout_s: float) -> Repeats:
    """The same for a message whose first copy, to a whole group, was lost."""
    first_s = min(SLOWEST_S, max(FASTEST_AGAIN_S, AGAIN_ROUND_TRIPS * rtt_s))
    left_s = max(0.0, timeout_s - STEADY * first_s)
    return Repeats(first_s, STEADY + int(log2(left_s / first_s + 1)), STEADY)
