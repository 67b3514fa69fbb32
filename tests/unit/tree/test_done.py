"""`tree.done`: what stands on disk of writes that were done."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.messages import Method, Response, Status
from m2mapp.model.seen import Seen, State
from m2mapp.store.codec import decode, encode
from m2mapp.tree.done import LONGEST_PAYLOAD, record_of, seen_in

ONE = Seen((b"12345678", Method.POST, ("groups", "g", "membersContent")), b"gateway1", "coap:fd00::1", 1 << 40, 247.0, state=State.DONE)


class RecordTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """Each answer is the same after a restart, as is who asked what."""
        for answer in (
            Response(Status.CHANGED),
            Response(Status.CREATED, etag=b"\x01\x02", location=("a", "b")),
            Response(Status.CONTENT, b'{"members":{}}', "application/json"),
        ):
            body = decode(encode(record_of(ONE, answer)))
            self.assertEqual(seen_in(body, 247.0), replace(ONE, answer=answer))

    def test_large(self) -> None:
        """A large payload is not kept; that it was done is."""
        body = record_of(ONE, Response(Status.CHANGED, b"x" * (LONGEST_PAYLOAD + 1)))
        self.assertEqual(seen_in(decode(encode(body)), 247.0), ONE)

    def test_small(self) -> None:
        """A record of a plain write takes little."""
        self.assertLess(len(encode(record_of(ONE, Response(Status.CHANGED, etag=b"12345678")))), 200)

    @given(
        st.dictionaries(
            st.sampled_from(("id", "method", "path", "requester", "owner", "asked", "answer")),
            st.one_of(st.none(), st.integers(), st.binary(max_size=4), st.text(max_size=4), st.lists(st.text(max_size=2)), st.just({})),
        )
    )
    def test_anything_else(self, body: dict[str, object]) -> None:
        """What is no record gives None, never an error."""
        found = seen_in(body, 0.0)
        self.assertTrue(found is None or isinstance(found, Seen))
