"""A test case with a node that has a downlink and a device."""

from __future__ import annotations

from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import Method
from tests.unit.dhcpv6.downlink_parts import DEVICE, OLD, DownlinkSite
from tests.unit.fakes import ask

LEASE = f"/leases/{DEVICE.hex()}/1"


class DownlinkCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = DownlinkSite()
        self.addCleanup(self.site.stop)

    def lease(self) -> dict[str, object]:
        """The device's lease as it stands in the tree."""
        return dict(self.site.tree.get(("leases", DEVICE.hex(), "1")).attributes)

    def reserve(self, address: object, path: str = LEASE) -> None:
        """An operator reserves an address. Raises the `Fault` that it is refused with."""
        payload = b'{"address": "%s"}' % str(address).encode()
        self.successResultOf(self.site.reserving.handle(ask(Method.PUT, path, payload, "application/json")))  # type: ignore[arg-type]

    def own_prefix(self, prefix: IPv6Network = OLD) -> IPv6Network:
        """The /64 of lan0."""
        pools = self.site.linking.links.link("lan0", self.site.clock.seconds()).pools
        return next(pool.prefix for pool in pools if pool.prefix.subnet_of(prefix))
