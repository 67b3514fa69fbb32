"""Changes of subjects as values: which changes are one, what is kept of them, and that what is kept is read again."""

from __future__ import annotations

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.rules.language import parse_rule
from m2mapp.formats.rules.sample import MAX_READ_BYTES, Sample
from m2mapp.tree.unit import CONTENT, EMPTY, Change, Resource, Unit
from m2mapp.triggers.changes import TIMER, Content, SubjectChange, change_in, written_by

CONTENTS = st.builds(Content, st.binary(max_size=40), st.none() | st.just("text/plain"))


def resource(content: bytes | None, kind: str = CONTENT) -> Resource:
    return Resource(("t",), kind, EMPTY, content, "text/plain", 0, 0, 5)


def change(after: Resource | None, before: Resource | None = None) -> Change:
    return Change(5, ("t",), before, after, 7, "trace")


class ChangeTests(SynchronousTestCase):
    def test_which_are_one(self) -> None:
        """A write of a content, or a timer's firing; not what is deleted, a timer's making, or another type."""
        written = written_by(Unit(cause=("a",), principal="who"), change(resource(b"2"), resource(b"1")))
        before, after = Content(b"1", "text/plain"), Content(b"2", "text/plain")
        self.assertEqual(written, SubjectChange(5, ("t",), before, after, 7, ("a",), "trace", "who"))
        self.assertIsNotNone(written_by(Unit(), change(resource(b"now", TIMER))))
        for other in (None, resource(None, TIMER), resource(None, "collection"), resource(b"1", "scl")):
            self.assertIsNone(written_by(Unit(), change(other)))

    def test_a_timer_that_was_made_has_no_content_before(self) -> None:
        """The first firing of a timer has nothing before it."""
        written = written_by(Unit(), change(resource(b"now", TIMER), resource(None, TIMER)))
        assert written is not None
        self.assertIsNone(written.before)

    def test_what_is_large_is_cut(self) -> None:
        """Of a large content so much is kept that a rule says of it what it says of the whole."""
        large = b"1" * (MAX_READ_BYTES + 500)
        written = written_by(Unit(), change(resource(large)))
        assert written is not None
        self.assertEqual((len(written.after.data), written.after.whole), (MAX_READ_BYTES + 1, False))
        verdict = parse_rule("value > 30").evaluate(Sample(written.after.data, "text/plain"))
        self.assertIsNone(verdict.holds)
        self.assertLess(written.weight, 2 * MAX_READ_BYTES)

    def test_names_that_are_no_text(self) -> None:
        """A name with what was no UTF-8 is kept so that it can be written to the disk."""
        written = written_by(Unit(cause=("\udcff",), principal="a\udcffb"), change(resource(b"1")))
        assert written is not None
        self.assertEqual((written.cause, written.principal), (("?",), "a?b"))

    @given(
        st.builds(
            SubjectChange,
            st.integers(0, 2**40),
            st.lists(st.text(max_size=9).map(lambda text: text.encode("utf-8", "replace").decode())).map(tuple),
            st.none() | CONTENTS,
            CONTENTS,
            st.integers(0, 2**42),
            st.lists(st.just("http://g1/x"), max_size=3).map(tuple),
            st.just("trace"),
            st.just("who"),
        )
    )
    def test_kept_and_read(self, one: SubjectChange) -> None:
        """What is kept is the same when it is read, through CBOR as the store writes it."""
        self.assertEqual(change_in(cbor2.loads(cbor2.dumps(dict(one.document())))), one)

    def test_what_is_none(self) -> None:
        """A document that is no change is passed over."""
        kept = SubjectChange(5, ("t",), None, Content(b"1", None), 7).document()
        for wrong in ({}, {**kept, "content": "1"}, {**kept, "before": b"1"}, {**kept, "path": "/t"}, {**kept, "number": "x"}):
            self.assertIsNone(change_in(wrong))
