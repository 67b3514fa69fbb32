"""Block-wise transfer as the server does it (RFC 7959)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import numbers, things
from m2mapp.coap.blocks import Block, KeptAnswers, Key, Uploads, cut, next_number
from m2mapp.coap.faults import Refused
from m2mapp.coap.message import Message, uint
from m2mapp.coap.parameters import Limits
from m2mapp.model import errors
from m2mapp.model.messages import Response, Status
from tests.unit.coap.cases import ServerCase
from tests.unit.coap.fakes import CONTENT, OTHER, Node, get, request, vectors


class KeptTests(SynchronousTestCase):
    def _keep(self, kept: KeptAnswers, source: int, path: bytes, size: int = 100, now_s: float = 0.0) -> Key:
        key: Key = ((f"fd00:0:0:{source}::1", 5683, 0, 0), things.GET, ((things.URI_PATH, path),))
        kept.keep(key, Response(Status.CONTENT, b"x" * size), now_s)
        return key

    def test_of_one_source(self) -> None:
        """One source has so many answers kept; its oldest goes first, another's stay."""
        kept = KeptAnswers(Limits(kept_answers_per_peer=2))
        other = self._keep(kept, 2, b"x")
        keys = [self._keep(kept, 1, b"%d" % index) for index in range(4)]
        self.assertEqual([kept.find(key, 1.0) is not None for key in (other, *keys)], [True, False, False, True, True])

    def test_of_all(self) -> None:
        """So many and so many bytes are kept of all; one that is larger than a quarter of it is not kept."""
        kept = KeptAnswers(Limits(kept_answers=5, kept_bytes=10_000))
        for source in range(20):
            self._keep(kept, source, b"x")
        self.assertEqual((len(kept), kept.bytes), (5, 5 * 600))
        for source in range(20):
            self._keep(kept, source, b"x", 1900)
        self.assertEqual((len(kept), kept.bytes), (4, 4 * 2400))
        self.assertIsNone(kept.find(self._keep(kept, 1, b"large", 2100), 0.0))

    def test_times(self) -> None:
        """An answer is kept for a minute after it was last asked for, and is gone then, asked for or not."""
        kept = KeptAnswers(Limits())
        key, left = self._keep(kept, 1, b"x"), self._keep(kept, 2, b"y")
        self.assertIsNotNone(kept.find(key, 59.0))
        kept.expire(61.0)
        self.assertEqual(len(kept), 1)
        self.assertIsNone(kept.find(left, 61.0))
        self.assertIsNotNone(kept.find(key, 118.0))
        self.assertIsNone(kept.find(key, 178.0))
        self.assertEqual((len(kept), kept.bytes), (0, 0))

    def test_uploads_of_one_source(self) -> None:
        """A source that begins more uploads than it may loses its oldest."""
        uploads = Uploads(Limits(uploads_per_peer=2))
        block = request(things.PUT, "big", 1, (), b"x" * 16)
        keys: list[Key] = [(("fd00::1", 5683, 0, 0), things.PUT, ((things.URI_PATH, b"%d" % index),)) for index in range(3)]
        for key in keys:
            self.assertIsNone(uploads.add(key, block, Block(0, True, 0), 0.0))
        self.assertEqual((len(uploads), uploads.bytes), (2, 32))
        self.assertRaises(Refused, uploads.add, keys[0], block, Block(1, False, 0), 1.0)
        self.assertEqual(uploads.add(keys[2], block, Block(1, False, 0), 1.0), b"x" * 32)
        uploads.expire(30.0)
        self.assertEqual(len(uploads), 1)


class BlockTests(SynchronousTestCase):
    @given(st.integers(0, (1 << 20) - 1), st.booleans(), st.integers(0, 6))
    def test_round_trip(self, number: int, more: bool, exponent: int) -> None:
        """Every block option comes back as it was, in at most 3 bytes."""
        block = Block(number, more, exponent)
        self.assertEqual(Block.parse(block.build(), "Block1"), block)
        self.assertLessEqual(len(block.build()), 3)

    @given(st.binary(max_size=300), st.integers(0, 3))
    def test_cut_and_joined(self, payload: bytes, exponent: int) -> None:
        """The blocks of a payload give the payload, and only the last says that there are no more."""
        joined, number = b"", 0
        while True:
            block, part = cut(payload, Block(number, False, exponent))
            joined, number = joined + part, number + 1
            if not block.more:
                break
        self.assertEqual(joined, payload)

    def test_last_number(self) -> None:
        """There is no block after the last that the option can name."""
        self.assertEqual(next_number(Block(5, True, 6)), 6)
        self.assertRaises(errors.TooLarge, next_number, Block((1 << 20) - 1, True, 6))


