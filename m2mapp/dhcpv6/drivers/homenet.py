"""The port of HNCP (UDP 8231) on the uplink's interface: hears the nodes of a home network, and asks them.

Responsible for the port, for the interface that comes and goes, and for the time. What is heard and asked is in `homenet`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.hncp import ALL_HOMENET_NODES, PORT
from m2mapp.dhcpv6.homenet import Homenet
from m2mapp.dhcpv6.message import MalformedMessage
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagramPort, IDatagramReceiver, IDatagrams, Sockaddr

LOOK_AGAIN_S: Final = 5.0
"""How often the interface is looked at, and what nobody tells any more is forgotten."""
_LINK_LOCAL: Final = "fe80:"

_log = Logger(namespace="m2mapp.dhcpv6")


@implementer(IDatagramReceiver)
class HomenetListening(Service):
    """Listens on one interface. `tell` is called with what its nodes tell, and with an empty `Bootstrap` when that is over."""

    name = "dhcpv6.uplink hncp"

    def __init__(
        self,
        reactor: IReactorTime,
        datagrams: IDatagrams,
        interface: str,
        homenet: Homenet,
        tell: Callable[[Bootstrap, str], None],
        metrics: Metrics,
    ) -> None:
        self._reactor, self._datagrams, self._name, self._homenet, self._tell = reactor, datagrams, interface, homenet, tell
        self._port: IDatagramPort | None = None
        self._index: int | None = None
        self._look: IDelayedCall | None = None
        self._heard = metrics.counter("m2mapp_dhcpv6_hncp_received_total", "HNCP datagrams that the uplink heard.")
        self._ignored = metrics.counter("m2mapp_dhcpv6_hncp_ignored_total", "Those that were malformed, or not of the link.")
        self._asked = metrics.counter("m2mapp_dhcpv6_hncp_requests_total", "HNCP requests sent.")

    def startService(self) -> None:
        """Listen from now on. Raises `OSError` where the port is taken, as it is on a host that is a node of the home network itself."""
        super().startService()
        self._port = self._datagrams.open_port("::", PORT, self)
        self._tend()

    def stopService(self) -> Deferred[None] | None:
        """Listen no more; what was told is forgotten."""
        super().stopService()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._index = None
        self._homenet.clear()
        port, self._port = self._port, None
        return None if port is None else port.stop()

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """One datagram. Nothing that it holds makes this raise."""
        if interface != self._index or self._port is None:
            return
        self._heard.add()
        if not source[0].startswith(_LINK_LOCAL):
            self._ignored.add()
            return
        try:
            request = self._homenet.heard(data, source[0], self._reactor.seconds())
        except MalformedMessage as fault:
            self._ignored.add()
            _log.debug("{source} on {interface}: {why}", source=source[0], interface=self._name, why=str(fault))
            return
        if request is not None and self._port.send(request, source):
            self._asked.add()
        self._tell(*self._homenet.first())

    def _tend(self) -> None:
        """Join on the interface when it has come; what was heard on one that went says nothing of the next."""
        self._look = self._reactor.callLater(LOOK_AGAIN_S, self._tend)
        try:
            index: int | None = self._datagrams.interface_index(self._name)
            if self._port is not None and index is not None and index != self._index:
                self._port.join(ALL_HOMENET_NODES, index)
        except OSError:
            index = None
        if index != self._index:
            self._index = index
            self._homenet.clear()
        self._homenet.over(self._reactor.seconds())
        self._tell(*self._homenet.first())
