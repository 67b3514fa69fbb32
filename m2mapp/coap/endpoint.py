"""The CoAP endpoint: its ports, each with a message layer, one token table, one server.

Responsible for joining these and for choosing the port that a message leaves by. Not responsible for when ports are opened
(`service`).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from m2mapp.coap.addresses import is_ipv6, source_text
from m2mapp.coap.context import Context
from m2mapp.coap.dtls.address import session_of
from m2mapp.coap.dtls.contexts import ClientContexts
from m2mapp.coap.dtls.port import DtlsPort
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.message import Message
from m2mapp.coap.mids import GROUP_MIDS, Mids
from m2mapp.coap.peers import Inbound
from m2mapp.coap.server import Server
from m2mapp.coap.tags import RequestTags
from m2mapp.coap.tokens import Tokens
from m2mapp.model.errors import PeerFailed
from m2mapp.model.room import Room
from m2mapp.net.interfaces import IDatagramPort, IDatagrams, Sockaddr

_log = Logger()


class Endpoint:
    """All ports of one node."""

    def __init__(self, server: Server, context: Context) -> None:
        self._server = server
        self._context = context
        self._layers: list[MessageLayer] = []
        self._of_sessions: dict[DtlsPort, MessageLayer] = {}
        self.when_gone: Callable[[Sockaddr], object] = lambda _: None
        self.tokens = Tokens(context.rng, context.limits.awaited)
        self.tags = RequestTags()
        self.room = Room(context.limits.answers_bytes, "answers that come in blocks")
        self.group_mids = Mids(context.rng, GROUP_MIDS, context.parameters.non_lifetime_s)

    @property
    def layers(self) -> tuple[MessageLayer, ...]:
        """The message layers of the open ports."""
        return (*self._layers, *self._of_sessions.values())

    @property
    def dtls_ports(self) -> tuple[DtlsPort, ...]:
        """The open ports of DTLS sessions."""
        return tuple(self._of_sessions)

    def open_port(self, datagrams: IDatagrams, host: str, port: int) -> None:
        """Open one more port. Raises `OSError`."""
        layer = MessageLayer(self, self._context)
        layer.attach(datagrams.open_port(host, port, layer))
        self._layers.append(layer)

    def open_dtls_port(
        self, datagrams: IDatagrams, where: tuple[str, int], clients: ClientContexts, server: SSL.Context | None
    ) -> DtlsPort:
        """Open a port for DTLS sessions at a host and port, as `DtlsPort` has it. Raises `OSError`."""
        layer = MessageLayer(self, self._context)
        port = DtlsPort(layer, self._context, clients, server)
        port.attach(datagrams.open_port(*where, port))
        layer.attach(port)
        self._of_sessions[port] = layer
        return port

    def stop(self) -> Deferred[None]:
        """Close all ports; who waits for an answer gets `PeerFailed`. The Deferred fires when they are closed."""
        layers, self._layers = list(self.layers), []
        self._of_sessions.clear()
        closing = [layer.port.stop() for layer in layers]
        for layer in layers:
            layer.stop()
        self.tokens.close()
        self._server.stop()
        self._context.deadlines.stop()
        return DeferredList(closing, consumeErrors=True).addCallback(lambda _: None)

    def layer_to(self, remote: Sockaddr) -> MessageLayer:
        """The message layer that reaches an address. Raises `PeerFailed` where no port is of its family, or its session is over."""
        session = session_of(remote)
        if session is not None:
            for port, layer in self._of_sessions.items():
                if port is session.port and port.has(remote):
                    return layer
            raise PeerFailed(f"{remote[0]}: its DTLS session has ended")
        for layer in self._layers:
            if is_ipv6(layer.port.local()) == is_ipv6(remote):
                return layer
        raise PeerFailed(f"no CoAP port can reach {remote[0]}")

    def ports_of_family(self, address: str) -> list[IDatagramPort]:
        """The ports of the family of an address (text)."""
        version = ip_address(address).version
        return [layer.port for layer in self._layers if is_ipv6(layer.port.local()) == (version == 6)]  # noqa: PLR2004 - IPv6

    def address_text(self, source: Sockaddr) -> str:
        """A source's address as text, with its zone."""
        return source_text(source, self._context.names)

    def on_request(self, layer: MessageLayer, inbound: Inbound, message: Message) -> None:
        """A request that did not come before."""
        self._server.on_request(layer, inbound, message)

    def on_gone(self, address: Sockaddr) -> None:
        """A session is over, and with it what is under way by it."""
        self.when_gone(address)
        self.tokens.gone(address)
        self._server.gone(address)

    def on_response(self, message: Message, source: Sockaddr) -> bool:
        """A response: to whoever waits for its token. What that one raises is logged and is no reason to refuse the response."""
        waiter = self.tokens.find(message.token)
        if waiter is None:
            return False
        try:
            return waiter.on_response(message, source)
        except Exception:  # noqa: BLE001 - the one catch-all of this entry point: the acknowledgement must still go out
            _log.failure("an answer from {source} was not handled", source=source[0])
            return True
