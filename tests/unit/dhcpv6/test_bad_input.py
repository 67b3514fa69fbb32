"""Bad input of every sort that RFC 9915 names, and some more: what is answered, that nothing changes, and what it costs at most."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.client import Chance, Client
from m2mapp.dhcpv6.client_messages import Wish
from m2mapp.dhcpv6.message import MalformedMessage, Message, RelayMessage
from m2mapp.dhcpv6.numbers import HOP_COUNT_LIMIT, Status
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.packet import MAX_OPTIONS, build, parse
from m2mapp.dhcpv6.pools import AddressPool, Lifetimes
from m2mapp.dhcpv6.server import MAX_BINDINGS_OF_DUID, MAX_IAS, Terms
from m2mapp.tree.unit import Remove, Unit
from tests.unit.dhcpv6.parts import OWN, Site, addresses_in, client_message, prefixes_in, statuses_in

_DEVICES = AddressPool(IPv6Network("2001:db8:5::/64"), b"secret", Lifetimes(1800, 3600))
_OTHER = b"\0\3\0\1elsewhere"


def _na(iaid: int, *addresses: str) -> o.IaNa:
    return o.IaNa(iaid, 0, 0, tuple(o.IaAddress(IPv6Address(address), 0, 0) for address in addresses))


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(Terms(addresses=lambda *_: _DEVICES))
        self.addCleanup(self.site.service.stopService)

    def unchanged(self) -> None:
        """Nothing was sent, nothing is in the tree, and nothing was logged as an error."""
        self.assertEqual((self.site.sent, self.site.names("leases"), self.site.errors), ([], [], []))

    def test_duids(self) -> None:
        """DUIDs of 0, 2, 131 and 200 bytes are malformed in either identifier; 3 and 130 are DUIDs."""
        for length in (0, 2, 131, 200):
            self.site.receive(build(client_message(T.SOLICIT, _na(1), duid=bytes(length))))
            self.site.receive(build(client_message(T.REQUEST, _na(1), server=bytes(length))))
        self.unchanged()
        malformed = self.site.metrics.counter("m2mapp_dhcpv6_malformed_total", "")
        self.assertEqual(malformed.value, 8)
        for length in (3, 130):
            self.assertIsNotNone(self.site.ask(client_message(T.SOLICIT, _na(1), duid=bytes(length))))

    def test_ninety_nested(self) -> None:
        """Ninety IAs with an address each: as many are answered as one message may have, and the client gets as many as one may have."""
        asked = client_message(T.REQUEST, *(_na(number, f"2001:db8:5::{number:x}") for number in range(1, 91)), server=OWN)
        reply = self.site.ask(asked)
        given = addresses_in(reply)
        self.assertEqual((len(given), len({address for address, *_ in given})), (MAX_BINDINGS_OF_DUID, MAX_BINDINGS_OF_DUID))
        self.assertEqual(statuses_in(reply), [Status.NO_ADDRS_AVAIL] * (MAX_IAS - MAX_BINDINGS_OF_DUID))
        self.assertEqual(len(self.site.names("leases")), 1)

    def test_ninety_in_one(self) -> None:
        """Ninety addresses in one IA: the client gets one; the others it is told not to use."""
        asked = client_message(T.RENEW, _na(1, *(f"2001:db8:5::{number:x}" for number in range(1, 91))), server=OWN)
        lifetimes = [valid_s for _, _, valid_s in addresses_in(self.site.ask(asked))]
        self.assertEqual(sorted(set(lifetimes)), [0, 3600])
        self.assertEqual((lifetimes.count(3600), len(self.site.bindings)), (1, 1))

    def test_too_many(self) -> None:
        """More options than a message may have, at whatever level, and more relay agents in one another than there may be."""
        flat = client_message(T.SOLICIT, *(o.ElapsedTime(0),) * MAX_OPTIONS)
        nested = client_message(T.SOLICIT, _na(1, *("2001:db8:5::1",) * MAX_OPTIONS))
        relayed: Message | RelayMessage = client_message(T.SOLICIT, _na(1))
        for hop in range(HOP_COUNT_LIMIT + 1):
            relayed = RelayMessage(T.RELAY_FORW, min(hop, 255), IPv6Address(0), IPv6Address("fe80::9"), (o.RelayedMessage(relayed),))
        for message in (flat, nested, relayed):
            data = build(message)
            self.assertRaises(MalformedMessage, parse, data)
            self.site.receive(data)
        self.unchanged()

    def test_outside_the_prefix(self) -> None:
        """A Request for addresses outside: NotOnLink, and nothing is given; Renew and Rebind: those with lifetimes 0, beside a good one."""
        outside = ("2001:db8:6::1", "::", "::1", "ff02::1", "fe80::1")
        for address in outside:
            reply = self.site.ask(client_message(T.REQUEST, _na(1, address), server=OWN))
            self.assertEqual((statuses_in(reply), addresses_in(reply), len(self.site.bindings)), ([Status.NOT_ON_LINK], [], 0))
        for kind, server in ((T.RENEW, OWN), (T.REBIND, None)):
            found = {
                address: valid_s
                for address, _, valid_s in addresses_in(self.site.ask(client_message(kind, _na(1, *outside), server=server)))
            }
            self.assertEqual({address: found[address] for address in outside}, dict.fromkeys(outside, 0))

    def test_what_is_not_its_own(self) -> None:
        """Release and Decline of another client's address, or of one that it never had: NoBinding, and the other one keeps its own."""
        ((address, *_),) = addresses_in(self.site.ask(client_message(T.REQUEST, _na(1), server=OWN)))
        for kind in (T.RELEASE, T.DECLINE):
            for held in (address, "2001:db8:5::77"):
                reply = self.site.ask(client_message(kind, _na(1, held), duid=_OTHER, server=OWN))
                self.assertEqual(statuses_in(reply), [Status.SUCCESS, Status.NO_BINDING])
        self.assertTrue(self.site.bindings.holds(address))

    def test_nothing_is_left(self) -> None:
        """However a client's leases end, two at once or by an operator's hand, nothing of them stays in the tree."""
        self.site.ask(client_message(T.REQUEST, _na(1), _na(2), server=OWN))
        held = [_na(number, address) for number, (address, *_) in enumerate(self._given(_na(1), _na(2)), 1)]
        self.site.ask(client_message(T.RELEASE, *held, server=OWN))
        self.assertEqual(self.site.names("leases"), [])
        self._given(_na(1))
        (duid,) = self.site.names("leases")
        self.site.committer.commit(Unit((Remove(("leases", duid, "1")),)))
        self.assertEqual((self.site.names("leases"), len(self.site.bindings)), ([], 0))
        self.site.ask(client_message(T.DECLINE, _na(1, self._given(_na(1))[0][0]), server=OWN))
        self.site.committer.commit(Unit((Remove(("leases", "declined", self.site.tree.children(("leases", "declined"))[0].path[-1])),)))
        self.assertEqual(self.site.names("leases"), [])

    def _given(self, *ias: o.IaNa) -> list[tuple[str, int, int]]:
        return addresses_in(self.site.ask(client_message(T.REQUEST, *ias, server=OWN)))

    def test_not_for_this_server(self) -> None:
        """Server identifiers that are not its own, missing, or where none may be; messages that are for clients or relay agents."""
        for kind in (T.REQUEST, T.RENEW, T.RELEASE, T.DECLINE):
            self.site.receive(client_message(kind, _na(1), server=_OTHER))
            self.site.receive(client_message(kind, _na(1)))
        for kind in (T.SOLICIT, T.CONFIRM, T.REBIND):
            self.site.receive(client_message(kind, _na(1), server=OWN))
        for kind in (T.ADVERTISE, T.REPLY, T.RECONFIGURE):
            self.site.receive(client_message(kind, _na(1), server=OWN))
        self.unchanged()