class Block2Tests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.payload = bytes(index % 251 for index in range(5000))
        self.node.handler.answer = Response(Status.CONTENT, self.payload, "application/octet-stream")

    def _fetch(self, exponent: int, first: int = 0, code: int = things.GET) -> tuple[bytes, set[bytes | None]]:
        """All blocks from one on, as a client asks for them; the bytes and the ETags seen."""
        whole, etags, more, number = b"", set(), True, first
        while more:
            answer = self.ask(
                request(code, mid=1000 * exponent + number, options=[(things.BLOCK2, Block(number, False, exponent).build())])
            )
            block = Block.parse(answer.first(things.BLOCK2) or b"", "Block2")
            self.assertEqual((block.number, block.exponent), (number, exponent))
            self.assertLessEqual(len(answer.payload), block.size)
            self.assertEqual(answer.first(things.SIZE2), uint(5000) if number == 0 else None)
            etags.add(answer.first(things.ETAG))
            whole += answer.payload
            number, more = number + 1, block.more
        return whole, etags

    def test_sizes(self) -> None:
        """Each block size gives the same bytes; the handler is asked once for each, and the ETag is one."""
        for count, exponent in enumerate((0, 2, 5, 6), 1):
            whole, etags = self._fetch(exponent)
            self.assertEqual(whole, self.payload)
            self.assertEqual((len(etags), None in etags), (1, False))
            self.assertEqual(len(self.node.handler.requests), count)

    def test_unasked(self) -> None:
        """A large answer comes in blocks of 1024 unasked."""
        answer = self.ask(get())
        self.assertEqual((answer.first(things.BLOCK2), len(answer.payload)), (Block(0, True, 6).build(), 1024))

    def test_size_asked_for(self) -> None:
        """Who asks for the size by Size2 is told it, of a whole answer and of any block (RFC 7959, section 4)."""
        for mid, number, size in ((1, None, 4), (2, 0, 5000), (3, 2, 5000)):
            self.node.handler.answer = CONTENT if number is None else Response(Status.CONTENT, self.payload, "text/plain")
            block = [] if number is None else [(things.BLOCK2, Block(number, False, 6).build())]
            answer = self.ask(get(mid=mid, options=[*block, (things.SIZE2, b"")]))
            self.assertEqual(answer.first(things.SIZE2), uint(size))

    def test_small_answer(self) -> None:
        """Who asks for blocks of a small answer is told that it is whole (RFC 7959, section 2.2)."""
        self.node.handler.answer = CONTENT
        answer = self.ask(get(options=[(things.BLOCK2, Block(0, False, 2).build())]))
        self.assertEqual((answer.first(things.BLOCK2), answer.payload), (Block(0, False, 2).build(), b"21.5"))

    def test_operation_is_not_repeated(self) -> None:
        """The blocks of a POST's answer are fetched without posting again; when it is kept no longer, 4.08."""
        whole, _ = self._fetch(6, code=things.POST)
        self.assertEqual((whole, len(self.node.handler.requests)), (self.payload, 1))
        self.node.clock.advance(61)
        answer = self.ask(request(things.POST, mid=1, options=[(things.BLOCK2, Block(2, False, 6).build())]))
        self.assertEqual((answer.code, len(self.node.handler.requests)), (things.REQUEST_ENTITY_INCOMPLETE, 1))

    def test_any_block(self) -> None:
        """A GET may begin anywhere: the handler is asked then, and told that it is not the first block."""
        whole, _ = self._fetch(6, first=3)
        self.assertEqual((whole, self.asked().later_block), (self.payload[3072:], True))
        self._fetch(6)
        self.assertIs(self.asked().later_block, False)

    def test_changed_meanwhile(self) -> None:
        """Blocks are of the answer that was begun, though the resource has changed."""
        self.ask(get(mid=1))
        self.node.handler.answer = Response(Status.CONTENT, b"z" * 5000, "application/octet-stream")
        answer = self.ask(get(mid=2, options=[(things.BLOCK2, Block(1, False, 6).build())]))
        self.assertEqual(answer.payload, self.payload[1024:2048])

    def test_another_source(self) -> None:
        """What is kept for one source is not another's."""
        self.ask(get(mid=1))
        self.node.receive(get(mid=2, options=[(things.BLOCK2, Block(1, False, 6).build())]), OTHER)
        self.assertEqual(len(self.node.handler.requests), 2)

    def test_bad_blocks(self) -> None:
        """A block behind the end, and the reserved size: 4.00."""
        self.assertEqual(self.ask(get(mid=1, options=[(things.BLOCK2, Block(9, False, 6).build())])).code, things.BAD_REQUEST)
        self.assertEqual(self.ask(get(mid=2, options=[(things.BLOCK2, b"\x07")])).code, things.BAD_REQUEST)


