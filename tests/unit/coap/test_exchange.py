"""The message layer: confirmable messages, acknowledgements, Resets, repeated messages, NSTART."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from m2mapp.coap import things
from m2mapp.coap.exchange import MessageLayer
from m2mapp.coap.message import Message, build, empty, parse
from m2mapp.coap.parameters import Limits, TransmissionParameters
from m2mapp.coap.transmission import Outcome, Repeats, Transmission
from m2mapp.model.errors import Overloaded, PeerFailed
from m2mapp.model.messages import Response
from m2mapp.net.interfaces import IDatagramReceiver
from tests.unit.coap.fakes import CONTENT, GROUP, HERE, OTHER, PEER, Node, get, request

EXACT = TransmissionParameters(ack_random_factor=1.0)


class Sender:
    """A node whose message layer is told to send, and what it was told of the outcomes."""

    def __init__(self, parameters: TransmissionParameters = EXACT, limits: Limits | None = None) -> None:
        self.node = Node(parameters=parameters, limits=limits)
        self.layer: MessageLayer = self.node.service.endpoint.layers[0]
        self.told: list[Outcome] = []

    def send(
        self, token: bytes = b"tok", repeats: Repeats | None = None, mtype: int = things.CON, *, patient: bool = False
    ) -> Transmission:
        """Send a GET to `PEER`."""
        return self.layer.send(PEER, Message(mtype, things.GET, 0, token), self.told.append, repeats, patient=patient)

    def left(self) -> list[bytes]:
        """The tokens of the datagrams that left since the last look."""
        return [message.token for message in self.node.port.take()]

    def times(self, until_s: float) -> list[float]:
        """When datagrams leave within the time, to an eighth of a second: steps that floats add up exactly."""
        found = [0.0] * len(self.node.port.take())
        for step in range(1, int(until_s * 8) + 1):
            self.node.clock.advance(0.125)
            found += [step / 8] * len(self.node.port.take())
        return found


class RepeatedTests(SynchronousTestCase):
    def test_of_another_type(self) -> None:
        """What comes again as a non-confirmable message, or to a group, gets no acknowledgement and no Reset; found by `test_hostile`."""
        node = Node()
        self.assertEqual(len(node.receive(get(mid=1))), 1)
        self.assertEqual(node.receive(get(mid=1, mtype=things.NON)), [])
        odd = get(mid=2, mtype=things.NON, options=[(9, b"")])
        self.assertEqual(node.receive(odd), [Message(things.RST, 0, 2)])
        self.assertEqual(node.receive(odd, destination=GROUP), [])
        self.assertEqual(node.stop(), [])


class ConfirmableTests(SynchronousTestCase):
    def test_retransmission_times(self) -> None:
        """Sent at 0, 2, 6, 14 and 30 s, given up at 62 s (RFC 7252, section 4.2, with a random factor of 1)."""
        sender = Sender()
        sender.send()
        self.assertEqual(sender.times(61.875), [0.0, 2.0, 6.0, 14.0, 30.0])
        self.assertEqual(sender.told, [])
        sender.node.clock.advance(0.2)
        self.assertEqual(sender.told, [Outcome.GIVEN_UP])
        self.assertEqual((sender.node.count("retransmitted"), sender.node.count("given_up")), (4, 1))
        self.assertEqual(sender.node.stop(), [])

    def test_random_factor(self) -> None:
        """The first timeout lies between ACK_TIMEOUT and 1.5 times that, and differs from message to message."""
        sender = Sender(TransmissionParameters(nstart=50))
        timeouts = {sender.send().timeout_s for _ in range(50)}
        self.assertTrue(all(2.0 <= timeout <= 3.0 for timeout in timeouts))
        self.assertGreater(len(timeouts), 40)

    def test_all_copies_are_the_same(self) -> None:
        """A retransmission is the same datagram (RFC 7252, section 4.2)."""
        sender = Sender()
        sender.send()
        sender.node.clock.pump([2.0, 4.0])
        self.assertEqual(len({data for data, _, _ in sender.node.port.sent}), 1)
        self.assertEqual(len(sender.node.port.sent), 3)

    def test_acknowledged(self) -> None:
        """An acknowledgement ends the repeats, and its round-trip time is seen."""
        sender = Sender()
        mid = sender.send().mid
        sender.node.clock.advance(0.25)
        sender.node.receive(empty(things.ACK, mid))
        self.assertEqual(sender.told, [Outcome.ACKNOWLEDGED])
        self.assertEqual(sender.times(100), [])
        peer = sender.layer.peers.find(PEER)
        self.assertEqual(peer and peer.rtt_s, 0.25)

    def test_no_rtt_of_repeated(self) -> None:
        """Which copy was acknowledged is not known: no round-trip time is taken (Karn)."""
        sender = Sender()
        mid = sender.send().mid
        sender.node.clock.advance(2.0)
        sender.node.receive(empty(things.ACK, mid))
        peer = sender.layer.peers.find(PEER)
        self.assertIsNone(peer and peer.rtt_s)

    def test_reset(self) -> None:
        """A Reset ends it."""
        sender = Sender()
        sender.node.receive(empty(things.RST, sender.send().mid))
        self.assertEqual((sender.told, sender.times(100)), ([Outcome.RESET], []))

    def test_reset_of_non_confirmable(self) -> None:
        """A Reset of a non-confirmable message is told; no acknowledgement is."""
        sender = Sender()
        mid = sender.send(mtype=things.NON).mid
        sender.node.receive(empty(things.ACK, mid))
        self.assertEqual(sender.told, [])
        sender.node.receive(empty(things.RST, mid))
        self.assertEqual(sender.told, [Outcome.RESET])

    def test_spoofed(self) -> None:
        """An acknowledgement or Reset from another host or port, or of another message, changes nothing."""
        sender = Sender()
        mid = sender.send().mid
        for source in (OTHER, ("fd00::d1", 5684, 0, 0), ("fd00::d1", 5683, 0, 3)):
            for mtype in (things.ACK, things.RST):
                sender.node.receive(empty(mtype, mid), source)
        sender.node.receive(empty(things.ACK, mid ^ 1))
        self.assertEqual((sender.told, sender.node.count("unexpected")), ([], 4))
        self.assertEqual(sender.times(2.0), [2.0])

    def test_piggybacked_with_another_token(self) -> None:
        """A piggybacked response whose token is not the request's acknowledges nothing (RFC 7252, section 5.3.2)."""
        sender = Sender()
        mid = sender.send(b"mine").mid
        sender.node.receive(Message(things.ACK, things.CONTENT, mid, b"not mine"))
        self.assertEqual(sender.told, [])

    def test_own_repeats(self) -> None:
        """A caller that knows the round-trip time sets the repeats: here after 1/8 and 2/8 s; and once means once."""
        sender = Sender()
        sender.send(repeats=Repeats(0.125, 2))
        self.assertEqual(sender.times(2.0), [0.0, 0.125, 0.375])
        sender.send(repeats=Repeats(0.5, 0))
        self.assertEqual(sender.times(2.0), [0.0])
        self.assertEqual(sender.told, [Outcome.GIVEN_UP, Outcome.GIVEN_UP])
        self.assertRaises(ValueError, Repeats, 0, 1)

    def test_steady_repeats(self) -> None:
        """Where copies are lost the first repeats may keep their pace: here two after 1/8 s each, then after twice the time."""
        sender = Sender()
        sender.send(repeats=Repeats(0.125, 4, 2))
        self.assertEqual(sender.times(3.0), [0.0, 0.125, 0.25, 0.375, 0.625])
        self.assertRaises(ValueError, Repeats, 1.0, 1, -1)

    def test_a_round_trip_that_has_grown(self) -> None:
        """What is repeated before it can be answered tells nothing of the round trip, unless that has grown threefold."""
        sender = Sender()
        peer = sender.send(repeats=Repeats(8.0, 0)).peer
        sender.times(0.125)
        sender.node.receive(empty(things.ACK, next(iter(peer.sending))))
        self.assertEqual(peer.rtt_s, 0.125)
        for took_s, rtt_s in ((0.375, 0.125), (1.125, 0.125 + (1.125 / 2 - 0.125) / 8)):
            sender.send(repeats=Repeats(0.125, 9, 9))
            sender.times(took_s)
            sender.node.receive(empty(things.ACK, next(iter(peer.sending))))
            self.assertEqual(peer.rtt_s, rtt_s)

    def test_forgotten(self) -> None:
        """What is forgotten is not repeated, and nobody is told."""
        sender = Sender()
        transmission = sender.send()
        sender.layer.forget(transmission)
        sender.layer.forget(transmission)
        self.assertEqual((sender.times(100), sender.told), ([0.0], []))

    def test_patient_gives_way(self) -> None:
        """A patient message that was not acknowledged in time gives way to who waits for the peer, but not to its like."""
        sender = Sender()
        sender.send(b"first", patient=True)
        sender.send(b"like", patient=True)
        self.assertEqual(sender.times(1.875), [0.0])
        sender.send(b"other")
        self.assertEqual(sender.left(), [])
        sender.node.clock.advance(0.125)
        self.assertEqual((sender.left(), sender.told), ([b"other"], [Outcome.GAVE_WAY]))

    def test_patient_that_was_repeated(self) -> None:
        """A patient message that was repeated already gives way at once; those that wait and are patient wait on."""
        sender = Sender()
        sender.send(b"first", patient=True)
        sender.send(b"like", patient=True)
        self.assertEqual(sender.times(2), [0.0, 2.0])
        sender.send(b"other")
        self.assertEqual((sender.left(), sender.told), ([b"other"], [Outcome.GAVE_WAY]))

    def test_nstart(self) -> None:
        """One at a time to a peer; the next goes when the first is acknowledged; another peer is not concerned."""
        sender = Sender()
        first, second = sender.send(b"1"), sender.send(b"2")
        third = sender.send(b"3")
        self.assertEqual([message.token for message in sender.node.port.take()], [b"1"])
        sender.layer.forget(second)
        sender.node.port.take()
        sender.node.port.receiver.datagram_received(empty(things.ACK, first.mid), PEER, HERE, 1)
        self.assertEqual([message.token for message in sender.node.port.take()], [b"3"])
        sender.layer.send(OTHER, Message(things.CON, things.GET, 0, b"4"), sender.told.append)
        self.assertEqual([message.token for message in sender.node.port.take()], [b"4"])
        sender.layer.forget(third)

    def test_queue_is_bounded(self) -> None:
        """More than so many do not wait for one peer."""
        sender = Sender(limits=Limits(waiting_per_peer=3))
        for _ in range(4):
            sender.send()
        self.assertRaises(Overloaded, sender.send)

    def test_stop(self) -> None:
        """At the end everybody who waits is told, and nothing stays pending."""
        sender = Sender()
        sender.send()
        sender.send()
        sender.send(mtype=things.NON)
        self.assertEqual(sender.node.stop(), [])
        self.assertEqual(sender.told, [Outcome.CLOSED] * 3)
        self.assertRaises(PeerFailed, sender.send)
        self.assertRaises(PeerFailed, lambda: sender.layer.port)


class ReceivingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = Node()

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])

    def test_interface(self) -> None:
        """The layer is what a port hands its datagrams to."""
        self.assertTrue(verifyObject(IDatagramReceiver, self.node.service.endpoint.layers[0]))

    def test_ping(self) -> None:
        """An Empty confirmable message is answered with a Reset (RFC 7252, section 4.3), a non-confirmable one with nothing."""
        self.assertEqual(self.node.receive(empty(things.CON, 7)), [Message(things.RST, 0, 7)])
        self.assertEqual(self.node.receive(empty(things.NON, 8)), [])
        self.assertEqual(self.node.receive(empty(things.CON, 9), destination=GROUP), [])

    def test_malformed(self) -> None:
        """Malformed: a Reset if confirmable, else silence; silence, too, for another version and to a group."""
        malformed = bytes.fromhex("40010203ff")
        self.assertEqual(self.node.receive(malformed), [Message(things.RST, 0, 0x0203)])
        self.assertEqual(self.node.receive(malformed, destination=GROUP), [])
        for text in ("50010203ff", "60010203ff", "70010203ff", "80010203ff", "40"):
            self.assertEqual(self.node.receive(bytes.fromhex(text)), [], text)
        self.assertEqual(self.node.count("malformed"), 7)

    def test_reserved_classes(self) -> None:
        """Codes of a reserved class are rejected (RFC 7252, section 4.2), requests in an ACK ignored."""
        for code in (0x20, 0x3F, 0x60, 0xC0, 0xE1):
            self.assertEqual(self.node.receive(Message(things.CON, code, 5)), [Message(things.RST, 0, 5)], hex(code))
            self.assertEqual(self.node.receive(Message(things.NON, code, 6)), [], hex(code))
        self.assertEqual(self.node.receive(Message(things.ACK, things.GET, 5)), [])
        self.assertEqual(self.node.receive(Message(things.RST, things.GET, 5)), [])
        self.assertEqual(self.node.receive(Message(things.RST, things.CONTENT, 5)), [])
        self.assertEqual(self.node.handler.requests, [])

    def test_unexpected_responses(self) -> None:
        """A response that nobody awaits is reset if confirmable; a repetition of it gets the same Reset."""
        response = Message(things.CON, things.CONTENT, 5, b"who?")
        for _ in range(2):
            self.assertEqual(self.node.receive(response), [Message(things.RST, 0, 5)])
        self.assertEqual(self.node.receive(Message(things.NON, things.CONTENT, 6, b"who?")), [])
        self.assertEqual(self.node.receive(Message(things.ACK, things.CONTENT, 7, b"who?")), [])
        self.assertEqual(self.node.receive(response._replace(mid=8), destination=GROUP), [])

    def test_repeated_request(self) -> None:
        """A repeated confirmable request gets the same datagram and is not acted on again, for 247 s and no longer."""
        first = self.node.receive(get())
        self.node.clock.advance(246)
        self.assertEqual(self.node.receive(get()), first)
        self.assertEqual((len(self.node.handler.requests), self.node.count("repeated")), (1, 1))
        self.node.clock.advance(2)
        self.assertEqual(self.node.receive(get()), first)
        self.assertEqual(len(self.node.handler.requests), 2)

    def test_repeated_from_elsewhere(self) -> None:
        """The same message ID from another source is another message."""
        self.node.receive(get())
        self.node.receive(get(), OTHER)
        self.assertEqual(len(self.node.handler.requests), 2)

    def test_repeated_non_confirmable(self) -> None:
        """A repeated non-confirmable request is ignored in silence (RFC 7252, section 4.5)."""
        self.assertEqual(len(self.node.receive(get(mtype=things.NON))), 1)
        self.assertEqual(self.node.receive(get(mtype=things.NON)), [])

    def test_repeated_while_under_way(self) -> None:
        """A repetition that comes before the answer starts nothing anew."""
        result: Deferred[Response] = Deferred()
        self.node.handler.answer = result
        self.assertEqual(self.node.receive(request(things.POST)), [])
        self.assertEqual(self.node.receive(request(things.POST)), [])
        result.callback(CONTENT)
        self.assertEqual([message.mtype for message in self.node.port.take()], [things.ACK])
        self.assertEqual(len(self.node.handler.requests), 1)

    def test_one_delayed_call(self) -> None:
        """A thousand messages of a thousand sources leave one delayed call, and after their lifetime none and no memory."""
        for index in range(1000):
            self.node.receive(get(mid=index), (f"fd00::{index:x}", 5683, 0, 0))
        self.assertEqual(len(self.node.clock.getDelayedCalls()), 1)
        for _ in range(12):
            self.node.clock.advance(30)
        peers = self.node.service.endpoint.layers[0].peers
        self.assertEqual((len(peers), peers.messages, peers.bytes), (0, 0, 0))
        self.assertEqual(self.node.clock.getDelayedCalls(), [])

    def test_interface_of_the_port(self) -> None:
        """The answer of a port with one address leaves from there, without being told."""
        self.node.port.receiver.datagram_received(build(get()), PEER, HERE, 1)
        self.assertEqual([source for _, _, source in self.node.port.sent], [None])


class WildcardTests(SynchronousTestCase):
    def test_answers_leave_from_the_address_that_was_asked(self) -> None:
        """On a wildcard port the system might choose another address: answer, repeated answer, Reset and separate answer say which."""
        node = Node(listen=(("::", 5683),))
        receive = node.port.receiver.datagram_received
        receive(build(get(mid=1)), PEER, "fd00::2", 1)
        receive(build(get(mid=1)), PEER, "fd00::2", 1)
        receive(empty(things.CON, 9), PEER, "fd00::3", 1)
        node.handler.answer = result = Deferred()  # type: ignore[var-annotated]
        receive(build(get(mid=2)), PEER, "fd00::4", 1)
        node.clock.advance(1)
        result.callback(CONTENT)
        self.assertEqual([source for _, _, source in node.port.sent], ["fd00::2", "fd00::2", "fd00::3", "fd00::4", "fd00::4"])
        self.assertEqual(parse(node.port.sent[-1][0]).mtype, things.CON)
        self.assertEqual(node.stop(), [])
