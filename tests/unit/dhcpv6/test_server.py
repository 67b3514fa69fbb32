"""The server's side of each exchange (RFC 9915, section 18.3), message by message."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.drivers.serving import CROWD
from m2mapp.dhcpv6.message import Message, RelayMessage
from m2mapp.dhcpv6.numbers import INFINITY, Status
from m2mapp.dhcpv6.numbers import MessageType as T
from m2mapp.dhcpv6.packet import build
from m2mapp.dhcpv6.pools import AddressPool, Lifetimes, PrefixPool
from m2mapp.dhcpv6.server import MAX_BINDINGS_OF_DUID, Terms
from m2mapp.model.errors import StorageFull
from tests.unit.dhcpv6.cases import RELAYED
from tests.unit.dhcpv6.parts import OWN, POOL, ROUTER, Site, addresses_in, client_message, prefixes_in, statuses_in

_DEVICES = AddressPool(IPv6Network("2001:db8:5::/64"), b"secret", Lifetimes(1800, 3600))
_HOUR = Lifetimes(1800, 3600)


def _ia(prefix: str | None = None, iaid: int = 1) -> o.IaPd:
    return o.IaPd(iaid, 0, 0, () if prefix is None else (o.IaPrefix(IPv6Network(prefix), 0, 0),))


def _ia_na(address: str | None = None, iaid: int = 1) -> o.IaNa:
    return o.IaNa(iaid, 0, 0, () if address is None else (o.IaAddress(IPv6Address(address), 0, 0),))


_REAL = [
    build(client_message(T.SOLICIT, o.RapidCommit(), _ia(), _ia_na())),
    build(client_message(T.REQUEST, _ia("2001:db8:1ab:cd00::/56"), _ia_na("2001:db8:5::1"), o.OptionRequest((65002,)), server=OWN)),
    build(client_message(T.RELEASE, _ia("2001:db8:1ab:cd00::/56"), server=OWN)),
    build(RELAYED),
]


def _changed(how: tuple[bytes, int, int]) -> bytes:
    """A real datagram with one byte changed."""
    data = bytearray(how[0])
    data[how[1] % len(data)] = how[2]
    return bytes(data)


class PrefixTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.service.stopService)

    def given(self, duid: bytes = b"\0\3\0\1router", iaid: int = 1) -> str:
        """The prefix that a Request gets."""
        reply = self.site.ask(client_message(T.REQUEST, _ia(iaid=iaid), duid=duid, server=OWN))
        return prefixes_in(reply)[0][0]

    def test_four_messages(self) -> None:
        """Solicit, Advertise, Request, Reply: what is offered is given, and stands in the tree before the Reply leaves."""
        offer = self.site.ask(client_message(T.SOLICIT, _ia()))
        assert offer is not None
        self.assertEqual((offer.type, offer.transaction_id, self.site.names()), (T.ADVERTISE, 0x010203, []))
        self.assertEqual(offer.options[:2], (o.ClientId(b"\0\3\0\1router"), o.ServerId(OWN)))
        reply = self.site.ask(client_message(T.REQUEST, _ia(), server=OWN))
        assert reply is not None
        self.assertEqual((reply.type, prefixes_in(reply)), (T.REPLY, prefixes_in(offer)))
        prefix, preferred_s, valid_s = prefixes_in(reply)[0]
        self.assertTrue(IPv6Network(prefix).subnet_of(IPv6Network("2001:db8:100::/40")))
        self.assertEqual((IPv6Network(prefix).prefixlen, preferred_s, valid_s), (56, 3600, 7200))
        resource = self.site.tree.get(("prefixes", "00030001726f75746572-1"))
        self.assertEqual((resource.attributes["prefix"], resource.attributes["clientAddress"]), (prefix, "fe80::2"))
        self.assertEqual(self.site.sent[-1][1], ROUTER)

    def test_reply_waits_for_the_disk(self) -> None:
        """No Reply leaves before the binding is durable, and none at all where the disk fails: the prefix is then free again."""
        self.site.committer.hold()
        self.assertIsNone(self.site.ask(client_message(T.REQUEST, _ia(), server=OWN)))
        self.site.committer.fail_held(StorageFull())
        self.assertEqual((self.site.sent, len(self.site.bindings)), ([], 0))
        self.site.committer.hold()
        self.assertIsNone(self.site.ask(client_message(T.REQUEST, _ia(), server=OWN)))
        self.site.committer.release()
        self.assertEqual(len(self.site.sent), 1)

    def test_promised_to_one(self) -> None:
        """Two clients that ask for the same prefix while the disk is slow do not both get it."""
        wanted = "2001:db8:1ab:cd00::/56"
        self.site.committer.hold()
        for duid in (b"\0\3\0\1first", b"\0\3\0\1second"):
            self.site.receive(client_message(T.REQUEST, _ia(wanted), duid=duid, server=OWN))
        self.site.committer.release()
        given = [prefixes_in(reply)[0][0] for reply, _ in self.site.sent if isinstance(reply, Message)]
        self.assertEqual((given[0], len(set(given))), (wanted, 2))

    def test_two_want_the_same(self) -> None:
        """Two IAs of one message that name the same prefix do not both get it."""
        wanted = "2001:db8:1ab:cd00::/56"
        reply = self.site.ask(client_message(T.REQUEST, _ia(wanted, 1), _ia(wanted, 2), server=OWN))
        given = [prefix for prefix, _, _ in prefixes_in(reply)]
        self.assertEqual((given[0], len(set(given)), len(self.site.names())), (wanted, 2, 2))

    def test_same_again(self) -> None:
        """A client keeps its prefix over Renew, Rebind, a second Solicit and a restart of the server; two IAs have one each."""
        prefix = self.given()
        self.site.restart()
        for kind, server in ((T.RENEW, OWN), (T.REBIND, None), (T.SOLICIT, None)):
            reply = self.site.ask(client_message(kind, _ia(prefix), server=server))
            self.assertEqual(prefixes_in(reply), [(prefix, 3600, 7200)], kind)
        self.assertNotEqual(self.given(iaid=2), prefix)
        self.assertEqual(len(self.site.names()), 2)

    def test_t1_and_t2(self) -> None:
        """T1 and T2 are half and four fifths of the shortest preferred lifetime, the same in all IAs; without end they are, too."""
        reply = self.site.ask(client_message(T.REQUEST, _ia(iaid=1), _ia(iaid=2), server=OWN))
        assert reply is not None
        self.assertEqual([(ia.t1_s, ia.t2_s) for ia in o.every(reply.options, o.IaPd)], [(1800, 2880)] * 2)
        both = Site(Terms(addresses=lambda *_: _DEVICES, prefixes=POOL))
        self.addCleanup(both.service.stopService)
        reply = both.ask(client_message(T.SOLICIT, _ia(), _ia_na()))
        assert reply is not None
        self.assertEqual([(ia.t1_s, ia.t2_s) for ia in reply.options if isinstance(ia, o.IaPd | o.IaNa)], [(900, 1440)] * 2)
        endless = Site(Terms(prefixes=PrefixPool(IPv6Network("2001:db8::/32"), 48, Lifetimes(INFINITY, INFINITY))))
        self.addCleanup(endless.service.stopService)
        reply = endless.ask(client_message(T.REQUEST, _ia(), server=OWN))
        assert reply is not None
        self.assertEqual([(ia.t1_s, ia.t2_s) for ia in o.every(reply.options, o.IaPd)], [(INFINITY, INFINITY)])
        self.assertEqual(len(endless.clock.getDelayedCalls()), 1)  # that of the interface

    def test_rapid_commit(self) -> None:
        """A Solicit with Rapid Commit gets its Reply at once, and the binding stands."""
        reply = self.site.ask(client_message(T.SOLICIT, o.RapidCommit(), _ia()))
        assert reply is not None
        self.assertEqual((reply.type, len(self.site.names())), (T.REPLY, 1))
        self.assertIsNotNone(o.first(reply.options, o.RapidCommit))

    def test_release(self) -> None:
        """What is released is free; a prefix that the client does not have is answered with NoBinding, and nothing is freed."""
        prefix = self.given()
        other = self.site.ask(client_message(T.RELEASE, _ia("2001:db8:1ff::/56"), server=OWN))
        self.assertEqual((statuses_in(other), len(self.site.names())), ([Status.SUCCESS, Status.NO_BINDING], 1))
        done = self.site.ask(client_message(T.RELEASE, _ia(prefix), server=OWN))
        self.assertEqual((statuses_in(done), self.site.names(), len(self.site.bindings)), ([Status.SUCCESS], [], 0))

    def test_client_that_asks_for_a_thousand(self) -> None:
        """One DUID gets so many bindings and no more; the IAs beyond are told so."""
        for first in range(0, MAX_BINDINGS_OF_DUID * 2, 8):
            reply = self.site.ask(client_message(T.REQUEST, *(_ia(iaid=first + number) for number in range(8)), server=OWN))
        self.assertEqual(len(self.site.names()), MAX_BINDINGS_OF_DUID)
        self.assertEqual(statuses_in(reply), [Status.NO_PREFIX_AVAIL] * 8)

    def test_addresses_where_only_prefixes_are_given(self) -> None:
        """An IA_NA at a delegating server gets NoAddrsAvail; the IA_PD beside it its prefix."""
        reply = self.site.ask(client_message(T.REQUEST, _ia_na(), _ia(), server=OWN))
        self.assertEqual((statuses_in(reply), len(prefixes_in(reply))), ([Status.NO_ADDRS_AVAIL], 1))

    def test_confirm_is_not_judged(self) -> None:
        """A delegating server cannot say which addresses are right on a link: silence."""
        self.assertIsNone(self.site.ask(client_message(T.CONFIRM, _ia_na("2001:db8::1"))))


class AddressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(Terms(addresses=lambda *_: _DEVICES))
        self.addCleanup(self.site.service.stopService)

    def given(self, duid: bytes = b"\0\3\0\1device") -> str:
        """The address that a Request gets."""
        return addresses_in(self.site.ask(client_message(T.REQUEST, _ia_na(), duid=duid, server=OWN)))[0][0]

    def test_stable(self) -> None:
        """A device has the same address again after it was released, and another than its neighbour; it is below its DUID and IAID."""
        address = self.given()
        self.assertIn(IPv6Address(address), IPv6Network("2001:db8:5::/64"))
        self.assertEqual(self.site.tree.get(("leases", "00030001646576696365", "1")).attributes["address"], address)
        self.assertNotEqual(self.given(b"\0\3\0\1other"), address)
        self.site.ask(client_message(T.RELEASE, _ia_na(address), duid=b"\0\3\0\1device", server=OWN))
        self.assertIsNone(self.site.tree.find(("leases", "00030001646576696365")))
        self.assertEqual(self.given(), address)

    def test_decline(self) -> None:
        """A declined address is set aside, also over a restart, until its time is over; the device gets another."""
        address = self.given()
        reply = self.site.ask(client_message(T.DECLINE, _ia_na(address), duid=b"\0\3\0\1device", server=OWN))
        self.assertEqual(statuses_in(reply), [Status.SUCCESS])
        self.site.restart()
        second = self.given()
        self.assertNotEqual(second, address)
        self.assertEqual(self.site.tree.get(("leases", "declined", address)).attributes["state"], "declined")
        self.site.clock.advance(3600 + 61)
        self.assertEqual(self.site.names("leases"), [])
        self.assertEqual(self.given(), address)

    def test_client_that_declines_all(self) -> None:
        """A client that declines whatever it gets has so many set aside and gets no more; others do."""
        for _ in range(MAX_BINDINGS_OF_DUID):
            declined = _ia_na(self.given())
            self.site.ask(client_message(T.DECLINE, declined, duid=b"\0\3\0\1device", server=OWN))
        reply = self.site.ask(client_message(T.REQUEST, _ia_na(), duid=b"\0\3\0\1device", server=OWN))
        self.assertEqual((statuses_in(reply), addresses_in(reply)), ([Status.NO_ADDRS_AVAIL], []))
        self.given(b"\0\3\0\1other")
        self.site.clock.advance(3600 + 61)
        self.given()

    def test_confirm(self) -> None:
        """Addresses of this link are confirmed, others are not; without addresses there is nothing to say."""
        for address, status in (("2001:db8:5::1", Status.SUCCESS), ("2001:db8:6::1", Status.NOT_ON_LINK)):
            self.assertEqual(statuses_in(self.site.ask(client_message(T.CONFIRM, _ia_na(address)))), [status])
        self.assertIsNone(self.site.ask(client_message(T.CONFIRM, _ia_na())))

    def test_request_for_another_link(self) -> None:
        """A Request for an address of another prefix gets NotOnLink, and nothing is given."""
        reply = self.site.ask(client_message(T.REQUEST, _ia_na("2001:db8:6::1"), server=OWN))
        self.assertEqual((statuses_in(reply), addresses_in(reply), self.site.names("leases")), ([Status.NOT_ON_LINK], [], []))

    def test_renew_of_what_is_not_ours(self) -> None:
        """A Renew or Rebind with an address of an old prefix: that one has no lifetime left, and a new one is given."""
        for kind, server in ((T.RENEW, OWN), (T.REBIND, None)):
            found = addresses_in(self.site.ask(client_message(kind, _ia_na("2001:db8:6::1"), server=server)))
            self.assertEqual((found[0][1:], found[1:]), ((1800, 3600), [("2001:db8:6::1", 0, 0)]), kind)

    def test_expiry(self) -> None:
        """A binding ends with its valid lifetime and some grace, and nothing of it is left; renewed, it stands on."""
        self.given()
        self.site.clock.advance(3000)
        self.given()
        self.site.clock.advance(3600)
        self.assertEqual(len(self.site.bindings), 1)
        self.site.clock.advance(61)
        self.assertEqual((len(self.site.bindings), self.site.names("leases"), len(self.site.clock.getDelayedCalls())), (0, [], 1))

    def test_information_request(self) -> None:
        """An Information-request gets the options and how long they hold, and makes no binding."""
        site = Site(Terms(addresses=lambda *_: _DEVICES, bootstrap=lambda: Bootstrap("coap://bs", b"der"), refresh_s=600))
        self.addCleanup(site.service.stopService)
        reply = site.ask(Message(T.INFORMATION_REQUEST, 5, (o.OptionRequest((65002,)),)))
        assert reply is not None
        expected = (o.ServerId(OWN), o.InformationRefreshTime(600), o.Opaque(65001, b"coap://bs"), o.Opaque(65002, b"der"))
        self.assertEqual((reply.options, site.names("leases")), (expected, []))


class BootstrapTests(SynchronousTestCase):
    def test_told_with_the_address(self) -> None:
        """The URI comes asked for or not, the certificate only to who asks; the binding says what its client was told."""
        site = Site(Terms(addresses=lambda *_: _DEVICES, bootstrap=lambda: Bootstrap("coap://bs", b"der")))
        self.addCleanup(site.service.stopService)
        plain = site.ask(client_message(T.REQUEST, _ia_na(), server=OWN))
        assert plain is not None
        self.assertEqual((o.opaque(plain.options, 65001), o.opaque(plain.options, 65002)), (b"coap://bs", None))
        asked = site.ask(client_message(T.RENEW, _ia_na(), o.OptionRequest((65002,)), server=OWN))
        assert asked is not None
        self.assertEqual((o.opaque(asked.options, 65001), o.opaque(asked.options, 65002)), (b"coap://bs", b"der"))
        kept = site.tree.children(("leases", b"\0\3\0\1router".hex()))[0].attributes
        self.assertEqual(kept["bootstrapURI"], "coap://bs")
        self.assertRegex(str(kept["certificate"]), r"^sha256:[0-9a-f]{64}$")


class ArrivalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site()
        self.addCleanup(self.site.service.stopService)

    def test_relayed(self) -> None:
        """A message that came through two relay agents goes back through both, to the nearer one's server port, with Interface-Ids."""
        link, near, far = IPv6Address("2001:db8:9::1"), IPv6Address("fe80::9"), IPv6Address("fe80::a")
        inner = RelayMessage(T.RELAY_FORW, 0, link, far, (o.InterfaceId(b"port 3"), o.RelayedMessage(client_message(T.SOLICIT, _ia()))))
        outer = RelayMessage(T.RELAY_FORW, 1, IPv6Address(0), near, (o.RelayedMessage(inner),))
        self.site.receive(outer, source=("2001:db8:8::1", 547, 0, 0), destination="2001:db8:8::2")
        ((reply, to),) = self.site.sent
        assert isinstance(reply, RelayMessage)
        self.assertEqual(to, ("2001:db8:8::1", 547, 0, 0))
        self.assertEqual((reply.type, reply.hop_count, reply.peer_address), (T.RELAY_REPL, 1, near))
        second = o.first(reply.options, o.RelayedMessage)
        assert second is not None and isinstance(second.message, RelayMessage)
        self.assertEqual((second.message.link_address, second.message.peer_address), (link, far))
        self.assertEqual(second.message.options[0], o.InterfaceId(b"port 3"))
        third = o.first(second.message.options, o.RelayedMessage)
        assert third is not None and isinstance(third.message, Message)
        self.assertEqual(third.message.type, T.ADVERTISE)

    def test_not_answered(self) -> None:
        """Silence for what is malformed, for another server, for no server, by unicast, or on an interface that is not served."""
        ask = client_message(T.SOLICIT, _ia())
        self.site.receive(b"\x01\0\0")
        self.site.receive(client_message(T.REQUEST, _ia(), server=b"\0\3\0\1elsewhere"))
        self.site.receive(client_message(T.ADVERTISE, _ia(), server=OWN))
        self.site.receive(ask, destination="2001:db8::1")
        self.site.receive(ask, interface=8)
        self.site.receive(RelayMessage(T.RELAY_FORW, 0, IPv6Address(0), IPv6Address(0)))
        self.site.receive(RelayMessage(T.RELAY_REPL, 0, IPv6Address(0), IPv6Address(0), (o.RelayedMessage(ask),)))
        self.assertEqual((self.site.sent, self.site.names(), self.site.errors), ([], [], []))
        self.site.receive(ask)
        self.assertEqual(len(self.site.sent), 1)

    def test_no_room_for_the_reply(self) -> None:
        """What a relay agent wants returned leaves no room for the reply: none is sent, and those that share its commit are."""
        self.site.terms = replace(self.site.terms, bootstrap=lambda: Bootstrap("coap://bs", bytes(2000)))
        self.site.restart()
        ask = client_message(T.REQUEST, _ia(), o.OptionRequest((65002,)), server=OWN)
        link, peer = IPv6Address("2001:db8::1"), IPv6Address("fe80::9")
        near = RelayMessage(T.RELAY_FORW, 0, link, peer, (o.InterfaceId(bytes(64_000)), o.RelayedMessage(ask)))
        self.site.service.serving.gather_s = 1.0
        self.given_to(b"\0\3\0\1first")
        self.site.receive(RelayMessage(T.RELAY_FORW, 1, link, peer, (o.RelayedMessage(near),)))
        self.given_to(b"\0\3\0\1last")
        self.site.clock.advance(1)
        self.assertEqual((len(self.site.sent), len(self.site.names()), self.site.errors), (2, 3, []))

    def given_to(self, duid: bytes) -> None:
        """Another client's Request comes."""
        self.site.receive(client_message(T.REQUEST, _ia(), duid=duid, server=OWN))

    def test_flood(self) -> None:
        """While the disk is slow so many messages wait and no more; the newest are dropped, and those before are answered."""
        self.patch(type(self.site.service.serving), "most", 3)
        self.site.committer.hold()
        for number in range(10):
            self.site.receive(client_message(T.REQUEST, _ia(), duid=b"\0\3\0\1%d" % number, server=OWN))
        self.site.committer.release()
        self.assertEqual((len(self.site.sent), len(self.site.names())), (3, 3))

    def test_crowd(self) -> None:
        """While many datagrams wait Solicits are dropped; Requests are answered."""
        self.site.datagrams.port.crowd = CROWD
        self.assertIsNone(self.site.ask(client_message(T.SOLICIT, _ia())))
        self.assertEqual(len(prefixes_in(self.site.ask(client_message(T.REQUEST, _ia(), server=OWN)))), 1)
        self.site.datagrams.port.crowd = CROWD - 1
        self.assertIsNotNone(self.site.ask(client_message(T.SOLICIT, _ia())))
        self.assertEqual(self.site.metrics.counter("m2mapp_dhcpv6_shed_total", "").value, 1)


