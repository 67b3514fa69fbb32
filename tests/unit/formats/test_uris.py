"""URIs taken apart and put together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import MAX_URI_BYTES, Uri, address_key, parse_query, parse_uri, path_uri
from m2mapp.model.errors import Fault, Malformed, TooLarge

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
SEGMENTS = TEXTS.filter(lambda segment: segment not in (".", "..") and "/" not in segment and segment.isprintable())
HOSTS = st.sampled_from(["d1.example.org", "d_1", "10.0.0.1", "2001:db8::1", "fe80::1%eth1"])
URIS = st.builds(
    Uri,
    st.sampled_from(["coap", "coaps", "http", "https"]),
    HOSTS,
    st.integers(1, 65535),
    st.lists(SEGMENTS, max_size=3).map(tuple),
    st.lists(st.tuples(TEXTS, st.just("") | TEXTS), max_size=3).map(tuple),
)


class ParsingTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Scheme and host come in lower case, path and query decoded, the port by the scheme where none is given."""
        uri = parse_uri("CoAP://D1.Example.org/a%20b/%C3%A4?rt=temp&obs&q=%26")
        self.assertEqual(uri, Uri("coap", "d1.example.org", 5683, ("a b", "ä"), (("rt", "temp"), ("obs", ""), ("q", "&"))))
        self.assertEqual([parse_uri(f"{scheme}://h").port for scheme in ("coap", "coaps", "http", "https")], [5683, 5684, 80, 443])
        self.assertEqual((parse_uri("http://h:8080/").port, parse_uri("http://h:8080/").path), (8080, ()))

    def test_addresses(self) -> None:
        """Addresses are in their canonical form, with the zone as it is written, and with nothing else of the URI touched."""
        uri = parse_uri("coap://[FE80:0::1%25enP3]/a%2520b")
        self.assertEqual((uri.host, uri.path), ("fe80::1%enP3", ("a%20b",)))
        self.assertEqual(uri.text(), "coap://[fe80::1%25enP3]/a%2520b")
        self.assertEqual(str(parse_uri("coap://[2001:DB8:0:0::1]:61616/x").address), "2001:db8::1")
        self.assertEqual((parse_uri("coap://10.0.0.1").host, parse_uri("coap://d1").address), ("10.0.0.1", None))

    def test_refused(self) -> None:
        """What is no URI of the four schemes with a host is refused, with the field named."""
        bad = (
            "",
            "d1",
            "/a",
            "coap:",
            "coap://",
            "coap:///a",
            "mqtt://h/a",
            "coap://u@h/a",
            "coap://h/a#b",
            "coap://h:0/",
            "coap://h:65536/",
            "coap://h:x/",
        )
        more = (
            "coap://a b/",
            "coap://h/\n",
            "coap://<h>/",
            "coap://[::1/",
            "coap://[::g]/",
            "coap://a..b/",
            "coap://ä/",
            "coap://h/a//b",
            "coap://h/../a",
        )
        encodings = ("coap://h/%ff", "coap://h%2f/", "coap://[fe80::1%25]/")
        for text in (*bad, *more, *encodings, None, 5, ["coap://h/a"], b"coap://h/a"):
            self.assertEqual(self.assertRaises(Malformed, parse_uri, text, "members[0]").field, "members[0]", text)

    def test_too_long(self) -> None:
        """A URI of more than 1,024 characters is too large."""
        self.assertRaises(TooLarge, parse_uri, "coap://h/" + "a" * MAX_URI_BYTES)

    def test_queries(self) -> None:
        """Queries are pairs in their order; a plus sign is a plus sign."""
        self.assertEqual(parse_query(""), ())
        self.assertEqual(parse_query("a=1&a=2&b=x=y&c+d"), (("a", "1"), ("a", "2"), ("b", "x=y"), ("c+d", "")))
        self.assertEqual(self.assertRaises(Malformed, parse_query, "a=%FF", "query").field, "query")

    @settings(deadline=None)
    @given(st.text(max_size=30) | st.text("coaphts:/[]%25.fe80?&=#@", max_size=30).map("coap://".__add__))
    def test_any_text(self, text: str) -> None:
        """Any text is a URI that is written the same after reading what was written, or a fault."""
        try:
            uri = parse_uri(text)
        except Fault:
            return
        self.assertEqual(parse_uri(uri.text()).text(), uri.text())

    @settings(deadline=None)
    @given(URIS)
    def test_round_trip(self, uri: Uri) -> None:
        """A URI is the same after writing and reading it, whatever its path and query hold."""
        self.assertEqual(parse_uri(uri.text()), uri)


class WritingTests(SynchronousTestCase):
    def test_authority(self) -> None:
        """The scheme's own port is left out, IPv6 stands in brackets."""
        self.assertEqual(Uri("coap", "::1", 5683, ()).text(), "coap://[::1]/")
        self.assertEqual(Uri("http", "h", 8080, ("a",)).authority, "h:8080")

    def test_paths(self) -> None:
        """What RFC 3986 does not allow in a segment is percent-encoded."""
        self.assertEqual(path_uri(("a/b", "ä", "x=1", "%")), "/a%2Fb/%C3%A4/x=1/%25")
        self.assertEqual(path_uri(()), "/")

    def test_address_keys(self) -> None:
        """Spellings of one address have one key; what is no address is compared in lower case."""
        self.assertEqual({address_key(text) for text in ("2001:DB8::1", "2001:db8:0::1")}, {"2001:db8::1"})
        self.assertEqual(address_key("D1.Example"), "d1.example")
