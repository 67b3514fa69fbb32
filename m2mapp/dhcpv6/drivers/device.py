"""The device's side of DHCPv6: asks for an address on one interface, has it there, and keeps in the tree what it learned.

What a message means is in `client`, the interface is `holding`'s. Who bootstraps reads `/node/address`.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.client import Client, Item
from m2mapp.dhcpv6.device import DeviceLink, address_write
from m2mapp.dhcpv6.drivers.asking import Asking
from m2mapp.dhcpv6.drivers.holding import Holding
from m2mapp.dhcpv6.drivers.uplink import COMMIT_AGAIN_S, RELEASE_S
from m2mapp.dhcpv6.uplink import kept_lease
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import new_trace
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import IHost
from m2mapp.tree.device_address import DEVICE_ADDRESS
from m2mapp.tree.unit import Remove, Unit, Write

_log = Logger(namespace="m2mapp.dhcpv6")


class AddressClient(Service):
    """The DHCPv6 client of a device. The address that it has is usable when `/node/address` is written."""

    name = "dhcpv6 client"

    def __init__(self, reactor: IReactorTime, node: Dhcpv6Node, host: IHost, link: DeviceLink, client: Client, metrics: Metrics) -> None:
        self._reactor, self._node, self._client, self._link = reactor, node, client, link
        link_local = "" if link.link_local is None else str(link.link_local)
        self._asking = Asking(reactor, (node.datagrams, node.host), (link.interface, link_local), client, self._on_change, metrics)
        self._holding = Holding(reactor, (node.datagrams, host, link.interface), self._keep, self._duplicate)
        self._again: IDelayedCall | None = None
        self._declined = metrics.counter("m2mapp_dhcpv6_client_declined_total", "Addresses given to this device that another host had.")

    def startService(self) -> None:
        """Verify what was kept, or ask: the Solicit is also what tells the gateway that the device has power. Raises `OSError`."""
        super().startService()
        there = self._node.tree.expected(DEVICE_ADDRESS)
        kept = kept_lease([there] if there is not None else [], self._reactor.seconds(), self._node.clock.now_ms())
        self._asking.start(kept)
        if kept is not None:
            self._holding.hold(kept.items[0])

    def stopService(self) -> Deferred[None]:
        """Ask no more. An address that is not given back is verified at the next start; one that is given back goes first."""
        super().stopService()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not self._link.release:
            self._holding.stop()
            return self._asking.stop()
        given_back = self._asking.release().addTimeout(RELEASE_S, self._reactor)
        return given_back.addBoth(lambda _: self._asking.stop())

    def _item(self) -> Item | None:
        """The address that is used: of several the one that stands first and is preferred."""
        items = self._client.lease.items if self._client.lease is not None else ()
        return max(items, key=lambda item: item.preferred_s > 0, default=None)

    def _on_change(self) -> None:
        item = self._item()
        if item is not None:
            self._holding.hold(item)
            return
        _log.warn("{interface}: the device has no address", interface=self._link.interface)
        self._holding.drop()
        self._keep()

    def _duplicate(self) -> None:
        self._declined.add()
        self._holding.drop()
        self._asking.decline()

    def _keep(self) -> None:
        """The tree says what the device has, now that it can be used, or that it has nothing."""
        if self._again is not None and self._again.active():
            self._again.cancel()
        self._again = None
        lease, item = self._client.lease, self._item()
        if lease is not None and item is not None:
            change: Write | Remove = address_write(lease, item, self._reactor.seconds(), self._node.clock.now_ms())
            _log.info("{interface}: the device has {address}", interface=self._link.interface, address=item.value)
        elif self._node.tree.expected(DEVICE_ADDRESS) is not None:
            change = Remove(DEVICE_ADDRESS)
        else:
            return
        done: Deferred[object] = maybeDeferred(self._node.committer.commit, Unit((change,), trace=new_trace()))
        done.addErrback(self._not_kept)

    def _not_kept(self, failure: Failure) -> None:
        """A full disk: it is kept as soon as that is possible, and used from then on."""
        if failure.check(Fault) is None:
            _log.failure("the device's address was not kept", failure)
        if self.running and self._again is None:
            self._again = self._reactor.callLater(COMMIT_AGAIN_S, self._keep)
