"""The CoAP service: opens the ports, joins groups, and stops cleanly.

Responsible for the life of the endpoint and for which groups are joined by which interfaces. Not responsible for what is said on the
ports.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Final

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.coap.addresses import canonical, remote_of
from m2mapp.coap.back import AskBack
from m2mapp.coap.client import CoapClient
from m2mapp.coap.context import Context
from m2mapp.coap.counters import Counters
from m2mapp.coap.deadlines import Deadlines
from m2mapp.coap.dtls.contexts import ClientContexts, server_context
from m2mapp.coap.dtls.cookies import Cookies
from m2mapp.coap.dtls.dialer import Dialer
from m2mapp.coap.dtls.port import DtlsPort
from m2mapp.coap.dtls.settings import NO_COAPS, CoapsSettings
from m2mapp.coap.endpoint import Endpoint
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.gather import Gathering, GroupSender
from m2mapp.coap.observation import OnAnswer, OnEnd
from m2mapp.coap.observer import Observable
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.coap.server import Principals, Server
from m2mapp.coap.shared import Subscription
from m2mapp.coap.tap import Tap
from m2mapp.formats.uris import parse_uri
from m2mapp.model.interfaces import IGroupSender, IHandle, IMembership
from m2mapp.model.messages import Answer, GroupOutgoing, Outgoing
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagrams

ALL_COAP_NODES: Final = ("ff02::fd", "ff05::fd", "224.0.1.187")
"""RFC 7252, section 12.8: link-local and site-local scope of IPv6, and IPv4."""

_log = Logger()


def make_context(
    clock: IReactorTime,
    metrics: Metrics,
    rng: random.Random | None = None,
    parameters: TransmissionParameters | None = None,
    limits: Limits | None = None,
) -> Context:
    """What the parts of a CoAP service share. Without `rng` chance comes from the system, as it must on a network."""
    return Context(
        clock,
        Deadlines(clock),
        Counters(metrics),
        rng or random.SystemRandom(),
        Tap(clock.seconds),
        parameters=parameters or TransmissionParameters(),
        limits=limits or Limits(),
    )


@implementer(IGroupSender, IMembership)
class CoapService(Service):
    """CoAP on the given addresses. `interfaces` are the names of those that group traffic uses; without any there is none.

    `listen` has a host ("::", "0.0.0.0", an address) and a UDP port for each port to open.
    """

    def __init__(
        self,
        listen: tuple[tuple[str, int], ...],
        interfaces: tuple[str, ...],
        datagrams: IDatagrams,
        handler: IHandle,
        principals: Principals,
        context: Context,
    ) -> None:
        self._listen = listen
        self._interfaces = interfaces
        self._datagrams = datagrams
        self._context = context
        self._groups: set[str] = set()
        self.server = Server(handler.handle, principals, context)
        self.endpoint = Endpoint(self.server, context)
        self.client = CoapClient(self.endpoint, context, datagrams.interface_index)
        self.back = AskBack(self.endpoint, context)
        self._coaps = NO_COAPS
        self._clients = ClientContexts(None, ())
        self._server_context: SSL.Context | None = None
        self._given: MessageLayer | None = None
        self._sender = GroupSender(self.endpoint, context, datagrams, interfaces)
        self._dialer = self.client.dialer = Dialer(self._open_to_dial, context)
        self.endpoint.when_gone = self._dialer.forget

    def startService(self) -> None:
        """Open the ports and join the groups. Raises `OSError` where a port cannot be opened; then none is."""
        self._learn_names()
        try:
            for host, port in self._listen:
                self.endpoint.open_port(self._datagrams, host, port)
            for where in self._coaps.listen:
                self.endpoint.open_dtls_port(self._datagrams, where, self._clients, self._server_context)
        except OSError:
            self.endpoint.stop()
            raise
        super().startService()
        self._join_all()

    def stopService(self) -> Deferred[None]:
        """Close the ports. What is under way fails; the groups are joined again at the next start."""
        super().stopService()
        self._given = None
        stopped = self.endpoint.stop()
        self._dialer.stop()
        return stopped

    def serve_at(self, host: str, port: int) -> None:
        """Listen at this address, which the node was given, in place of the one that it was given before. Raises `OSError`."""
        self.serve_there_no_more()
        self._given = self.endpoint.open_port(self._datagrams, host, port)
        self._join_all()

    def serve_there_no_more(self) -> None:
        """Close the port at the address that the node was given, if there is one."""
        given, self._given = self._given, None
        if given is not None:
            self.endpoint.close_port(given)

    def secure(self, coaps: CoapsSettings) -> None:
        """Say where coaps is served, what this node shows and whom it believes; without that, nowhere, nothing, and the system's roots.

        Called once, before the start.
        """
        self._coaps = coaps
        self._clients = ClientContexts(coaps.identity, coaps.server_ca)
        if coaps.listen and coaps.identity is not None:
            cookies = Cookies(self._context.rng)
            self._server_context = server_context(coaps.identity, coaps.client_ca, cookies, self._context.clock.seconds)

    def observe(self, observable: Observable) -> None:
        """Say what clients of this node can observe (RFC 7641); without that, nothing. Called once, before the start."""
        self.server.observe(observable)

    def register_gauges(self, metrics: Metrics) -> None:
        """Show the depth of what this service keeps."""

        def gauge(name: str, about: str, read: Callable[[], float]) -> None:
            metrics.gauge(f"m2mapp_coap_{name}", about, read)

        gauge("requests_under_way", "Requests that a handler has not answered yet.", lambda: self.server.under_way)
        gauge("observers", "Observers of this node's resources.", lambda: len(self.server.observers))
        gauge("observations", "Observations of this node at others.", lambda: len(self.client.shared))
        gauge("requests_awaited", "Tokens of requests of this node that are in use.", lambda: len(self.endpoint.tokens))
        gauge("peers", "Peers known to the message layer.", lambda: sum(len(layer.peers) for layer in self.endpoint.layers))
        gauge("messages_kept", "Messages remembered, to know repetitions.", self._messages_kept)
        gauge("messages_kept_bytes", "Memory of these messages.", lambda: sum(layer.peers.bytes for layer in self.endpoint.layers))
        gauge("transfers_kept_bytes", "Memory of block-wise transfers.", lambda: self.server.kept.bytes + self.server.uploads.bytes)
        gauge("dtls_sessions", "DTLS sessions that are established.", lambda: sum(len(port.table) for port in self.endpoint.dtls_ports))
        gauge("dtls_handshakes", "DTLS handshakes under way.", lambda: sum(port.table.handshakes for port in self.endpoint.dtls_ports))
        gauge("deadlines", "Deadlines ahead.", lambda: len(self._context.deadlines))

    def send_to_group(self, outgoing: GroupOutgoing, on_answer: Callable[[Answer], object]) -> Gathering:
        """See `IGroupSender` and `gather.GroupSender.send`."""
        return self._sender.send(outgoing, on_answer)

    def observe_client(self, outgoing: Outgoing, on_answer: OnAnswer, on_end: OnEnd) -> Subscription:
        """Observe a resource of a client that has asked this node: by the DTLS session that it has begun, else by its address.

        As `SharedObservations.observe`; the URI's host is an IP address. A session that ends, ends the observation.
        """
        remote = canonical(remote_of(parse_uri(outgoing.uri), self._datagrams.interface_index))
        return self.client.shared.observe(outgoing, self.endpoint.session_with(remote), on_answer, on_end)

    def join(self, group: str) -> None:
        """Join a group on each configured interface; before the service has started, when it does. Raises `OSError`.

        Where one of the interfaces refuses, the others stay joined, and the refusal is raised.
        """
        self._groups.add(group)
        if self.running:
            self._join(group)

    def leave(self, group: str) -> None:
        """Leave a group. An address that was not joined is no error."""
        if group in self._groups and group not in ALL_COAP_NODES:
            for port in self.endpoint.ports_of_family(group):
                for index in self._context.names:
                    port.leave(group, index)
        self._groups.discard(group)

    def _join_all(self) -> None:
        """Join what there is; a group that the system refuses is told, and is no reason not to serve."""
        for group in (*ALL_COAP_NODES, *sorted(self._groups)):
            try:
                self._join(group)
            except OSError as error:
                _log.warn("the group {group} was not joined: {error}", group=group, error=error)

    def _join(self, group: str) -> None:
        ports = self.endpoint.ports_of_family(group)
        refusal: OSError | None = None
        for index in self._context.names:
            for port in ports[:1]:
                try:
                    port.join(group, index)
                except OSError as error:
                    refusal = error
        if refusal is not None:
            raise refusal
        if group not in ALL_COAP_NODES and not (ports and self._context.names):
            raise OSError(errno.ENODEV, f"no configured interface and port can take the group {group}")

    def _learn_names(self) -> None:
        self._context.names.clear()
        for name in self._interfaces:
            try:
                self._context.names[self._datagrams.interface_index(name)] = name
            except OSError as error:
                _log.warn("there is no interface {name}: {error}", name=name, error=error)

    def _open_to_dial(self, host: str) -> DtlsPort:
        return self.endpoint.open_dtls_port(self._datagrams, (host, 0), self._clients, None)

    def _messages_kept(self) -> float:
        return sum(layer.peers.messages for layer in self.endpoint.layers)
