"""URIs: what is taken, in what form, and what is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.uris import MAX_PART_BYTES, MAX_URI_BYTES, Uri, address_key, parse_query, parse_uri, path_uri
from m2mapp.model.errors import Fault, Malformed, TooLarge


class ParseTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Scheme, host, port, path and query, decoded; scheme and host in lower case; the scheme's port where none is given."""
        self.assertEqual(
            parse_uri("COAP://D1.Example.org:61616/xx/a%20a?unit=C&raw&x=a%26b"),
            Uri("coap", "d1.example.org", 61616, ("xx", "a a"), (("unit", "C"), ("raw", ""), ("x", "a&b"))),
        )
        ports = {scheme: parse_uri(f"{scheme}://h/").port for scheme in ("coap", "coaps", "http", "https")}
        self.assertEqual(ports, {"coap": 5683, "coaps": 5684, "http": 80, "https": 443})

    def test_paths(self) -> None:
        """No path and `/` are the root; a `/` at the end says nothing."""
        for text, path in (("", ()), ("/", ()), ("/a", ("a",)), ("/a/", ("a",)), ("/a.b/~c", ("a.b", "~c")), ("/%C3%BC", ("ü",))):
            self.assertEqual(parse_uri("coap://h" + text).path, path, text)

    def test_addresses(self) -> None:
        """Addresses in their canonical form; a zone with or without percent-encoding, and no other percent sign is touched."""
        for text, host in (
            ("[FD00:0::D1]", "fd00::d1"),
            ("[fe80::1%25eth0]", "fe80::1%eth0"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
            ("192.0.2.7", "192.0.2.7"),
        ):
            uri = parse_uri(f"coap://{text}/a%25b")
            self.assertEqual((uri.host, uri.path, str(uri.address)), (host, ("a%b",), host))
        self.assertIsNone(parse_uri("coap://d1.example.org2x").address)
        self.assertIsNone(parse_uri("coap://d1/").address)

    def test_refused(self) -> None:
        """What is no such URI is refused, the field named, the value shown."""
        for text in (
            *("", "temp1", "/a", "d1/a", "coap:d1", "coap:/d1", "//d1/a", "ftp://d1/a", "coap://", "coap:///a", "coap://:5683/"),
            *("coap://u@h/", "coap://u:p@h/", "coap://h/#f", "coap://h#", "coap://h:0/", "coap://h:65536/", "coap://h:x/", "coap://h:-1/"),
            *(
                "coap://h /",
                "coap://h/a b",
                "coap://h/\n",
                "coap://h/\x00",
                "coap://h/\ud800",
                "coap://-h/",
                "coap://a..b/",
                "coap://ü.example/",
            ),
            *("coap://[::1/", "coap://::1/", "coap://[192.0.2.1]/", "coap://[x]/", "coap://[::1]x/", "coap://256.1.1.1/", "coap://1.2.3/"),
            *(
                "coap://h//a",
                "coap://h/a//b",
                "coap://h/a//",
                "coap://h/.",
                "coap://h/../a",
                "coap://h/a/%2e%2e",
                "coap://h/a%2Fb",
                "coap://h/%00",
            ),
            *("coap://h/%ff", "coap://h/?%ff", "coap://h/%ed%a0%80", "coap://%31/"),
        ):
            fault = self.assertRaises(Malformed, parse_uri, text, "members[3]")
            self.assertEqual(fault.field, "members[3]", text)
        for value in (None, 7, b"coap://h/", ["coap://h/"]):
            self.assertRaises(Malformed, parse_uri, value)

    def test_too_large(self) -> None:
        """Long URIs, and parts that no CoAP option can carry, are refused."""
        self.assertRaises(TooLarge, parse_uri, "coap://h/" + "a/" * MAX_URI_BYTES)
        for text in ("/" + "a" * (MAX_PART_BYTES + 1), "/" + "%C3%BC" * (MAX_PART_BYTES // 2 + 1), "/a?" + "q" * (MAX_PART_BYTES + 1)):
            self.assertRaises(TooLarge, parse_uri, "coap://h" + text)
        for text in ("/" + "a" * MAX_PART_BYTES, "/" + "%C3%BC" * (MAX_PART_BYTES // 2), "/a?" + "q" * MAX_PART_BYTES):
            self.assertEqual(parse_uri("coap://h" + text).host, "h")


class TextTests(SynchronousTestCase):
    def test_the_one_form(self) -> None:
        """A URI has one text: default port left out, brackets and %25 where they belong, `/` for the root."""
        for text, expected in (
            ("COAP://D1:5683", "coap://d1/"),
            ("http://[FD00::1]:8080/a/", "http://[fd00::1]:8080/a"),
            ("coap://[fe80::1%eth0]/", "coap://[fe80::1%25eth0]/"),
            ("coap://d1/%61%20b%2561?u=%43&r", "coap://d1/a%20b%2561?u=C&r"),
            ("coap://d1/a;b=c,d@e?f=a/b?c", "coap://d1/a;b=c,d@e?f=a/b?c"),
        ):
            self.assertEqual(parse_uri(text).text(), expected)

    def test_path_and_address(self) -> None:
        """The same for paths and addresses by themselves."""
        self.assertEqual((path_uri(()), path_uri(("a b", "ü", "c"))), ("/", "/a%20b/%C3%BC/c"))
        self.assertEqual(
            [address_key(text) for text in ("FD00:0::1", "fe80::1%eth0", "D1.Example")], ["fd00::1", "fe80::1%eth0", "d1.example"]
        )
        self.assertEqual(parse_query(""), ())

    @given(
        st.sampled_from(["coap", "coaps", "http", "https"]),
        st.one_of(
            st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z][a-z0-9-]{0,9}[a-z])?", fullmatch=True),
            st.ip_addresses(v=4).map(str),
            st.ip_addresses(v=6).map(str),
        ),
        st.integers(1, 65535),
        st.lists(st.text(min_size=1, max_size=20), max_size=4),
        st.lists(st.tuples(st.text(st.characters(exclude_characters="="), min_size=1, max_size=9), st.text(max_size=9)), max_size=3),
    )
    def test_text_and_back(self, scheme: str, host: str, port: int, path: list[str], query: list[tuple[str, str]]) -> None:
        """Any URI that can be made comes back the same from its text, or one of its segments is refused."""
        uri = Uri(scheme, host, port, tuple(path), tuple(query))
        try:
            text = uri.text()
        except UnicodeEncodeError:
            return
        if any(segment in (".", "..") or "/" in segment or not segment.isprintable() for segment in path):
            self.assertRaises(Malformed, parse_uri, text)
        else:
            self.assertEqual(parse_uri(text), uri)
            self.assertEqual(parse_uri(text).text(), text)

    @given(
        st.one_of(
            st.text(max_size=60),
            st.text(max_size=40).map(lambda text: "coap://" + text),
            st.text(max_size=40).map(lambda t: "coap://h/" + t),
        )
    )
    def test_any_text(self, text: str) -> None:
        """Any text is a URI, whose text is stable, or a fault."""
        try:
            uri = parse_uri(text)
        except Fault:
            return
        self.assertEqual(parse_uri(uri.text()), uri)
