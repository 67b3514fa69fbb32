"""Sources beyond the links: they prove their address by Echo (RFC 9175), or get little for a little request."""

from __future__ import annotations

import random

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block
from m2mapp.coap.echo import SMALL, Allowance, EchoValues
from m2mapp.coap.message import Message, build, uint
from m2mapp.coap.parameters import Limits, Unproven
from m2mapp.model.messages import Response, Status
from m2mapp.net.interfaces import Sockaddr
from tests.unit.coap.fakes import CONTENT, GROUP, PEER, Node, get, in_order, request
from tests.unit.coap.test_message import MESSAGES

FAR: Sockaddr = ("2001:db8::9", 40000, 0, 0)
LARGE = CONTENT._replace(payload=b"x" * 900)
REGISTER = (things.OBSERVE, b"")


class ValueTests(SynchronousTestCase):
    def test_bound(self) -> None:
        """A value holds for the address, port and zone that it was made for, for one to two periods, until a restart."""
        values = EchoValues(random.Random(1), 30.0)
        value = values.value(FAR, 100.0)
        self.assertLessEqual(len(value), 8)
        self.assertTrue(values.holds(value, FAR, 100.0))
        self.assertTrue(values.holds(value, FAR, 149.0))
        self.assertFalse(values.holds(value, FAR, 151.0))
        for other in (("2001:db8::9", 40001, 0, 0), ("2001:db8::8", 40000, 0, 0), ("2001:db8::9", 40000, 0, 2)):
            self.assertFalse(values.holds(value, other, 100.0))
        self.assertFalse(values.holds(value[:-1], FAR, 100.0))
        self.assertFalse(EchoValues(random.Random(2), 30.0).holds(value, FAR, 100.0))

    @given(MESSAGES, MESSAGES)
    def test_allowance(self, asked: Message, answer: Message) -> None:
        """What fits is, with its headers, no more than three times what came; what is shortened fits if its options do."""
        allowance = Allowance.of(asked)
        came = len(build(asked)) + 28
        if allowance.fits(answer):
            self.assertLessEqual(len(build(answer)) + 28, 3 * came)
        shortened = allowance.shortened(answer)
        self.assertTrue(allowance.fits(shortened) or not shortened.payload)
        plain = answer._replace(options=((things.CONTENT_FORMAT, b"\x28"),), token=asked.token, payload=b"")
        options = ((things.ETAG, b"12345678"), (things.CONTENT_FORMAT, b"\x28"), (things.BLOCK2, b"\xff\xff\xf8"), (things.SIZE2, b"abc"))
        for exponent in (allowance.exponent(), allowance.exponent(plain)):
            block = plain._replace(options=options, payload=b"x" * (16 << exponent))
            self.assertTrue(allowance.fits(block) or not exponent)

    def test_small(self) -> None:
        """What may go to anybody fits the smallest request."""
        answer = Message(things.ACK, things.CONTENT, 1, b"", ((things.ETAG, b"12345678"), (things.CONTENT_FORMAT, b"\x28")), b"x" * SMALL)
        self.assertLessEqual(len(build(answer)) + 28, 3 * (4 + 28))


class FarCase(SynchronousTestCase):
    limits = Limits()

    def setUp(self) -> None:
        self.node = Node(limits=self.limits)
        self.node.principals.far |= {FAR[0], "2001:db8::8"}
        self.node.handler.answer = LARGE
        self.mid = 0

    def tearDown(self) -> None:
        self.assertEqual(self.node.stop(), [])

    def ask(self, message: Message, source: Sockaddr = FAR) -> Message:
        """The answer to a message, whose ID is the next."""
        self.mid += 1
        (answer,) = self.node.receive(message._replace(mid=self.mid), source)
        return answer

    def with_echo(self, message: Message, value: bytes | None) -> Message:
        """The same with Echo."""
        assert value is not None
        return message._replace(options=in_order([*message.options, (numbers.ECHO, value)]))


