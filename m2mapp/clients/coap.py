"""Requests by CoAP to an address that a name was found to have."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail

from m2mapp.coap.client import CoapClient
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.net.interfaces import Sockaddr


def coap_sender(client: CoapClient, interface_index: Callable[[str], int]) -> Callable[[Outgoing, Uri, str, int], Deferred[Answer]]:
    """What sends a request by a node's CoAP ports to the address (with its zone) and port where its URI's host is."""

    def send(outgoing: Outgoing, uri: Uri, host: str, port: int) -> Deferred[Answer]:
        address, _, zone = host.partition("%")
        remote: Sockaddr = (address, port)
        if ":" in address:
            try:
                remote = (address, port, 0, interface_index(zone) if zone and not zone.isdecimal() else int(zone or 0))
            except OSError as error:
                return fail(PeerFailed(f"{uri.text()}: there is no interface {zone}: {error}"))
        return client.request(outgoing, remote)

    return send