class Block1Tests(ServerCase):
    def _put(self, number: int, more: bool, payload: bytes, mid: int, **other: object) -> Message:
        options = [(things.BLOCK1, Block(number, more, 2).build()), *other.get("options", [])]  # type: ignore[misc]
        return self.ask(request(things.PUT, "big", mid, options, payload))

    def test_upload(self) -> None:
        """Blocks are acknowledged with 2.31 and become one request with the whole payload."""
        payload = bytes(range(200))
        for number in range(3):
            answer = self._put(number, True, payload[number * 64 : number * 64 + 64], number)
            self.assertEqual((answer.code, answer.first(things.BLOCK1)), (things.CONTINUE, Block(number, True, 2).build()))
        self.assertEqual(self.node.handler.requests, [])
        answer = self._put(3, False, payload[192:], 3)
        self.assertEqual((answer.code, answer.first(things.BLOCK1)), (things.CHANGED, Block(3, False, 2).build()))
        self.assertEqual([asked.payload for asked in self.node.handler.requests], [payload])
        self.assertEqual(self.node.service.server.uploads.bytes, 0)

    def test_libcoap_first_block(self) -> None:
        """The first block that libcoap's client sends is taken; a repetition of it gets the same answer."""
        for _ in range(2):
            self.assertEqual([answer.code for answer in self.node.receive(vectors()["libcoap-block1"])], [things.CONTINUE])
        self.assertEqual(self.node.service.server.uploads.bytes, 256)

    def test_missing_block(self) -> None:
        """A block without those before it is 4.08, and the upload is over (RFC 7959, section 2.9.2)."""
        self._put(0, True, b"x" * 64, 1)
        self.assertEqual(self._put(2, True, b"x" * 64, 2).code, things.REQUEST_ENTITY_INCOMPLETE)
        self.assertEqual(self._put(1, False, b"x", 3).code, things.REQUEST_ENTITY_INCOMPLETE)
        self.assertEqual(self.node.handler.requests, [])

    def test_wrong_size(self) -> None:
        """A block that is not of its size is 4.00."""
        self.assertEqual(self._put(0, True, b"x" * 63, 1).code, things.BAD_REQUEST)
        self.assertEqual(self._put(0, False, b"x" * 65, 2).code, things.BAD_REQUEST)

    def test_too_large(self) -> None:
        """More than is taken, announced by Size1 or come, is 4.13 with Size1."""
        self.node = Node(limits=Limits(payload_bytes=100))
        answer = self._put(0, True, b"x" * 64, 1, options=[(things.SIZE1, uint(101))])
        self.assertEqual((answer.code, answer.first(things.SIZE1)), (things.REQUEST_ENTITY_TOO_LARGE, uint(100)))
        self._put(0, True, b"x" * 64, 2)
        self.assertEqual(self._put(1, True, b"x" * 64, 3).code, things.REQUEST_ENTITY_TOO_LARGE)
        self.assertEqual(self.node.service.server.uploads.bytes, 0)

    def test_two_at_once(self) -> None:
        """Uploads of one source to one resource are told apart by Request-Tag (RFC 9175, section 3)."""
        for mid, tag in enumerate((b"a", b"b")):
            self._put(0, True, tag * 64, mid, options=[(numbers.REQUEST_TAG, tag)])
        for mid, tag in enumerate((b"a", b"b"), 10):
            self._put(1, False, b"!", mid, options=[(numbers.REQUEST_TAG, tag)])
        self.assertEqual([asked.payload for asked in self.node.handler.requests], [b"a" * 64 + b"!", b"b" * 64 + b"!"])

    def test_lists_of_tags(self) -> None:
        """No Request-Tag, an empty one, one and two are four different lists (RFC 9175, section 3.4)."""
        lists = [[], [b""], [b"a"], [b"a", b"b"]]
        for mid, tags in enumerate(lists):
            self._put(0, True, bytes([65 + mid]) * 64, mid, options=[(numbers.REQUEST_TAG, tag) for tag in tags])
        for mid, tags in enumerate(lists, 10):
            self._put(1, False, b"!", mid, options=[(numbers.REQUEST_TAG, tag) for tag in tags])
        self.assertEqual([asked.payload[:1] for asked in self.node.handler.requests], [b"A", b"B", b"C", b"D"])

    def test_smaller_blocks_from_now_on(self) -> None:
        """A client that goes on in smaller blocks is followed (RFC 7959, section 2.3), one that goes back is told 4.08."""
        options = [(things.BLOCK1, Block(0, True, 3).build())]
        self.assertEqual(self.ask(request(things.PUT, mid=1, options=options, payload=b"x" * 128)).code, things.CONTINUE)
        for number, more in ((4, True), (5, False)):
            options = [(things.BLOCK1, Block(number, more, 1).build())]
            answer = self.ask(request(things.PUT, mid=10 + number, options=options, payload=b"y" * 32))
        self.assertEqual((answer.code, self.asked().payload), (things.CHANGED, b"x" * 128 + b"y" * 64))
        self.assertEqual(self.ask(request(things.PUT, mid=20, options=options, payload=b"y" * 32)).code, things.REQUEST_ENTITY_INCOMPLETE)

    def test_left(self) -> None:
        """An upload that is not gone on with is forgotten after a minute, also if nothing comes any more."""
        self._put(0, True, b"x" * 64, 1)
        self.node.clock.pump([30.0, 30.0, 30.0])
        self.assertEqual((len(self.node.service.server.uploads), self.node.service.server.uploads.bytes), (0, 0))

    def test_a_thousand_half_finished(self) -> None:
        """A thousand uploads that are begun leave a bounded rest, and the next good one is served."""
        for index in range(1000):
            source = ("fd00::%x" % (index % 50), 5683, 0, 0)
            block = request(things.PUT, f"big{index}", index, [(things.BLOCK1, Block(0, True, 6).build())], b"x" * 1024)
            self.node.receive(block, source)
        uploads = self.node.service.server.uploads
        self.assertLessEqual(len(uploads), 64)
        self.assertEqual(uploads.bytes, 1024 * len(uploads))
        self._put(0, True, b"x" * 64, 1)
        self.assertEqual(self._put(1, False, b"y", 2).code, things.CHANGED)

    def test_both(self) -> None:
        """A large payload, and a large answer to it, each in blocks."""
        self.node.handler.answer = lambda asked: Response(Status.CONTENT, asked.payload * 10, "application/octet-stream")
        self._put(0, True, b"x" * 64, 1)
        answer = self._put(1, False, b"y" * 64, 2)
        self.assertEqual(
            (answer.first(things.BLOCK1), answer.first(things.BLOCK2)), (Block(1, False, 2).build(), Block(0, True, 6).build())
        )
        rest = self.ask(request(things.PUT, "big", 3, [(things.BLOCK2, Block(1, False, 6).build())]))
        self.assertEqual(answer.payload + rest.payload, (b"x" * 64 + b"y" * 64) * 10)
        self.assertEqual(len(self.node.handler.requests), 1)
