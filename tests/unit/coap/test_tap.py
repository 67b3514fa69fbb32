"""The tap and its viewers: who sees what, what it costs those who do not look, and what is told where something could not be shown."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.conversations import Conversations
from m2mapp.coap.message import Message, build, empty
from m2mapp.coap.tap import GIVEN_UP_KEPT, Seen, Sighting
from m2mapp.coap.transmission import Repeats
from m2mapp.coap.viewer import LINES_A_SECOND, VIEWERS, WireFeed
from m2mapp.model.errors import Malformed, Overloaded
from m2mapp.model.messages import GroupOutgoing, Method
from m2mapp.net.interfaces import Sockaddr
from tests.unit.coap.fakes import CONTENT, GROUP, OTHER, PEER, Node, get, request

NOW_MS = 1_800_000_000_123
LINK_LOCAL: Sockaddr = ("fe80::d1", 5683, 0, 2)


class Looking:
    """One viewer of a node, and its lines; `full` says that there is no room for more."""

    def __init__(self, node: Node, **query: str) -> None:
        self.all: list[str] = []
        self.full = False
        # The wall clock goes with the other one here, from a start of its own.
        began = node.clock.seconds()
        self.stop: Callable[[], None] = WireFeed(
            node.service.endpoint, node.context, lambda: NOW_MS + round((node.clock.seconds() - began) * 1000)
        )(tuple(query.items()), self._take)
        self.untouched = tuple(self.all)
        self.first = self.take()

    def _take(self, line: str) -> bool:
        if not self.full:
            self.all.append(line)
        return not self.full

    def take(self) -> list[str]:
        """The lines since the last look, without the time."""
        lines, self.all = self.all, []
        return [line if line.startswith("--") else line[13:] for line in lines]


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()
        self.looks: list[Looking] = []

    def tearDown(self) -> None:
        for looking in self.looks:
            looking.stop()
        self.assertEqual(self.node.context.tap.viewers, ())
        self.assertEqual(self.node.stop(), [])

    def look(self, **query: str) -> Looking:
        """Somebody looks until the end of the test."""
        looking = Looking(self.node, **query)
        self.looks.append(looking)
        return looking


class LineTests(Case):
    def test_request_and_answer(self) -> None:
        """Time of day, interface, direction, the other end, our address, the message."""
        looking = self.look()
        self.node.receive(get())
        self.assertEqual(looking.all[0], "08:00:00.123 eth1 <- [fd00::d1]:5683 to fd00::1 CON GET mid=0x0001 token=746f6b /temperature")
        self.assertEqual(
            looking.take()[1],
            '- -> [fd00::d1]:5683 ACK 2.05 mid=0x0001 token=746f6b ETag:0102 Content-Format:text/plain;charset=utf-8 "21.5"',
        )

    def test_repeated(self) -> None:
        """A duplicate, and the answer that it gets again, are told apart from the first; after EXCHANGE_LIFETIME they are new."""
        looking = self.look(payload="hide")
        self.node.receive(get())
        self.node.receive(get())
        _, first, again, repeated = looking.take()
        self.assertTrue(again.endswith("/temperature (again)"))
        self.assertEqual(repeated, f"{first} (again)")
        self.node.clock.advance(300)
        self.node.receive(get())
        self.assertNotIn("again", " ".join(looking.take()))

    def test_retransmitted_and_given_up(self) -> None:
        """Each retransmission, and the giving up; the latter is told also to who looks later."""
        looking = self.look(peer=PEER[0])
        layer = self.node.service.endpoint.layers[0]
        layer.send(PEER, get(), lambda _: None, Repeats(1.0, 1))
        self.node.clock.pump([1.5] * 6)
        first, again, given_up = looking.take()
        self.assertEqual(again, f"{first} (again)")
        self.assertEqual(given_up, first.replace("->", "!!") + " (given up: never acknowledged)")
        self.assertEqual(self.look(path="/temperature").first[1:], [given_up])
        self.assertNotIn("!!", " ".join(self.look(peer=OTHER[0]).first[1:]))

    def test_long_ago(self) -> None:
        """What was given up long ago has its day too."""
        self.node.context.tap.gave_up(build(get()), PEER)
        self.node.clock.advance(86_400)
        looking = Looking(self.node)
        looking.stop()
        self.assertIn("2027-01-14T08:00:00.123Z - !! [fd00::d1]:5683 CON GET", " ".join(looking.untouched))

    def test_malformed(self) -> None:
        """What is no message, and the Reset that it got."""
        looking = self.look()
        self.node.receive(b"\x49\x01\x00\x07")
        self.assertEqual(
            looking.take(),
            [
                "eth1 <- [fd00::d1]:5683 to fd00::1 malformed: token length 9 is reserved: h'49010007'",
                "- -> [fd00::d1]:5683 RST mid=0x0007",
            ],
        )

    def test_not_sent(self) -> None:
        """What the system did not take is no message on its way."""
        looking = self.look()
        self.node.port.send = lambda data, to, source=None: False  # type: ignore[method-assign]
        self.node.port.receiver.datagram_received(build(get()), PEER, "fd00::1", 1)
        self.assertTrue(looking.take()[1].startswith("- -x [fd00::d1]:5683 ACK 2.05"))
        self.assertTrue(self.node.context.counters.unsent.value)

    def test_zone(self) -> None:
        """Link-local addresses with their interface, also where we send."""
        looking = self.look(peer="fe80::d1%eth2")
        self.node.receive(empty(things.CON, 9), LINK_LOCAL, interface=2)
        self.node.receive(empty(things.CON, 9), ("fe80::d1", 5683, 0, 1))
        self.assertEqual(
            looking.take(),
            ["eth2 <- [fe80::d1%eth2]:5683 to fd00::1 CON Empty (a ping) mid=0x0009", "eth2 -> [fe80::d1%eth2]:5683 RST mid=0x0009"],
        )

    def test_secrets(self) -> None:
        """What is written to the LwM2M Security object is not shown, nor any payload where that was asked for."""
        looking, hiding = self.look(), self.look(payload="hide")
        self.node.receive(request(things.PUT, "0/1", payload=b"a key"))
        self.assertIn("/0/1 (5 bytes, not shown)", looking.take()[0])
        self.node.receive(request(things.PUT, "1/0", payload=b"no key", mid=2))
        self.assertIn('/1/0 "no key"', looking.take()[0])
        self.assertNotIn("key", " ".join(hiding.take()))


class FilterTests(Case):
    def test_peer(self) -> None:
        """One address, or a prefix."""
        one, prefix, other = self.look(peer="fd00::d1"), self.look(peer="fd00::/64"), self.look(peer="192.0.2.0/24")
        self.node.receive(get(), OTHER)
        self.node.receive(empty(things.CON, 9))
        self.assertEqual([len(looking.take()) for looking in (one, prefix, other)], [2, 4, 0])

    def test_path(self) -> None:
        """A path and what is below it: the request, its answer, the acknowledgement and the Reset of that; nothing else."""
        looking = self.look(path="/a")
        self.node.handler.answer = CONTENT
        for mid, path in enumerate(("a", "a/b", "ab", "b/a", "")):
            self.node.receive(get(path, mid=mid))
        self.node.receive(empty(things.CON, 99))
        self.node.receive(b"\x00")
        paths = [line.rsplit(" ")[-1] for line in looking.take()]
        self.assertEqual(paths, ["/a", '"21.5"', "/a/b", '"21.5"'])
        layer = self.node.service.endpoint.layers[0]
        layer.send(PEER, get("a/c"), lambda _: None)
        (sent,) = self.node.port.take()
        self.node.receive(empty(things.ACK, sent.mid))
        self.node.receive(Message(things.CON, things.CONTENT, 7, sent.token))
        kinds = [[word for word in line.split() if word in ("CON", "ACK", "RST")] for line in looking.take()]
        self.assertEqual(kinds, [["CON"], ["ACK"], ["CON"], ["RST"]])

    def test_group(self) -> None:
        """A request to a group and the answers to it; with a peer the request all the same, and this one's answer."""
        looking, with_peer = self.look(group=GROUP.upper()), self.look(group=GROUP, peer=PEER[0])
        gathering = self.node.service.send_to_group(GroupOutgoing(Method.GET, GROUP, ("a",), interfaces=("eth1",)), lambda _: None)
        for source in (PEER, OTHER):
            self.node.receive(Message(things.NON, things.CONTENT, 5, gathering.token), source)
        self.node.receive(get(), OTHER)
        request_line, first, second = looking.take()
        self.assertTrue(request_line.startswith(f"eth1 -> group [{GROUP}]:5683 NON GET "), request_line)
        self.assertTrue(first.endswith(f"(asked through group {GROUP})"), first)
        self.assertEqual(with_peer.take(), [request_line, first])
        self.assertIn("fd00::bad", second)
        gathering.close()

    def test_asked_as_a_member(self) -> None:
        """A request that came to a group says to which, and its answer belongs to it."""
        looking = self.look(group=GROUP)
        self.node.receive(get(mtype=things.NON), destination=GROUP)
        self.node.receive(Message(things.CON, things.GET, 2, b"other"))
        self.node.clock.advance(10)
        asked, answered = looking.take()
        self.assertTrue(asked.startswith(f"eth1 <- [fd00::d1]:5683 to group {GROUP} NON GET"), asked)
        self.assertTrue(answered.endswith(f"(asked through group {GROUP})"), answered)

    def test_refused(self) -> None:
        """A filter that is none is refused, named, with what would be right; and nobody looks then."""
        for name, value in (
            *(("peer", text) for text in ("", "d1", "fd00::1/200", "ff05::fd", "fe80::1%", "[fd00::1]", "1.2.3")),
            *(("group", text) for text in ("", "fd00::1", "ff05::fd/16", "all")),
            *(("path", text) for text in ("", "a", "/a//b", "/..")),
            ("payload", "yes"),
        ):
            fault = self.assertRaises(Malformed, Looking, self.node, **{name: value})
            self.assertEqual(fault.field, name, value)
        feed = WireFeed(self.node.service.endpoint, self.node.context, lambda: NOW_MS)
        self.assertRaises(Malformed, feed, (("host", "x"),), lambda _: True)
        self.assertRaises(Malformed, feed, (("path", "/a"), ("path", "/b")), lambda _: True)


