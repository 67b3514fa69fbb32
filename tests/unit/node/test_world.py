"""What nodes share: the host's addresses, read once for all who use them."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Interface

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.net.addresses import HostAddress
from m2mapp.node.world import ADDRESSES_AGAIN_S, HostAddresses


class FakeSource:
    """A host with one interface; `found` are its addresses, `fault` keeps them from being read."""

    def __init__(self) -> None:
        self.found = ["fd00::1/64"]
        self.fault: OSError | None = None
        self.reads = 0

    def interface_index(self, name: str) -> int:
        return {"eth1": 2}[name]

    def addresses(self) -> tuple[HostAddress, ...]:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return tuple(HostAddress(2, IPv6Interface(text), IPv6Interface(text).network) for text in self.found)


class HostAddressesTests(SynchronousTestCase):
    def build(self) -> tuple[HostAddresses, FakeSource, Clock]:
        """Addresses that nobody uses yet; they have been read once."""
        source, clock = FakeSource(), Clock()
        return HostAddresses(source, ("eth1",), clock), source, clock

    def test_followed(self) -> None:
        """While it is used it is read again and again; who uses it hears of changes, and of nothing else."""
        addresses, source, clock = self.build()
        told: list[str] = []
        addresses.use(lambda: told.append("told"))
        clock.pump([ADDRESSES_AGAIN_S] * 3)
        self.assertEqual((source.reads, told, addresses.own("fd00::1")), (5, [], True))
        source.found = ["fd00:1::1/64"]
        clock.advance(ADDRESSES_AGAIN_S)
        self.assertEqual((told, addresses.own("fd00::1"), addresses.own("fd00:1::1")), (["told"], False, True))
        self.assertTrue(addresses.contains(("fd00:1::99", 1, 0, 0)))

    def test_shared(self) -> None:
        """Many who use it are one reading; it ends with the last of them, and begins again with the next."""
        addresses, source, clock = self.build()
        told: list[int] = []
        users = [partial(told.append, number) for number in range(3)]
        for user in users:
            addresses.use(user)
        self.assertEqual((source.reads, len(clock.getDelayedCalls())), (2, 1))
        for user in users:
            addresses.leave(user)
        addresses.leave(users[0])
        self.assertEqual(clock.getDelayedCalls(), [])
        addresses.use(users[0])
        self.assertEqual((source.reads, len(clock.getDelayedCalls())), (3, 1))

    def test_cannot_be_read(self) -> None:
        """What cannot be read stays as it was, and is tried again."""
        addresses, source, clock = self.build()
        addresses.use(lambda: None)
        source.fault = OSError(1, "Operation not permitted")
        clock.advance(ADDRESSES_AGAIN_S)
        self.assertTrue(addresses.own("fd00::1"))
        source.fault, source.found = None, ["fd00:1::1/64"]
        clock.advance(ADDRESSES_AGAIN_S)
        self.assertTrue(addresses.own("fd00:1::1"))
