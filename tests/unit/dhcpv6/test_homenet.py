"""The bootstrap address from HNCP: TLVs, what is asked of whom, and what is not believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes
from m2mapp.dhcpv6.drivers.homenet import LOOK_AGAIN_S, HomenetListening
from m2mapp.dhcpv6.hncp import MAX_TLVS, Told, bootstrap_of, build_request, digest_of, network_digest, parse_told
from m2mapp.dhcpv6.homenet import MOST_NODES, PAUSE_S, SILENCE_S, Homenet
from m2mapp.dhcpv6.message import MalformedMessage
from m2mapp.model.metrics import Metrics
from m2mapp.net.interfaces import Sockaddr
from tests.unit.dhcpv6.homenet_parts import HomenetPeer, external, md5_64, option, tlv
from tests.unit.dhcpv6.parts import RecordingDatagrams, RecordingPort

_OWN, _A, _B = b"\0\0\0\1", b"\x0a\0\0\0", b"\x0b\0\0\0"
_URI = b"coaps://bs.example.org:5684"
_TOLD = external(option(23, bytes(15) + b"\1"), option(65001, _URI))
_SERVICE = Bootstrap(_URI.decode())
_REQUEST = bytes.fromhex("00030008" + "00000001" + "00000001" + "00010000")


class WireTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """For the network, and for nodes: the endpoint first, each TLV as RFC 7787 draws it."""
        self.assertEqual(build_request(_OWN, 1), _REQUEST)
        wanted = _REQUEST[:12] + bytes.fromhex("00020004" + "0a000000" + "00020004" + "0b000000")
        self.assertEqual(build_request(_OWN, 1, [_A, _B]), wanted)

    def test_told(self) -> None:
        """Hashes and states are read; TLVs that are not known, and padding, are passed over."""
        peer = HomenetPeer(_A)
        peer.tells(_TOLD)
        peer.tells(_TOLD[:24], _B)
        told = parse_told(peer.answer(_REQUEST) + tlv(999, b"12345"))
        self.assertEqual([(one.node, one.sequence, one.data) for one in told.nodes], [(_A, 1, b""), (_B, 1, b"")])
        self.assertEqual(told.network, network_digest(reversed(told.nodes)))
        (state,) = parse_told(peer.state(_A, whole=True)).nodes
        self.assertEqual((state.data, state.digest, digest_of(b"")), (_TOLD, md5_64(_TOLD), bytes.fromhex("d41d8cd98f00b204")))

    def test_drawn(self) -> None:
        """A Node State as RFC 7787 (7.2.3) and RFC 7788 (10.1, 10.2) draw it, byte for byte."""
        head = "0005003c0a00000000000102000003e8a0ed31add795da33"
        version, connection, options = "0020000400000000", "0021001c", "00250015fde90011636f61703a2f2f5b666430303a3a62355d000000"
        (told,) = parse_told(bytes.fromhex(head + version + connection + options)).nodes
        self.assertEqual((told.node, told.sequence), (_A, 0x102))
        self.assertEqual(bootstrap_of(told.data, BootstrapCodes()), Bootstrap("coap://[fd00::b5]"))

    def test_options(self) -> None:
        """The options count inside an External-Connection's DHCPv6-Data alone, in the encodings of the file."""
        cases = {
            _TOLD: _SERVICE,
            tlv(33, tlv(37, option(23, bytes(16)))) + tlv(33, tlv(37, option(65001, _URI) + option(65002, b"der"))): Bootstrap(
                _SERVICE.uri, b"der"
            ),
            tlv(37, option(65001, _URI)): Bootstrap(),
            tlv(33, tlv(34, bytes(9) + tlv(37, option(65001, _URI)))): Bootstrap(),
            tlv(33, tlv(37, option(65001, b"no uri"))): Bootstrap(),
            b"": Bootstrap(),
        }
        for data, expected in cases.items():
            self.assertEqual(bootstrap_of(data, BootstrapCodes()), expected)

    def test_malformed(self) -> None:
        """Each truncation, lengths that are too long or short, data with another hash, too many TLVs."""
        peer = HomenetPeer(_A)
        peer.tells(_TOLD)
        state = peer.state(_A, whole=True)
        bad = [state[:-5], state[:3], tlv(4, bytes(7)), tlv(5, bytes(19)), b"\0\5\xff\xff", tlv(9, b"") * (MAX_TLVS + 1)]
        bad.append(state.replace(_URI, _URI.upper()))
        for data in bad:
            self.assertRaises(MalformedMessage, parse_told, data)
        for data in (tlv(33, b"\0"), tlv(33, tlv(37, b"\0\1\0\2\0")), tlv(33, tlv(9, b"") * MAX_TLVS)):
            self.assertRaises(MalformedMessage, bootstrap_of, data, BootstrapCodes())

    @given(st.binary(max_size=200) | st.lists(st.builds(tlv, st.integers(0, 40), st.binary(max_size=60))).map(b"".join))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes either tell something or are malformed."""
        for parse in (parse_told, lambda told: bootstrap_of(told, BootstrapCodes())):
            try:
                self.assertIsInstance(parse(data), Told | Bootstrap)
            except MalformedMessage:
                continue


class HomenetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.homenet = Homenet(_OWN, BootstrapCodes())
        self.peer = HomenetPeer(_A)
        self.peer.tells(_TOLD)
        self.asked: list[bytes] = []

    def converse(self, now: float = 0.0, source: str = "fe80::a") -> None:
        """The peer sends to all; what is asked it answers, until nothing is asked any more."""
        request = self.homenet.heard(self.peer.announcement(), source, now)
        while request is not None:
            self.asked.append(request)
            request = self.homenet.heard(self.peer.answer(request), source, now)

    def test_learned(self) -> None:
        """The network's state is asked for, then that of its nodes; once all is known nothing is asked for the same hash."""
        self.converse()
        self.assertEqual(self.asked, [_REQUEST, build_request(_OWN, 1, [_A])])
        self.assertEqual(self.homenet.first(), (_SERVICE, "node 0a000000"))
        self.converse(20)
        self.converse(40)
        self.assertEqual(self.asked[2:], [_REQUEST])

    def test_changes(self) -> None:
        """Another service of the node, then none; a node that left the network tells nothing any more."""
        self.converse(0)
        for number, (data, expected) in enumerate(((external(option(65001, b"coap://other")), "coap://other"), (external(), None)), 1):
            self.peer.tells(data)
            self.converse(number * 20.0)
            self.assertEqual(self.homenet.first()[0].uri, expected)
        self.peer.tells(_TOLD, _B)
        self.converse(60)
        self.assertEqual(self.homenet.first(), (_SERVICE, "node 0b000000"))
        del self.peer.nodes[_B]
        self.converse(80)
        self.assertEqual(self.homenet.first(), (Bootstrap(), ""))

    def test_several(self) -> None:
        """Of several that tell a service the lowest identifier counts, in whatever order they are heard."""
        self.peer.tells(external(option(65001, b"coap://b")), _B)
        self.converse()
        self.assertEqual(self.homenet.first(), (_SERVICE, "node 0a000000"))

    def test_old_state(self) -> None:
        """State with an older sequence number, as a late datagram has it, is neither asked for nor believed; numbers go round."""
        self.peer.nodes[_A] = (0xFFFFFFFF, _TOLD)
        self.converse()
        self.peer.nodes[_A] = (5, external(option(65001, b"coap://new")))
        self.converse(20)
        self.assertEqual(self.homenet.first()[0].uri, "coap://new")
        self.peer.nodes[_A] = (0xFFFFFFFE, _TOLD)
        self.assertIsNone(self.homenet.heard(self.peer.state(_A, whole=False), "fe80::a", 40))
        self.assertIsNone(self.homenet.heard(self.peer.state(_A, whole=True), "fe80::a", 40))
        self.assertEqual(self.homenet.first()[0].uri, "coap://new")

    def test_silence(self) -> None:
        """What nobody tells any more is forgotten after ten minutes, and asked for anew."""
        self.converse(0)
        self.converse(20)
        self.homenet.over(20 + SILENCE_S - 1)
        self.assertEqual(self.homenet.first()[0], _SERVICE)
        self.homenet.over(20 + SILENCE_S)
        self.assertEqual(self.homenet.first()[0], Bootstrap())
        self.converse(20 + SILENCE_S)
        self.assertEqual(self.homenet.first()[0], _SERVICE)

    def test_bounds(self) -> None:
        """One that tells of ever more nodes and hashes makes nothing grow, and is asked seldom."""
        asked = 0
        for number in range(500):
            self.peer.tells(_TOLD, number.to_bytes(4, "big"))
            asked += self.homenet.heard(self.peer.announcement(), "fe80::a", 0.001 * number) is not None
            self.homenet.heard(self.peer.state(number.to_bytes(4, "big"), whole=True), f"fe80::{number:x}", 0.001 * number)
            self.homenet.heard(self.peer.announcement(), f"fe80::{number:x}", 0.001 * number)
        self.assertEqual((len(self.homenet._nodes), len(self.homenet._asked)), (MOST_NODES, MOST_NODES))
        self.assertLess(asked, 10)  # Again only once as many others were asked since as are told apart.
        self.assertIsNotNone(self.homenet.heard(self.peer.announcement(), "fe80::a", 0.5 + PAUSE_S))

    def test_malformed_options(self) -> None:
        """A node whose options are malformed tells nothing, and is not asked again for them."""
        self.peer.tells(tlv(33, tlv(37, b"\0\1\0\2\0")))
        self.converse(0)
        asked = len(self.asked)
        self.converse(20)
        self.assertEqual((self.homenet.first()[0], len(self.asked) - asked), (Bootstrap(), 1))


