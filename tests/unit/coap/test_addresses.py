"""URIs and addresses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap import things
from m2mapp.coap.addresses import canonical, location_text, parse_uri, remote_of
from m2mapp.coap.message import uint
from m2mapp.model.errors import Malformed, PeerFailed


def index(name: str) -> int:
    """Only eth1 is there."""
    if name != "eth1":
        raise OSError("no such interface")
    return 3


class UriTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Escaped characters are decoded after the parts are told apart (RFC 7252, section 6.4)."""
        target = parse_uri("coap://[FD00::1]:61616/a%2Fb//%C3%A9/?x=%26&y")
        self.assertEqual((target.address, target.port), ("fd00::1", 61616))
        self.assertEqual(target.path, (b"a/b", b"", "\u00e9".encode(), b""))
        self.assertEqual(target.query, (b"x=&", b"y"))

    def test_no_path(self) -> None:
        """Without a path, and with the path `/`, there is no Uri-Path."""
        for uri in ("coap://192.0.2.1", "coap://192.0.2.1/"):
            self.assertEqual(parse_uri(uri).options(("192.0.2.1", 5683)), [])

    def test_options(self) -> None:
        """A name becomes Uri-Host, another port Uri-Port."""
        self.assertEqual(
            parse_uri("coap://D1.example.org:5700/x").options(("192.0.2.1", 5683)),
            [(things.URI_HOST, b"d1.example.org"), (things.URI_PORT, uint(5700)), (things.URI_PATH, b"x")],
        )

    def test_remotes(self) -> None:
        """Where requests go; a zone is a name or an index."""
        for uri, remote in (
            ("coap://192.0.2.1/", ("192.0.2.1", 5683)),
            ("coap://[fd00::1]:1/", ("fd00::1", 1, 0, 0)),
            ("coap://[fe80::1%25eth1]/", ("fe80::1", 5683, 0, 3)),
            ("coap://[fe80::1%257]/", ("fe80::1", 5683, 0, 7)),
        ):
            self.assertEqual(remote_of(parse_uri(uri), index), remote)
        self.assertRaises(PeerFailed, remote_of, parse_uri("coap://[fe80::1%25eth2]/"), index)
        self.assertRaises(Malformed, remote_of, parse_uri("coap://d1/"), index)

    def test_refused(self) -> None:
        """What is no coap URI is refused, and named."""
        for uri in (
            "",
            "x",
            "coap:",
            "coaps://[::1]/",
            "coap://u@[::1]/",
            "coap://[::1]/#f",
            "coap://[::1]:70000/",
            "coap://[zz]/",
            "coap://[::1]:x/",
        ):
            self.assertIn("uri", self.assertRaises(Malformed, parse_uri, uri).detail)
        self.assertRaises(Malformed, parse_uri, "coap://[::1]/" + "x" * 256)

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is a URI or refused."""
        for uri in (text, "coap://" + text, "coap://[::1]/" + text):
            try:
                remote_of(parse_uri(uri), index)
            except (Malformed, PeerFailed) as fault:
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
