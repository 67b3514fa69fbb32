"""The uplink of a gateway: asks for prefixes on one interface, keeps what it learns in the tree, and tells who builds on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.binding import PREFIXES
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.client import Client, Lease
from m2mapp.dhcpv6.drivers.asking import Asking
from m2mapp.dhcpv6.history import uplink_ended
from m2mapp.dhcpv6.settings import UplinkSettings
from m2mapp.dhcpv6.uplink import UPLINK_PREFIX, kept_lease, lease_changes
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import new_trace
from m2mapp.model.metrics import Metrics
from m2mapp.tree.unit import Resource, Unit

COMMIT_AGAIN_S: Final = 10.0
RELEASE_S: Final = 3.0
"""So long a stop waits at most for a Release to be answered."""

_log = Logger(namespace="m2mapp.dhcpv6")


class Uplink(Service):
    """The requesting router on one interface."""

    name = "dhcpv6.uplink"

    def __init__(self, reactor: IReactorTime, node: Dhcpv6Node, settings: UplinkSettings, client: Client, metrics: Metrics) -> None:
        self._reactor, self._node, self._client = reactor, node, client
        self._interface, self._releases = settings.interface, settings.release
        self._asking = Asking(reactor, (node.datagrams, node.host), (settings.interface, ""), client, self._on_change, metrics)
        self._again: IDelayedCall | None = None
        self._listeners: dict[Callable[[], None], None] = {}
        metrics.gauge("m2mapp_dhcpv6_uplink_prefixes", "Prefixes that the uplink has.", lambda: len(self.lease.items) if self.lease else 0)

    @property
    def lease(self) -> Lease | None:
        """What the uplink has, with its lifetimes; None for nothing."""
        return self._client.lease

    def bootstrap(self) -> Bootstrap:
        """The bootstrap service that came with the prefixes."""
        return self.lease.bootstrap if self.lease is not None else Bootstrap()

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call this whenever `lease` is another than before."""
        self._listeners[on_change] = None

    def startService(self) -> None:
        """Verify what was kept, or ask. Raises `OSError` where the port is taken."""
        super().startService()
        self._asking.start(kept_lease(self._resources(), self._reactor.seconds(), self._node.clock.now_ms()))

    def stopService(self) -> Deferred[None]:
        """Ask no more. What is not given back is verified at the next start."""
        super().stopService()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not self._releases:
            return self._asking.stop()
        given_back = self._asking.release().addTimeout(RELEASE_S, self._reactor)
        return given_back.addBoth(lambda _: self._asking.stop())

    def _resources(self) -> list[Resource]:
        """What the tree says that the uplink has, with the writes that are pending."""
        found = (self._node.tree.expected(one.path) for one in self._node.tree.children(PREFIXES))
        return [one for one in found if one is not None and one.type == UPLINK_PREFIX]

    def _on_change(self) -> None:
        lease = self.lease
        if lease is None:
            _log.warn("{interface}: the uplink has no prefix", interface=self._interface)
        else:
            prefixes = ", ".join(str(item.value) for item in lease.items)
            _log.info("{interface}: the uplink has {prefixes}", interface=self._interface, prefixes=prefixes)
        self._keep()
        for listener in list(self._listeners):
            listener()

    def _keep(self) -> None:
        self._again = None
        now, now_ms = self._reactor.seconds(), self._node.clock.now_ms()
        before = self._resources()
        changes = lease_changes(self.lease, before, now, now_ms)
        if changes:
            unit = Unit(changes, uplink_ended(before, changes), trace=new_trace())
            done: Deferred[object] = maybeDeferred(self._node.committer.commit, unit)
            done.addErrback(self._not_kept)

    def _not_kept(self, failure: Failure) -> None:
        """A full disk: the prefix is used all the same, and kept as soon as that is possible."""
        if failure.check(Fault) is None:
            _log.failure("the uplink's prefixes were not kept", failure)
        if self.running and self._again is None:
            self._again = self._reactor.callLater(COMMIT_AGAIN_S, self._keep)