class AnyBytesTests(SynchronousTestCase):
    @given(st.one_of(st.binary(max_size=100), st.tuples(st.sampled_from(_REAL), st.integers(0, 200), st.integers(0, 255)).map(_changed)))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes in, nothing is raised or logged, one reply leaves at most, and the next good request is answered."""
        site = Site(Terms(addresses=lambda *_: _DEVICES, prefixes=PrefixPool(IPv6Network("2001:db8:100::/40"), 56, _HOUR)))
        site.receive(data)
        self.assertLessEqual(len(site.sent), 1)
        self.assertIsNotNone(site.ask(client_message(T.SOLICIT, _ia(), _ia_na())))
        self.assertEqual((site.errors, self.flushLoggedErrors()), ([], []))
        site.service.stopService()


class ServiceTests(SynchronousTestCase):
    def test_interface_comes_late(self) -> None:
        """An interface that is not there at the start is served once it is; stopping leaves nothing behind."""
        site = Site()
        site.service.stopService()
        site.datagrams.interfaces.clear()
        site.start()
        self.assertEqual(site.ask(client_message(T.SOLICIT, _ia())), None)
        site.datagrams.interfaces["isp0"] = 7
        site.clock.advance(5)
        self.assertIsNotNone(site.ask(client_message(T.SOLICIT, _ia())))
        self.assertEqual((site.datagrams.opened, site.datagrams.port.joined[-2:]), (("::", 547), [("ff02::1:2", 7), ("ff05::1:3", 7)]))
        site.service.stopService()
        self.assertEqual((site.clock.getDelayedCalls(), site.datagrams.port.stopped), ([], True))

    def test_interface_comes_back_as_another(self) -> None:
        """An interface that went is served no more; when it is back, under another index, it is joined on and served."""
        site = Site()
        self.addCleanup(site.service.stopService)
        site.datagrams.interfaces.clear()
        site.clock.advance(5)
        self.assertEqual(site.datagrams.port.joined, [])
        self.assertIsNone(site.ask(client_message(T.SOLICIT, _ia())))
        site.datagrams.interfaces["isp0"] = 17
        site.clock.advance(5)
        self.assertEqual(site.datagrams.port.joined, [("ff02::1:2", 17), ("ff05::1:3", 17)])
        site.receive(client_message(T.SOLICIT, _ia()), interface=17)
        self.assertEqual(len(site.sent), 1)
        site.datagrams.interfaces["isp0"] = 18
        site.clock.advance(5)
        self.assertEqual(site.datagrams.port.joined, [("ff02::1:2", 18), ("ff05::1:3", 18)])

    def test_stopped_while_the_disk_is_slow(self) -> None:
        """What was under way when the servers stopped is kept, and nothing is sent."""
        site = Site()
        site.committer.hold()
        site.receive(client_message(T.REQUEST, _ia(), server=OWN))
        site.service.stopService()
        site.committer.release()
        self.assertEqual((site.sent, len(site.names()), site.clock.getDelayedCalls()), ([], 1, []))
