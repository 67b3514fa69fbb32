"""The devices' server as a whole: renumbering, Reconfigure, relay agents, reservations, and who counts as leased."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.client import Item, Lease
from m2mapp.dhcpv6.downlink import delegations_of, lifetimes_of
from m2mapp.dhcpv6.drivers.reconfiguring import BATCH, TURN_S
from m2mapp.dhcpv6.links import Delegation
from m2mapp.dhcpv6.message import Message, RelayMessage
from m2mapp.dhcpv6.numbers import INFINITY, Status
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.packet import build, parse
from m2mapp.dhcpv6.pools import Lifetimes
from m2mapp.dhcpv6.server import MAX_OLD
from m2mapp.dhcpv6.service import bootstrap_sources
from m2mapp.dhcpv6.settings import Dhcpv6Settings, DownlinkSettings
from m2mapp.model.errors import Malformed
from tests.certificates import issue
from tests.unit.dhcpv6.downlink_case import DownlinkCase
from tests.unit.dhcpv6.downlink_parts import BEHIND, DEVICE, DEVICE_ADDRESS, NEW, OLD, DownlinkSite, holding
from tests.unit.dhcpv6.parts import OWN, addresses_in, client_message, statuses_in
from tests.unit.fakes import FakeClock


class RenumberingTests(DownlinkCase):
    def test_old_and_new(self) -> None:
        """After the exchange a Renew gives a new address, and the old one with nothing left to prefer and what is left to use."""
        ((old, *_),) = self.site.given(T.REQUEST)
        self.site.prefixes.exchange(Delegation(NEW))
        new, deprecated = self.site.given(T.RENEW, holding(old))
        self.assertTrue(IPv6Address(new[0]) in NEW)
        self.assertEqual((new[1:], deprecated), ((3600, 7200), (old, 0, 7200)))
        self.assertEqual((self.lease()["address"], self.lease()["deprecated"]), (new[0], [old]))
        self.assertTrue(self.site.servers.bindings.holds(old))

    def test_until_it_is_over(self) -> None:
        """The old address goes with its prefix: told so, and no longer this client's."""
        ((old, *_),) = self.site.given(T.REQUEST)
        self.site.prefixes.exchange(Delegation(NEW))
        self.site.given(T.RENEW, holding(old))
        self.site.clock.advance(7000)
        new, deprecated = self.site.given(T.RENEW, holding(self.lease()["address"], old))  # type: ignore[arg-type]
        self.assertEqual(deprecated, (old, 0, 200))
        self.site.clock.advance(300)
        self.assertEqual(self.site.given(T.RENEW, holding(new[0], old))[1], (old, 0, 0))
        self.assertFalse(self.site.servers.bindings.holds(old))
        self.assertNotIn("deprecated", self.lease())

    def test_nothing_new(self) -> None:
        """Where the prefix went and none came, the address is kept, deprecated, and T1 follows from what is left."""
        ((old, *_),) = self.site.given(T.REQUEST)
        self.site.prefixes.exchange()
        reply = self.site.ask(client_message(T.RENEW, holding(old), duid=DEVICE, server=OWN))
        assert isinstance(reply, Message)
        self.assertEqual((addresses_in(reply), statuses_in(reply)), ([(old, 0, 7200)], []))
        self.assertEqual([(ia.t1_s, ia.t2_s) for ia in o.every(reply.options, o.IaNa)], [(3600, 5760)])

    def test_no_prefix(self) -> None:
        """Without a prefix a device gets a status code and the bootstrap service; it is counted."""
        self.site.prefixes.exchange()
        self.site.clock.advance(7201)
        reply = self.site.ask(client_message(T.SOLICIT, o.IaNa(1), duid=DEVICE))
        assert isinstance(reply, Message)
        self.assertEqual(statuses_in(reply), [Status.NO_ADDRS_AVAIL])
        self.assertEqual(o.opaque(reply.options, 65001), b"coap://[2001:db8::b5]")
        self.assertEqual(self.site.metrics.counter("m2mapp_dhcpv6_refused_total", "").value, 1)

    def test_prefix_not_known_yet(self) -> None:
        """A gateway that starts before its uplink has a prefix says nothing to who renews or confirms: the device keeps what it has."""
        ((address, *_),) = self.site.given(T.REQUEST)
        self.site.stop()
        self.site.prefixes.delegations = ()
        self.site.start()
        for kind, server in ((T.RENEW, OWN), (T.REBIND, None), (T.CONFIRM, None)):
            self.assertIsNone(self.site.ask(client_message(kind, holding(address), duid=DEVICE, server=server)), kind)
        reply = self.site.ask(client_message(T.REQUEST, holding(address), duid=DEVICE, server=OWN))
        assert isinstance(reply, Message)
        self.assertEqual(statuses_in(reply), [Status.NO_ADDRS_AVAIL])
        self.site.prefixes.exchange(Delegation(OLD))
        self.assertEqual(self.site.given(T.RENEW, holding(address)), [(address, 3600, 7200)])

    def test_of_the_uplink(self) -> None:
        """The uplink's lease gives the prefixes, each until its own ends."""
        lease = Lease(b"isp", (Item(OLD, 600, INFINITY, 10.0), Item(NEW, INFINITY, 900, 20.0)), 1.0, 2.0, 10.0)
        self.assertEqual(delegations_of(lease), (Delegation(OLD, 610.0), Delegation(NEW, valid_until_s=920.0)))
        self.assertEqual(delegations_of(None), ())

    def test_never_beyond_the_prefix(self) -> None:
        """What a device is given ends with the prefix at the latest."""
        self.site.prefixes.exchange(Delegation(OLD, 600.0, 900.0))
        self.assertEqual(self.site.given(T.REQUEST)[0][1:], (600, 900))

    def test_moved_to_another_link(self) -> None:
        """A device that is plugged in elsewhere is not on link there, and gets an address of that link."""
        ((old, *_),) = self.site.given(T.REQUEST)
        other = ("fe80::d1", 546, 0, 8)
        reply = self.site.ask(client_message(T.CONFIRM, holding(old), duid=DEVICE), other)
        assert isinstance(reply, Message)
        self.assertEqual(statuses_in(reply), [Status.NOT_ON_LINK])
        reply = self.site.ask(client_message(T.REQUEST, o.IaNa(1), duid=DEVICE, server=OWN), other)
        assert isinstance(reply, Message)
        self.assertNotIn(IPv6Address(addresses_in(reply)[0][0]), self.own_prefix())
        self.assertFalse(self.site.servers.bindings.holds(old))

    def test_again_and_again(self) -> None:
        """Of the addresses of many prefixes that were exchanged a device may use the last few on; the others end."""
        ((held, *_),) = self.site.given(T.REQUEST)
        for number in range(MAX_OLD + 2):
            self.site.prefixes.exchange(Delegation(IPv6Network(f"2001:db8:{number + 16:x}::/48")))
            held = self.site.given(T.RENEW, holding(held))[0][0]
        old = self.lease()["deprecated"]
        assert isinstance(old, list | tuple)
        self.assertEqual(len(old), MAX_OLD)


