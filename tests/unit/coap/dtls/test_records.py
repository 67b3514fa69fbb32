"""What is seen of DTLS records from outside."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.dtls.address import Wanted
from m2mapp.coap.dtls.contexts import ClientContexts, Judge
from m2mapp.coap.dtls.records import (
    HEADER_BYTES,
    LARGEST_DATAGRAM,
    Content,
    Record,
    client_hello,
    datagrams,
    first_record,
    is_client_hello,
)


def hello() -> bytes:
    """A ClientHello as OpenSSL writes it."""
    connection = ClientContexts(None, ()).connection(Judge(Wanted("g1.example.org", b"")))
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return connection.bio_read(1 << 16)
    raise AssertionError("the handshake is done")


def record(content: int, size: int, epoch: int = 1) -> bytes:
    """A record of so many bytes behind its header."""
    return bytes((content, 0xFE, 0xFD)) + epoch.to_bytes(2, "big") + bytes(6) + size.to_bytes(2, "big") + bytes(size)


class RecordTests(SynchronousTestCase):
    def test_first(self) -> None:
        """The first record says what it holds; what is cut off, too large, or of another protocol is no record."""
        self.assertEqual(first_record(record(23, 5)), Record(Content.APPLICATION_DATA, 1))
        self.assertEqual(first_record(record(22, 5, 0) + b"rest"), Record(Content.HANDSHAKE, 0))
        for wrong in (b"", record(23, 5)[:-1], record(24, 5), b"\x16\x03\x03" + record(22, 5)[3:], record(23, LARGEST_DATAGRAM)):
            self.assertIsNone(first_record(wrong))

    def test_client_hello(self) -> None:
        """A ClientHello of OpenSSL is seen as one, with its random and its empty cookie; changed lengths make it malformed."""
        data = hello()
        first = first_record(data)
        assert first is not None
        self.assertTrue(is_client_hello(data, first))
        seen = client_hello(data)
        assert seen is not None
        self.assertEqual((seen.random, seen.cookie), (data[27:59], b""))
        for at in (14, 19, 22, 59):
            wrong = bytearray(data)
            wrong[at] ^= 0xFF
            self.assertIsNone(client_hello(bytes(wrong)), at)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are a record or not, a ClientHello or not."""
        first = first_record(data)
        if first is not None and is_client_hello(data, first):
            client_hello(data)
        client_hello(hello()[:HEADER_BYTES] + data)

    @given(st.lists(st.integers(0, 600), max_size=20), st.integers(50, 1400))
    def test_datagrams(self, sizes: list[int], most: int) -> None:
        """Records are put into as few datagrams as their order allows, and none is cut."""
        records = [record(22, size) for size in sizes]
        found = datagrams(b"".join(records), most)
        self.assertEqual(b"".join(found), b"".join(records))
        for datagram in found:
            self.assertIsNotNone(first_record(datagram))
            self.assertTrue(len(datagram) <= most or datagram in records)
        for one, other in pairwise(found):
            self.assertGreater(len(one) + HEADER_BYTES + int.from_bytes(other[11:13], "big"), most)
