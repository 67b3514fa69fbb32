"""URIs and addresses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.addresses import canonical, location_text, remote_of, uri_options
from m2mapp.coap.message import uint
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault, Malformed, PeerFailed


def index(name: str) -> int:
    """Only eth1 is there."""
    if name != "eth1":
        raise OSError("no such interface")
    return 3


class UriTests(SynchronousTestCase):
    def test_no_path(self) -> None:
        """Without a path, and with the path `/`, there is no Uri-Path."""
        for uri in ("coap://192.0.2.1", "coap://192.0.2.1/"):
            self.assertEqual(uri_options(parse_uri(uri), ("192.0.2.1", 5683)), [])

    def test_options(self) -> None:
        """A name becomes Uri-Host, another port Uri-Port."""
        self.assertEqual(
            uri_options(parse_uri("coap://D1.example.org:5700/x/%C3%A9?x=%26&y"), ("192.0.2.1", 5683)),
            [
                (things.URI_HOST, b"d1.example.org"),
                (things.URI_PORT, uint(5700)),
                *((things.URI_PATH, segment) for segment in (b"x", "\u00e9".encode())),
                *((things.URI_QUERY, argument) for argument in (b"x=&", b"y")),
            ],
        )

    def test_remotes(self) -> None:
        """Where requests go; a zone is a name or an index."""
        for uri, remote in (
            ("coap://192.0.2.1/", ("192.0.2.1", 5683)),
            ("coap://[fd00::1]:1/", ("fd00::1", 1, 0, 0)),
            ("coaps://192.0.2.1/", ("192.0.2.1", 5684)),
            ("coaps://[fd00::1]:1/", ("fd00::1", 1, 0, 0)),
            ("coap://[fe80::1%25eth1]/", ("fe80::1", 5683, 0, 3)),
            ("coap://[fe80::1%257]/", ("fe80::1", 5683, 0, 7)),
        ):
            self.assertEqual(remote_of(parse_uri(uri), index), remote)
        self.assertRaises(PeerFailed, remote_of, parse_uri("coap://[fe80::1%25eth2]/"), index)
        self.assertRaises(Malformed, remote_of, parse_uri("coap://d1/"), index)

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is a URI, whose options can be told, or refused."""
        for uri in (text, "coap://" + text, "coap://[::1]/" + text):
            try:
                found = parse_uri(uri)
                uri_options(found, remote_of(found, index))
            except Fault as fault:
                self.assertTrue(fault.detail)

    def test_canonical(self) -> None:
        """Addresses as the kernel writes them."""
        self.assertEqual(canonical(("FD00:0::1", 5, 9, 3)), ("fd00::1", 5, 0, 3))
        self.assertEqual(canonical(("192.0.2.1", 5)), ("192.0.2.1", 5))
        self.assertRaises(Malformed, canonical, ("host", 5))

    def test_location(self) -> None:
        """A location is a relative URI."""
        self.assertIsNone(location_text((), ()))
        self.assertEqual(location_text((b"rd", b"a/b"), (b"x=1", b"y&z")), "/rd/a%2Fb?x=1&y%26z")
