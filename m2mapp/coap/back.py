"""Asking a client back on the pair of ports that its own request came by, or by its DTLS session (`IAskBack`).

Responsible for the way back. Not responsible for what is asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from m2mapp.coap.client import CoapClient
from m2mapp.coap.dtls.address import SessionAddress
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import PeerFailed
from m2mapp.model.interfaces import IAskBack
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.net.interfaces import Sockaddr


@implementer(IAskBack)
class AskBack:
    """The way back by a node's CoAP ports. A peer is the `Sockaddr` that the server puts into `Request.peer`."""

    def __init__(self, client: CoapClient) -> None:
        self._client = client

    def ask_back(self, peer: object, outgoing: Outgoing) -> Deferred[Answer]:
        """See `IAskBack`. No Uri-Host and Uri-Port go out: it is the client's own endpoint (RFC 7252, section 5.10.1)."""
        if not isinstance(peer, tuple):
            return fail(PeerFailed("it did not ask by CoAP"))
        remote = cast("Sockaddr", peer)
        scheme = "coaps" if isinstance(peer, SessionAddress) else "coap"
        authority = Uri(scheme, remote[0], remote[1], ()).authority
        return self._client.request(replace(outgoing, uri=f"{scheme}://{authority}{outgoing.uri}"), remote)

    def names(self, peer: object) -> tuple[str, ...]:
        """See `IAskBack`."""
        return peer.names if isinstance(peer, SessionAddress) else ()