class _Port(RecordingPort):
    """Records bytes, which are no DHCPv6 messages."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: list[tuple[bytes, Sockaddr]] = []

    def send(self, data: bytes, to: Sockaddr, source: str | None = None) -> bool:
        self.datagrams.append((data, to))
        return True


class ListeningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.metrics, self.port = Clock(), Metrics(), _Port()
        self.datagrams = RecordingDatagrams({"eth0": 3}, self.port)
        self.told: list[tuple[Bootstrap, str]] = []
        homenet = Homenet(_OWN, BootstrapCodes())
        self.listening = HomenetListening(self.clock, self.datagrams, "eth0", homenet, self.tell, self.metrics)
        self.peer = HomenetPeer(_A)
        self.peer.tells(_TOLD)
        self.listening.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.listening.stopService()
        self.assertTrue(self.port.stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def tell(self, bootstrap: Bootstrap, origin: str) -> None:
        self.told.append((bootstrap, origin))

    def hear(self, data: bytes, source: str = "fe80::a", interface: int = 3) -> None:
        self.listening.datagram_received(data, (source, 8231, 0, interface), "ff02::11", interface)

    def converse(self, interface: int = 3) -> None:
        before = len(self.port.datagrams)
        self.hear(self.peer.announcement(), interface=interface)
        while len(self.port.datagrams) > before:
            request, to = self.port.datagrams[before]
            self.assertEqual(to, ("fe80::a", 8231, 0, interface))
            before += 1
            self.hear(self.peer.answer(request), interface=interface)

    def test_listens(self) -> None:
        """It joins on the interface, asks the sender at its port, tells what it learns, and forgets it after the silence."""
        self.assertEqual((self.datagrams.opened, self.port.joined), (("::", 8231), [("ff02::11", 3)]))
        self.converse()
        self.assertEqual(self.told[-1], (_SERVICE, "node 0a000000"))
        self.clock.pump([LOOK_AGAIN_S] * int(SILENCE_S / LOOK_AGAIN_S))
        self.assertEqual(self.told[-1], (Bootstrap(), ""))

    def test_interface_that_goes(self) -> None:
        """What was told on a link that went counts no more; the interface that comes is joined."""
        self.converse()
        del self.datagrams.interfaces["eth0"]
        self.clock.advance(LOOK_AGAIN_S)
        self.assertEqual(self.told[-1], (Bootstrap(), ""))
        self.datagrams.interfaces["eth0"] = 4
        self.clock.advance(LOOK_AGAIN_S)
        self.converse(4)
        self.assertEqual((self.told[-1][0], self.port.joined[-1]), (_SERVICE, ("ff02::11", 4)))

    def test_ignored(self) -> None:
        """Malformed datagrams and those from elsewhere are counted, those of other interfaces are not for it; none is answered."""
        self.hear(b"\0")
        self.hear(self.peer.announcement(), "2001:db8::1")
        self.hear(self.peer.announcement(), interface=9)
        counts = [self.metrics.counter(f"m2mapp_dhcpv6_hncp_{name}_total", "").value for name in ("received", "ignored", "requests")]
        self.assertEqual((counts, self.port.datagrams), ([2, 2, 0], []))