class BoundTests(Case):
    def test_viewers(self) -> None:
        """So many may look at a time; who goes makes room, and going twice does nothing."""
        looks = [self.look() for _ in range(VIEWERS)]
        self.assertRaises(Overloaded, Looking, self.node)
        looks[0].stop()
        looks[0].stop()
        self.look()

    def test_no_room(self) -> None:
        """What could not be shown is counted, and told before what comes next, or after a while if nothing comes."""
        looking = self.look()
        looking.full = True
        for mid in range(3):
            self.node.receive(empty(things.CON, mid))
        self.node.clock.advance(1)
        looking.full = False
        self.node.receive(empty(things.CON, 3))
        self.assertEqual(
            looking.take()[:2], ["-- 6 messages not shown", "eth1 <- [fd00::d1]:5683 to fd00::1 CON Empty (a ping) mid=0x0003"]
        )
        looking.full = True
        self.node.receive(empty(things.CON, 4))
        looking.full = False
        self.node.clock.pump([1, 1])
        self.assertEqual(looking.take(), ["-- 2 messages not shown"])

    def test_lines_a_second(self) -> None:
        """More lines a second than anybody reads are not made; the number of those that are missing is told when the rush is over."""
        looking = self.look(peer=PEER[0])
        for mid in range(LINES_A_SECOND):
            self.node.receive(empty(things.CON, mid))
        self.assertEqual(len(looking.take()), LINES_A_SECOND)
        self.node.clock.advance(1)
        self.assertEqual(looking.take(), [f"-- {LINES_A_SECOND} messages not shown"])
        self.node.receive(empty(things.CON, 1))
        self.assertEqual(len(looking.take()), 2)

    def test_a_viewer_that_fails(self) -> None:
        """What a viewer raises ends its viewing, and no message is lost for it."""

        class Failing:
            def may_want(self, sighting: Sighting) -> bool:
                return True

            def see(self, seen: Seen) -> None:
                raise ValueError(str(seen))

        looking = self.look()
        self.node.context.tap.add(Failing())
        self.assertEqual(len(self.node.receive(get())), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(looking.take()), 2)
        self.assertEqual(len(self.node.context.tap.viewers), 1)

    def test_what_is_kept(self) -> None:
        """Of what was given up so many are kept; of conversations too."""
        tap = self.node.context.tap
        for mid in range(GIVEN_UP_KEPT + 5):
            tap.gave_up(build(get(mid=mid)), PEER)
        self.assertEqual(len(self.look().first), 1 + GIVEN_UP_KEPT)
        conversations = Conversations()
        for number in range(10_000):
            conversations.topic(get(mid=number), ("fd00::1", number, 0, 0), None, outgoing=False)
            conversations.came_before((number,), 0.0)
        kept = [len(value) for value in vars(conversations).values()]
        self.assertEqual(kept, [4_096, 4_096])


class AnyBytesTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=4))
    def test_any_datagrams(self, datagrams: list[tuple[bytes, bool]]) -> None:
        """Whatever comes, to the node or to a group: a line for each datagram, and no viewer that fails."""
        node = Node()
        looking = Looking(node, payload="hide")
        for data, to_group in datagrams:
            node.receive(data, destination=GROUP if to_group else "fd00::1")
        received = [line for line in looking.take() if " <- " in line]
        self.assertEqual(len(received), len(datagrams))
        self.assertEqual(len(node.context.tap.viewers), 1)
        looking.stop()
        node.stop()


class SituationTests(Case):
    def test_what_is_under_way(self) -> None:
        """Who looks at a peer is told at once what is on its way to it and what waits, and the round trip that was measured."""
        layer = self.node.service.endpoint.layers[0]
        for path in ("a", "b"):
            layer.send(PEER, get(path), lambda _: None)
        self.node.clock.advance(4)
        (_, about, under_way, waits), others = self.look(peer=PEER[0]).first, self.look(peer=OTHER[0]).first
        self.assertEqual(self.look(peer=PEER[0]).first[1:], [about, under_way, waits])
        self.assertEqual(about, "-- [fd00::d1]:5683: no round trip was measured")
        self.assertTrue(under_way.startswith("- -> [fd00::d1]:5683 CON GET "), under_way)
        self.assertTrue(under_way.endswith("/a (not acknowledged yet; to be sent 3 times more)"), under_way)
        self.assertTrue(waits.startswith("- .. [fd00::d1]:5683 CON GET "), waits)
        self.assertTrue(waits.endswith("/b (waits for what is on its way)"), waits)
        self.assertEqual(others[1:], ["-- nothing was exchanged with this peer in the last minutes"])
        self.node.clock.advance(5.5)
        self.assertTrue(self.looks[0].take()[-1].endswith("/a (again)"))

    def test_round_trip(self) -> None:
        """The round trip that was measured."""
        self.node.service.endpoint.layers[0].send(PEER, get(), lambda _: None)
        (sent,) = self.node.port.take()
        self.node.clock.advance(0.25)
        self.node.receive(empty(things.ACK, sent.mid))
        self.assertEqual(self.look(peer=PEER[0]).first[1:], ["-- [fd00::d1]:5683: the round trip takes 250 ms"])

    def test_many_peers(self) -> None:
        """Of many peers the first are told."""
        for number in range(30):
            self.node.receive(get(), (f"fd00::{number:x}", 5683, 0, 0))
        self.assertEqual(self.look(peer="fd00::/64").first[-1], "-- and further peers")
        self.assertEqual(len(self.look().first), 1)