class EchoTests(FarCase):
    def test_a_far_source(self) -> None:
        """It is asked to show its address, by less than three times the request; shown, it gets the answer; then for ten minutes all."""
        refused = self.ask(get())
        value = refused.first(numbers.ECHO)
        self.assertEqual((refused.code, refused.token), (things.UNAUTHORIZED, b"tok"))
        self.assertLessEqual(len(build(refused)) + 28, 3 * (len(build(get())) + 28))
        self.assertEqual(self.ask(self.with_echo(get(), value)).payload, LARGE.payload)
        for minute in range(9):
            self.assertEqual(self.ask(get()).code, things.CONTENT, minute)
            self.node.clock.advance(60)
        self.node.clock.advance(70)
        self.assertEqual(self.ask(get()).code, things.UNAUTHORIZED)
        self.assertEqual(self.node.count("echo_asked"), 2)

    def test_whose_value(self) -> None:
        """A value that another source, or this one long ago, was given proves nothing."""
        value = self.ask(get()).first(numbers.ECHO)
        other: Sockaddr = ("2001:db8::8", 40000, 0, 0)
        self.assertEqual(self.ask(self.with_echo(get(), value), other).code, things.UNAUTHORIZED)
        self.node.clock.advance(61)
        again = self.ask(self.with_echo(get(), value))
        self.assertEqual(again.code, things.UNAUTHORIZED)
        self.assertNotEqual(again.first(numbers.ECHO), value)

    def test_who_is_not_asked(self) -> None:
        """A neighbour, this machine, and whoever asks for little."""
        for source in (PEER, ("127.0.0.1", 7), ("::1", 7, 0, 0)):
            self.assertEqual(self.ask(get(), source).code, things.CONTENT)
        self.node.handler.answer = CONTENT
        self.assertEqual(self.ask(get()).code, things.CONTENT)
        self.node.handler.answer = CONTENT._replace(payload=b"x" * 80)
        self.assertEqual(self.ask(get()).code, things.CONTENT)

    def test_a_neighbour_that_is_none_any_more(self) -> None:
        """Whether a source is near is looked at again after a minute."""
        self.assertEqual(self.ask(get(), PEER).code, things.CONTENT)
        self.node.principals.far.add(PEER[0])
        self.node.clock.advance(61)
        self.assertEqual(self.ask(get(), PEER).code, things.UNAUTHORIZED)

    def test_registration(self) -> None:
        """Who wants to observe shows its address first, however small the state: notifications go on and on."""
        self.node.handler.answer = CONTENT
        refused = self.ask(get(options=[REGISTER]))
        self.assertEqual((refused.code, len(self.node.service.server.observers)), (things.UNAUTHORIZED, 0))
        taken = self.ask(self.with_echo(get(options=[REGISTER]), refused.first(numbers.ECHO)))
        self.assertIsNotNone(taken.first(things.OBSERVE))

    def test_what_is_done_already(self) -> None:
        """What is no GET was done: its large answer comes in small blocks, and nothing is done twice."""
        self.node.handler.answer = Response(Status.CHANGED, b"y" * 200, "text/plain")
        asked = request(things.POST, payload=b"go")
        got = b""
        answer = self.ask(asked)
        while True:
            block = Block.parse(answer.first(things.BLOCK2) or b"", "Block2")
            self.assertLessEqual(len(build(answer)) + 28, 3 * (len(build(asked)) + 28))
            got += answer.payload
            if not block.more:
                break
            more = (things.BLOCK2, Block(block.number + 1, False, block.exponent).build())
            answer = self.ask(request(things.POST, options=[more]))
        self.assertEqual((got, len(self.node.handler.requests)), (b"y" * 200, 1))

    def test_to_a_group(self) -> None:
        """A far source that asks the group for much is asked for Echo, if it wants answers at all; small answers go as always."""
        self.node.handler.answer = LARGE._replace(leisure_s=0.1)
        quiet = (numbers.NO_RESPONSE, b"\x1a")
        for mid, options in ((1, ()), (2, (quiet,))):
            self.node.receive(get(mid=mid, mtype=things.NON, options=options), FAR, GROUP)
        self.node.clock.advance(0.1)
        sent = self.node.port.take()
        self.assertEqual([message.code for message in sent], [things.UNAUTHORIZED])
        self.assertIsNotNone(sent[0].first(numbers.ECHO))
        self.node.handler.answer = CONTENT._replace(leisure_s=0.0)
        self.assertEqual([each.code for each in self.node.receive(get(mid=3, mtype=things.NON), FAR, GROUP)], [things.CONTENT])

    def test_errors(self) -> None:
        """A diagnostic payload is cut to what fits."""
        self.node.handler.answer = lambda _request: (_ for _ in ()).throw(ValueError("x"))
        for message in (get(), request(things.GET, path="a", options=[(things.ACCEPT, uint(9999))]), get(options=[(9999, b"x" * 40)])):
            answer = self.ask(message)
            self.assertGreaterEqual(answer.code >> 5, 4)
            self.assertLessEqual(len(build(answer)) + 28, 3 * (len(build(message)) + 28))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_uploads(self) -> None:
        """While half of the room for payloads in blocks is taken, a far source shows its address before it takes more."""
        for index in range(31):
            put = request(things.PUT, options=[(things.BLOCK1, Block(0, True, 2).build())], payload=b"x" * 64)
            self.assertEqual(self.ask(put, (f"fd00:0:0:{index // 4}::1", 1000 + index, 0, 0)).code, things.CONTINUE)
        self.assertEqual(self.ask(put).code, things.CONTINUE)
        other: Sockaddr = ("2001:db8::8", 1, 0, 0)
        refused = self.ask(put, other)
        self.assertEqual(refused.code, things.UNAUTHORIZED)
        self.assertEqual(self.ask(self.with_echo(put, refused.first(numbers.ECHO)), other).code, things.CONTINUE)
        self.assertEqual(self.ask(put, PEER).code, things.CONTINUE)