class ReconfigureTests(DownlinkCase):
    def agree(self) -> bytes:
        """A device that accepts Reconfigure asks; the key that it gets."""
        reply = self.site.ask(client_message(T.REQUEST, o.IaNa(1), o.ReconfigureAccept(), duid=DEVICE, server=OWN))
        assert isinstance(reply, Message)
        agreed = o.first(reply.options, o.Authentication)
        assert agreed is not None
        self.assertIsNotNone(o.first(reply.options, o.ReconfigureAccept))
        self.assertEqual((agreed.protocol, agreed.algorithm, agreed.rdm, agreed.information[0], len(agreed.information)), (3, 1, 0, 1, 17))
        self.replay = agreed.replay_detection
        return agreed.information[1:]

    def told(self) -> list[Message]:
        """The Reconfigures that were sent."""
        return [message for message, _ in self.site.datagrams.port.sent if isinstance(message, Message) and message.type is T.RECONFIGURE]

    def test_signed(self) -> None:
        """After an exchange of the prefix the device is told to Renew, with a digest that its key makes and a higher counter."""
        key = self.agree()
        self.site.prefixes.exchange(Delegation(NEW))
        self.site.clock.advance(0.2)
        (message,) = self.told()
        self.assertEqual(self.site.datagrams.port.sent[-1][1], ("fe80::d1", 546, 0, 7))
        self.assertEqual(message.options[:3], (o.ClientId(DEVICE), o.ServerId(OWN), o.ReconfigureMessage(T.RENEW)))
        auth = o.first(message.options, o.Authentication)
        assert auth is not None
        self.assertGreater(auth.replay_detection, self.replay)
        data = build(message)
        self.assertEqual(auth.information[1:], hmac.digest(key, data[:-16] + bytes(16), hashlib.md5))
        self.assertEqual(parse(data), message)

    def test_not_any_more(self) -> None:
        """A device that renews is told on; one that asks anew, and does not say again that it accepts Reconfigure, is not."""
        self.agree()
        self.site.given(T.RENEW, holding(str(self.lease()["address"])))
        self.assertIs(self.lease()["reconfigure"], True)
        self.site.given(T.REQUEST)
        self.assertNotIn("reconfigure", self.lease())

    def test_not_all_at_once(self) -> None:
        """Of many devices some are told in each turn: what all of them answer has to be kept on disk."""
        for number in range(2 * BATCH + 1):
            ask = client_message(T.REQUEST, o.IaNa(1), o.ReconfigureAccept(), duid=b"\0\3\0\1%03d" % number, server=OWN)
            self.site.ask(ask)
        self.site.prefixes.exchange(Delegation(NEW))
        for told in (BATCH, 2 * BATCH, 2 * BATCH + 1):
            self.site.clock.advance(TURN_S)
            self.assertEqual(len(self.told()), told)

    def test_until_it_asks(self) -> None:
        """It is told with growing pauses, eight times at most, and no more once it has asked."""
        self.agree()
        self.site.prefixes.exchange(Delegation(NEW))
        self.site.clock.pump([0.5] * 8)
        self.assertEqual(len(self.told()), 2)
        self.site.given(T.RENEW, holding(str(self.lease()["address"])))
        self.site.clock.pump([10] * 100)
        self.assertEqual(len(self.told()), 2)
        self.site.prefixes.exchange(Delegation(OLD))
        self.site.clock.pump([1] * 1200)
        self.assertEqual(len(self.told()), 2 + 8)
        self.assertEqual(self.site.metrics.counter("m2mapp_dhcpv6_reconfigures_unheard_total", "").value, 1)

    def test_after_a_restart(self) -> None:
        """A node that starts with another bootstrap service than its devices know tells them; those who know it are left alone."""
        self.agree()
        self.site.stop()
        self.site.start()
        self.site.clock.advance(1)
        self.assertEqual(self.told(), [])
        self.site.stop()
        self.site.bootstrap = Bootstrap("coap://elsewhere")
        self.site.start()
        self.site.clock.advance(1)
        self.assertEqual(len(self.told()), 1)

    def test_reserved(self) -> None:
        """A device for which another address is reserved is told at once; one that has it already is not."""
        self.agree()
        self.reserve(self.own_prefix()[0xD1])
        self.site.clock.advance(0.2)
        self.assertEqual(len(self.told()), 1)
        given = self.site.given(T.RENEW, holding(str(self.lease()["address"])))
        self.reserve(given[0][0])
        self.site.clock.pump([1] * 10)
        self.assertEqual(len(self.told()), 1)

    def test_not_agreed(self) -> None:
        """A device that did not accept it, and one behind a relay agent, get no key and are not told."""
        self.site.given(T.REQUEST)
        inner = client_message(T.REQUEST, o.IaNa(1), o.ReconfigureAccept(), duid=b"\0\3\0\1far", server=OWN)
        reply = self.site.ask(_relayed(inner))
        assert isinstance(reply, RelayMessage)
        self.assertNotIn(o.Authentication, {type(option) for option in _inner(reply).options})
        self.site.prefixes.exchange(Delegation(NEW))
        self.site.clock.advance(1)
        self.assertEqual(self.told(), [])


