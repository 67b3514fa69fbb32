"""The system's resolver as a Deferred."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.clients.resolver import SystemResolver


@implementer(IHostResolution)
class Resolution:
    """What is being looked up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError


@implementer(IHostnameResolver)
class FakeResolver:
    """Keeps who asked."""

    def __init__(self) -> None:
        self.receivers: list[IResolutionReceiver] = []

    def resolveHostName(  # noqa: N802 - Twisted's name
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803 - Twisted's names
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        self.receivers.append(resolutionReceiver)
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        return resolution


class ResolverTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """All addresses, in the system's order, once all are known."""
        fake = FakeResolver()
        done = SystemResolver(fake)("d1.example.org")
        [receiver] = fake.receivers
        for address in (IPv6Address("TCP", "fd00::1", 0), IPv4Address("TCP", "192.0.2.1", 0), HostnameAddress(b"x", 0)):
            receiver.addressResolved(address)
        self.assertNoResult(done)
        receiver.resolutionComplete()
        self.assertEqual(self.successResultOf(done), ["fd00::1", "192.0.2.1"])

    def test_none(self) -> None:
        """No address is an empty list."""
        fake = FakeResolver()
        done = SystemResolver(fake)("none.example.org")
        fake.receivers[0].resolutionComplete()
        self.assertEqual(self.successResultOf(done), [])

    def test_given_up(self) -> None:
        """What comes after the caller has gone goes nowhere."""
        fake = FakeResolver()
        done = SystemResolver(fake)("d1.example.org")
        done.cancel()
        self.failureResultOf(done)
        fake.receivers[0].resolutionComplete()