class BlocksTests(FarCase):
    limits = Limits(unproven=Unproven.BLOCKS)

    def test_small_blocks(self) -> None:
        """A client that knows no Echo gets all of it, each block no more than three times what it asked with."""
        got = b""
        options: list[tuple[int, bytes]] = []
        for _ in range(100):
            asked = get(options=options)
            answer = self.ask(asked)
            block = Block.parse(answer.first(things.BLOCK2) or b"", "Block2")
            self.assertEqual((answer.code, block.start), (things.CONTENT, len(got)))
            self.assertLessEqual(len(build(answer)) + 28, 3 * (len(build(asked)) + 28))
            got += answer.payload
            if not block.more:
                break
            options = [(things.BLOCK2, Block(block.number + 1, False, block.exponent).build())]
        self.assertEqual(got, LARGE.payload)

    def test_a_later_large_block(self) -> None:
        """Who asks for a large block in the middle gets the beginning of it."""
        self.ask(get())
        answer = self.ask(get(options=[(things.BLOCK2, Block(1, False, 5).build())]))
        block = Block.parse(answer.first(things.BLOCK2) or b"", "Block2")
        self.assertEqual((block.start, block.more), (512, True))
        self.assertLess(block.size, 512)

    def test_uploads(self) -> None:
        """It may send payloads in blocks, also while half of the room is taken."""
        for index in range(40):
            put = request(things.PUT, options=[(things.BLOCK1, Block(0, True, 2).build())], payload=b"x" * 64)
            self.assertEqual(self.ask(put, ("2001:db8::9", 1000 + index, 0, 0)).code, things.CONTINUE)

    def test_observing(self) -> None:
        """It may observe; notifications come in small blocks too."""
        asked = get(options=[REGISTER])
        self.assertIsNotNone(self.ask(asked).first(things.OBSERVE))
        self.node.handler.answer = LARGE._replace(etag=b"2")
        self.node.observable.change("temperature")
        for _ in range(30):
            self.node.clock.advance(0.01)
        (told,) = self.node.port.take()
        self.assertLessEqual(len(build(told)) + 28, 3 * (len(build(asked)) + 28))


class TrustTests(FarCase):
    limits = Limits(unproven=Unproven.TRUST)

    def test_nothing_asked(self) -> None:
        """Where the network lets no forged source in, nothing is asked and all is sent."""
        self.assertEqual(self.ask(get()).payload, LARGE.payload)
        self.assertIsNotNone(self.ask(get(options=[REGISTER])).first(things.OBSERVE))