def _relayed(message: Message, link: IPv6Address = BEHIND, hops: int = 0) -> RelayMessage:
    return RelayMessage(T.RELAY_FORW, hops, link, IPv6Address("fe80::d1"), (o.InterfaceId(b"port 3"), o.RelayedMessage(message)))


def _inner(reply: RelayMessage) -> Message:
    inner = o.first(reply.options, o.RelayedMessage)
    assert inner is not None
    assert isinstance(inner.message, Message)
    return inner.message


class RelayTests(DownlinkCase):
    def test_link_of_the_relay_agent(self) -> None:
        """A device behind a relay agent gets an address of the /64 that the agent names; the reply goes back with its Interface-Id."""
        reply = self.site.ask(_relayed(client_message(T.REQUEST, o.IaNa(1), duid=DEVICE, server=OWN)))
        assert isinstance(reply, RelayMessage)
        self.assertEqual(o.first(reply.options, o.InterfaceId), o.InterfaceId(b"port 3"))
        ((address, *_),) = addresses_in(_inner(reply))
        self.assertIn(IPv6Address(address), IPv6Network("2001:db8:a:77::/64"))
        self.assertEqual(self.site.datagrams.port.sent[-1][1][1], 547)

    def test_two_agents(self) -> None:
        """Of several agents the one nearest to the device says which link; one on layer 2 (RFC 6221) and a link-local one say nothing."""
        nearest = _relayed(client_message(T.REQUEST, o.IaNa(1), duid=DEVICE, server=OWN), IPv6Address("::"))
        near = RelayMessage(T.RELAY_FORW, 0, IPv6Address("fe80::7"), IPv6Address("fe80::1"), (o.RelayedMessage(nearest),))
        middle = RelayMessage(T.RELAY_FORW, 1, BEHIND, IPv6Address("fe80::2"), (o.RelayedMessage(near),))
        far = RelayMessage(T.RELAY_FORW, 2, IPv6Address("2001:db8:a:78::1"), IPv6Address("fe80::3"), (o.RelayedMessage(middle),))
        reply: object = self.site.ask(far)
        for _ in range(4):
            assert isinstance(reply, RelayMessage)
            inner = o.first(reply.options, o.RelayedMessage)
            assert inner is not None
            reply = inner.message
        assert isinstance(reply, Message)
        self.assertIn(IPv6Address(addresses_in(reply)[0][0]), IPv6Network("2001:db8:a:77::/64"))

    def test_elsewhere(self) -> None:
        """An agent whose link is of none of our prefixes gets a status code for its device."""
        reply = self.site.ask(_relayed(client_message(T.SOLICIT, o.IaNa(1), duid=DEVICE), IPv6Address("2001:db8:c::1")))
        assert isinstance(reply, RelayMessage)
        self.assertEqual(statuses_in(_inner(reply)), [Status.NO_ADDRS_AVAIL])


