"""Asking a client back on the pair of ports that its own request came by, or by its DTLS session (`IAskBack`).

Responsible for the way back. Not responsible for what is asked.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from m2mapp.coap import numbers
from m2mapp.coap.addresses import target_options
from m2mapp.coap.client import request_options
from m2mapp.coap.context import Context
from m2mapp.coap.dtls.address import session_of
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.transfer import Asking, Transfer
from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.interfaces import IAskBack
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.net.interfaces import Sockaddr
from m2mapp.tree.paths import parse_path

Way = tuple[MessageLayer, Sockaddr, str | None]
"""What the server puts into `Request.peer`: the message layer of the port, the client's address, and the address that it asked at."""


@implementer(IAskBack)
class AskBack:
    """The way back by the ports of an endpoint."""

    def __init__(self, endpoint: Endpoint, context: Context) -> None:
        self._endpoint, self._context = endpoint, context

    def ask_back(self, peer: object, outgoing: Outgoing) -> Deferred[Answer]:
        """See `IAskBack`. No Uri-Host and Uri-Port go out: it is the client's own endpoint (RFC 7252, section 5.10.1)."""
        if not isinstance(peer, tuple):
            return fail(PeerFailed("it did not ask by CoAP"))
        layer, remote, local = cast("Way", peer)
        try:
            if session_of(remote) is not None:
                self._endpoint.layer_to(remote)  # raises where the session is over
            options = request_options(outgoing, target_options(parse_path(outgoing.uri, "uri"), ()))
            code = numbers.CODE_OF_METHOD[outgoing.method]
            asking = Asking(code, remote, options, outgoing.payload, outgoing.timeout_s, way=(layer, local))
            return Transfer(asking, self._endpoint, self._context).start()
        except Fault as fault:
            return fail(fault)

    def names(self, peer: object) -> tuple[str, ...]:
        """See `IAskBack`."""
        session = session_of(cast("Way", peer)[1]) if isinstance(peer, tuple) else None
        return session.names if session is not None else ()

    def meant(self, peer: object) -> tuple[str, bytes | None] | None:
        """See `IAskBack`."""
        session = session_of(cast("Way", peer)[1]) if isinstance(peer, tuple) else None
        if session is None:
            return None
        return (session.wanted.host, session.wanted.certificate) if session.wanted is not None else ("", None)