class ClientTests(SynchronousTestCase):
    def test_not_for_this_client(self) -> None:
        """Replies to another transaction, to another client, without a server, to no question: discarded; no lease comes of it."""
        number = iter(range(1, 99))
        client = Client(b"\0\4own", Wish(for_prefix=True), Chance(lambda low, high: (low + high) / 2, lambda: next(number)))
        given = o.IaPd(1, 0, 0, (o.IaPrefix(IPv6Network("2001:db8:5::/56"), 600, 1200),))
        good = Message(T.REPLY, 1, (o.ClientId(b"\0\4own"), o.ServerId(OWN), o.RapidCommit(), given))
        self.assertIsNotNone(client.received(good, 0.0))
        client.begin(0.0)
        client.wake(1.0)
        for kind, transaction_id, options in (
            (T.REPLY, 2, good.options),
            (T.ADVERTISE, 0xFFFFFF, good.options),
            (T.REPLY, 1, (o.ClientId(_OTHER), *good.options[1:])),
            (T.REPLY, 1, good.options[1:]),
            (T.REPLY, 1, (good.options[0], *good.options[2:])),
            (T.REPLY, 1, (*good.options[:2], given)),
            (T.SOLICIT, 1, good.options),
            (T.REPLY, 1, (*good.options[:3], o.IaPd(2, 0, 0, given.options))),
        ):
            self.assertIsNotNone(client.received(Message(kind, transaction_id, options), 2.0), (kind, options))
            self.assertIsNone(client.lease)
        self.assertIsNone(client.received(good, 2.0))
        assert client.lease is not None
        self.assertEqual([str(item.value) for item in client.lease.items], ["2001:db8:5::/56"])


class PrefixTests(SynchronousTestCase):
    def test_hints(self) -> None:
        """A hint outside the pool, or of another length, gets a prefix of the pool's."""
        site = Site()
        self.addCleanup(site.service.stopService)
        for hint in ("2001:db8:5::/56", "2001:db8:100::/40", "2001:db8:100::/64", "::/0", "::1/128"):
            asked = o.IaPd(1, 0, 0, (o.IaPrefix(IPv6Network(hint), 0xFFFFFFFF, 0xFFFFFFFF),))
            ((prefix, *times),) = prefixes_in(site.ask(client_message(T.SOLICIT, asked)))
            self.assertTrue(IPv6Network(prefix).subnet_of(IPv6Network("2001:db8:100::/40")))
            self.assertEqual((IPv6Network(prefix).prefixlen, times), (56, [3600, 7200]))
