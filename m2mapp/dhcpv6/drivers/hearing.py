"""Listens to router advertisements on the uplink's interface for the bootstrap URI, and asks for one when it begins.

Responsible for the socket and the calls. What counts of an advertisement is in `announced`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from m2mapp.dhcpv6.advert import ROUTER_ADVERTISEMENT, build_solicitation
from m2mapp.dhcpv6.announced import Routers
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.message import MalformedMessage
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IDatagrams, IHost, IIcmpv6Port

SOLICITATIONS: Final = 3
SOLICIT_AGAIN_S: Final = 4.0
"""MAX_RTR_SOLICITATIONS and RTR_SOLICITATION_INTERVAL (RFC 4861, section 10). The interface is looked at as often."""
_ALL_ROUTERS: Final = "ff02::2"

_log = Logger(namespace="m2mapp.dhcpv6")

Tell = Callable[[Bootstrap, str], None]


class Hearing(Service):
    """Listens on one interface. `tell` is called with what its routers say, and with an empty `Bootstrap` when that is over."""

    name = "dhcpv6.uplink routers"

    def __init__(
        self, reactor: IReactorTime, network: tuple[IDatagrams, IHost], interface: str, option: int, tell: Tell, metrics: Metrics
    ) -> None:
        self._reactor, self._tell, self._name = reactor, tell, interface
        self._datagrams, self._host = network
        self._routers = Routers(option)
        self._port: IIcmpv6Port | None = None
        self._index: int | None = None
        self._asked = 0
        self._look: IDelayedCall | None = None
        self._end: IDelayedCall | None = None
        self._heard = metrics.counter("m2mapp_dhcpv6_uplink_advertisements_total", "Router advertisements that the uplink heard.")
        self._ignored = metrics.counter("m2mapp_dhcpv6_uplink_advertisements_ignored_total", "Those that were malformed, or held no URI.")

    def startService(self) -> None:
        """Listen from now on. Raises `OSError` where the process may not open the socket."""
        super().startService()
        self._port = self._host.open_icmpv6((ROUTER_ADVERTISEMENT,), self._received)
        self._look_at_interface()

    def stopService(self) -> None:
        """Listen no more; what was heard is forgotten."""
        super().stopService()
        for call in (self._look, self._end):
            if call is not None:
                call.cancel()
        self._look = self._end = self._index = None
        self._routers.clear()
        port, self._port = self._port, None
        if port is not None:
            port.stop()

    def _look_at_interface(self) -> None:
        """Solicit when the interface has come; what was heard on one that went says nothing of the next."""
        self._look = self._reactor.callLater(SOLICIT_AGAIN_S, self._look_at_interface)
        try:
            index: int | None = self._datagrams.interface_index(self._name)
        except OSError:
            index = None
        if index != self._index:
            self._index, self._asked = index, 0
            self._routers.clear()
            self._told()
        if index is None or self._port is None or self._asked >= SOLICITATIONS or self._routers.first() is not None:
            return
        if self._port.send(build_solicitation(), _ALL_ROUTERS, index):
            self._asked += 1

    def _received(self, data: bytes, source: str, interface: int) -> None:
        if interface != self._index:
            return
        self._heard.add()
        try:
            self._routers.heard(data, source, self._reactor.seconds())
        except MalformedMessage as fault:
            self._ignored.add()
            _log.debug("{source} on {interface}: {why}", source=source, interface=self._name, why=str(fault))
            return
        self._told()

    def _over(self) -> None:
        self._end = None
        self._routers.over(self._reactor.seconds())
        self._told()

    def _told(self) -> None:
        """Tell what counts now, and wait for when that is over."""
        uri, origin = self._routers.first() or (None, "")
        if self._end is not None:
            self._end.cancel()
            self._end = None
        ends_s = self._routers.next_end_s()
        if ends_s is not None:
            self._end = self._reactor.callLater(max(0.0, ends_s - self._reactor.seconds()), self._over)
        self._tell(Bootstrap(uri), origin)
