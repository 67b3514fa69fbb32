"""Addresses that an operator keeps for a device: given, kept, refused."""

from __future__ import annotations

from ipaddress import IPv6Address

from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.model.errors import Conflict, Fault, Malformed, StorageFull
from m2mapp.model.messages import Method
from tests.unit.dhcpv6.downlink_case import LEASE, DownlinkCase
from tests.unit.dhcpv6.downlink_parts import DEVICE, holding
from tests.unit.dhcpv6.parts import OWN, client_message
from tests.unit.fakes import ask


class ReservationTests(DownlinkCase):
    def test_kept_for_a_device(self) -> None:
        """A reserved address is given to its device, nobody else, whether it comes first or has another; it outlives the lease."""
        wanted = self.own_prefix()[0xD1]
        self.reserve(wanted)
        self.assertEqual((self.lease()["state"], self.lease()["validUntil"]), ("reserved", None))
        self.site.clock.advance(100_000)
        self.assertEqual(self.site.given(T.REQUEST)[0][0], str(wanted))
        self.assertEqual((self.lease()["state"], self.lease()["reserved"]), ("bound", str(wanted)))
        self.site.given(T.RELEASE, holding(str(wanted)))
        self.assertEqual((self.lease()["state"], self.lease()["address"]), ("reserved", str(wanted)))
        self.site.given(T.REQUEST)
        self.site.clock.advance(7200 + 61)
        self.assertEqual(self.lease()["state"], "reserved")

    def test_instead_of_another(self) -> None:
        """A device that has another address gets the reserved one when it renews, and is told to stop using the other."""
        ((old, *_),) = self.site.given(T.REQUEST)
        wanted = self.own_prefix()[0xD1]
        self.reserve(wanted)
        self.assertEqual(self.lease()["address"], old)
        given = self.site.given(T.RENEW, holding(old))
        self.assertEqual(given, [(str(wanted), 3600, 7200), (old, 0, 0)])
        self.assertFalse(self.site.servers.bindings.holds(old))

    def test_while_it_renews(self) -> None:
        """A reservation that is written while the device's renewal waits for the disk is not undone by it."""
        ((old, *_),) = self.site.given(T.REQUEST)
        self.site.servers.serving.gather_s = 1.0
        self.site.ask(client_message(T.RENEW, holding(old), duid=DEVICE, server=OWN))
        wanted = self.own_prefix()[0xD1]
        self.reserve(wanted)
        self.site.clock.advance(1)
        self.assertEqual((self.lease()["reserved"], self.lease()["renewed"]), (str(wanted), 1))

    def test_over_a_restart(self) -> None:
        """Reservations are of the tree: they stand after a restart, and nobody else gets the address."""
        wanted = self.own_prefix()[0xD1]
        self.reserve(wanted)
        self.site.stop()
        self.site.start()
        self.assertRaises(Conflict, self.reserve_for_another, wanted)
        self.assertEqual(self.site.given(T.REQUEST)[0][0], str(wanted))

    def reserve_for_another(self, address: IPv6Address) -> None:
        """Another device shall have it."""
        self.reserve(address, "/leases/00030001aabb/1")

    def test_refused(self) -> None:
        """What no device can have is refused with the field, the value and what would be right; nothing changes."""
        own = self.own_prefix()
        for address in ("", "fe80::1", own[1], own[0], "2001:db8:c::1", 5):
            fault = self.assertRaises(Malformed, self.reserve, address)
            self.assertIn("address", fault.detail)
        for path in ("/leases/zz/1", "/leases/00/1", f"/leases/{DEVICE.hex()}/x", f"/leases/{DEVICE.hex()}/01", "/leases/0003AABB/1"):
            self.assertIn("/leases/<duid>/<iaid>", self.assertRaises(Fault, self.reserve, own[0xD1], path).detail)
        self.assertEqual(self.site.committer.units, [])

    def test_disk_full(self) -> None:
        """A reservation that could not be kept leaves the address free."""
        self.site.committer.fault = StorageFull()
        wanted = self.own_prefix()[0xD1]
        answer = self.site.reserving.handle(ask(Method.PUT, LEASE, b'{"address": "%s"}' % str(wanted).encode(), "application/json"))
        self.failureResultOf(answer, StorageFull)
        self.site.committer.fault = None
        self.reserve_for_another(wanted)

    def test_read_and_ended(self) -> None:
        """All else at /leases is the tree's: an operator reads a lease, and ends it with its reservation."""
        self.reserve(self.own_prefix()[0xD1])
        self.successResultOf(self.site.reserving.handle(ask(Method.DELETE, LEASE)))  # type: ignore[arg-type]
        self.assertIsNone(self.site.tree.find(("leases", DEVICE.hex(), "1")))
        self.assertFalse(self.site.servers.bindings.holds(str(self.own_prefix()[0xD1])))

    def test_declined(self) -> None:
        """A reserved address that another host has is set aside: the device gets another, and the reservation stays."""
        wanted = str(self.own_prefix()[0xD1])
        self.reserve(wanted)
        self.site.given(T.REQUEST)
        self.site.given(T.DECLINE, holding(wanted))
        ((other, *_),) = self.site.given(T.REQUEST)
        self.assertNotEqual(other, wanted)
        self.assertEqual(self.site.given(T.RENEW, holding(other))[0][0], other)
        self.assertEqual(self.lease()["reserved"], wanted)