class AccessTests(DownlinkCase):
    def test_leased(self) -> None:
        """An address counts as leased while a device has it; whoever remembers is told of each change, not of renewals."""
        moved: list[None] = []
        self.site.servers.bindings.on_moved = lambda: moved.append(None)
        ((address, *_),) = self.site.given(T.REQUEST)
        holds = self.site.servers.bindings.holds
        self.assertEqual((holds(address), holds(address + "%lan0"), holds("2001:db8::1"), holds("192.0.2.1")), (True, True, False, False))
        self.site.given(T.RENEW, holding(address))
        self.assertEqual(len(moved), 1)
        self.site.given(T.RELEASE, holding(address))
        self.assertEqual((holds(address), len(moved)), (False, 2))

    def test_declined(self) -> None:
        """An address that was declined is nobody's."""
        ((address, *_),) = self.site.given(T.REQUEST)
        self.site.given(T.DECLINE, holding(address))
        self.assertFalse(self.site.servers.bindings.holds(address))


class LifetimeTests(SynchronousTestCase):
    def test_at_most(self) -> None:
        """Addresses are preferred for half of the time for which they are valid; without end where that is."""
        for valid_s, preferred_s in ((7200, 3600), (INFINITY, INFINITY)):
            self.assertEqual(lifetimes_of(DownlinkSettings(("lan0",), OLD, "", "", valid_s)), Lifetimes(preferred_s, valid_s))


class SizeTests(SynchronousTestCase):
    def test_fits(self) -> None:
        """The certificate goes to who asks for it: other replies stay small. One that does not fit a small packet is counted."""
        site = DownlinkSite(Bootstrap("coaps://bs", bytes(1200)))
        self.addCleanup(site.stop)
        large = site.metrics.counter("m2mapp_dhcpv6_large_replies_total", "")
        for wanted, size, count in ((23, 200, 0), (65002, 1400, 1)):
            reply = site.ask(client_message(T.SOLICIT, o.IaNa(1), o.OptionRequest((wanted,)), duid=DEVICE))
            assert reply is not None
            self.assertLess(len(build(reply)), size)
            self.assertEqual(large.value, count)

    def test_certificate_that_fits_nowhere(self) -> None:
        """A file with a certificate that no message could hold is refused, with its size and what would be right."""
        file = Path(self.mktemp())
        file.write_bytes(issue(*(f"device-{number}.example.org" for number in range(800))).der)
        settings = Dhcpv6Settings(downlink=DownlinkSettings(("lan0",), OLD, "coaps://bs", str(file), 7200))
        fault = self.assertRaises(Malformed, bootstrap_sources, settings, FakeClock())
        self.assertIn("[dhcpv6.downlink] certificate", fault.detail)
        self.assertIn("at most 16384 bytes", fault.detail)


class NameServerTests(DownlinkCase):
    def test_asked_for(self) -> None:
        """Name servers are told to a device that asks for them."""
        for wanted, expected in (((), None), ((23,), o.DnsServers((IPv6Address("2001:db8::53"),)))):
            message = client_message(T.SOLICIT, o.IaNa(1), o.OptionRequest(wanted), duid=DEVICE)
            reply = self.site.ask(message, DEVICE_ADDRESS)
            assert isinstance(reply, Message)
            self.assertEqual(o.first(reply.options, o.DnsServers), expected)
