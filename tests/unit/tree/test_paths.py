"""What a path may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault, Malformed, TooLarge
from m2mapp.model.identifiers import path_text
from m2mapp.tree.paths import MAX_LEVELS, MAX_PATH_BYTES, MAX_SEGMENT_BYTES, below, check_path, check_segment, parse_path, starts_with

SEGMENTS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1, max_size=12).filter(
    lambda segment: segment not in (".", "..")
)
PATHS = st.lists(SEGMENTS, max_size=6).map(tuple)


class SegmentTests(SynchronousTestCase):
    def test_ordinary_segments(self) -> None:
        """Letters of any script, spaces, dots and signs may stand in a segment, and it comes back as it is."""
        for segment in ("temp", "größe", "温度", "a b", "...", "-", "*", "constructor", "__proto__", "x" * MAX_SEGMENT_BYTES):
            self.assertEqual(check_segment(segment), segment)

    def test_refused_segments(self) -> None:
        """Empty and dot segments, slashes, control characters and lone surrogates are refused, with the field named."""
        for segment in ("", ".", "..", "a/b", "/", "a\0", "a\n", "\x7f", "\u202e", "\u200b", "\ud800"):
            refused = self.assertRaises(Malformed, check_segment, segment, "name")
            self.assertEqual(refused.field, "name")
            self.assertTrue(refused.detail.isprintable(), refused.detail)

    def test_long_segments_are_counted_in_bytes(self) -> None:
        """A segment of more than 255 bytes in UTF-8 is too large, however many characters that is."""
        self.assertEqual(check_segment("ü" * 127), "ü" * 127)
        self.assertEqual(self.assertRaises(TooLarge, check_segment, "ü" * 128).limit, MAX_SEGMENT_BYTES)


class PathTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """The root is `/`; other paths are their segments."""
        self.assertEqual(parse_path("/"), ())
        self.assertEqual(parse_path("/groups/grp7"), ("groups", "grp7"))

    def test_refused_texts(self) -> None:
        """A path that does not begin with a slash, has an empty segment, ends in a slash or climbs is refused."""
        for text in ("", "a", "//", "/a/", "//a", "/a//b", "/a/../b", "/.", "/a/..", "/\0"):
            self.assertEqual(self.assertRaises(Malformed, parse_path, text, "for").field, "for")

    def test_ten_thousand_levels(self) -> None:
        """A path of 10,000 levels is too large, as text and as segments; 32 levels are not."""
        self.assertRaises(TooLarge, parse_path, "/a" * 10_000)
        self.assertRaises(TooLarge, check_path, ("a",) * 10_000)
        self.assertEqual(check_path(("a",) * MAX_LEVELS), ("a",) * MAX_LEVELS)
        self.assertRaises(TooLarge, check_path, ("a",) * (MAX_LEVELS + 1))

    def test_long_paths(self) -> None:
        """A path of more than 1,024 bytes in all is too large, though each segment is short enough."""
        self.assertRaises(TooLarge, check_path, ("a" * 250,) * 5)
        self.assertRaises(TooLarge, check_path, ("ü" * 120,) * 5)
        self.assertEqual(len(check_path(("a" * 255,) * 4)), 4)
        self.assertEqual(MAX_PATH_BYTES, 1024)

    def test_prefixes_are_whole_segments(self) -> None:
        """`/ab` does not stand below `/a`; a path stands at itself."""
        self.assertTrue(starts_with(("a", "b"), ("a",)))
        self.assertTrue(starts_with(("a",), ("a",)))
        self.assertFalse(starts_with(("ab",), ("a",)))
        self.assertFalse(starts_with(("a",), ("a", "b")))


class PathProperties(SynchronousTestCase):
    @given(PATHS)
    def test_text_and_back(self, path: tuple[str, ...]) -> None:
        """The text of a path that is allowed parses to the same path."""
        self.assertEqual(parse_path(path_text(path)), path)

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text either is a path that passes the check and gives the text again, or raises a fault."""
        try:
            path = parse_path(text)
        except Fault:
            return
        self.assertEqual(path_text(check_path(path)), text)

    @given(PATHS, st.lists(PATHS, max_size=8))
    def test_bounds_of_what_is_below(self, path: tuple[str, ...], others: list[tuple[str, ...]]) -> None:
        """Exactly the paths between the two bounds stand at or below the path."""
        low, high = below(path)
        for other in (*others, path, (*path, "x"), *((*path, *tail) for tail in others)):
            self.assertEqual(low <= other and (high is None or other < high), starts_with(other, path), other)
