"""Whose a URI is, and where its host is."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.clients.names import Names, OwnUris
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import NotSent
from m2mapp.registry.scl import SCL_TYPE, check
from m2mapp.tree.registrations import SCL, SCLS, Registrations
from m2mapp.tree.unit import Unit, Write
from tests.unit.fakes import build_tree


class OwnTests(SynchronousTestCase):
    def build(self) -> OwnUris:
        """A node of two names, on a host with fd00::1 and 192.0.2.1."""
        own = OwnUris(("g1.example.org", "Alias"), lambda address: address in ("fd00::1", "192.0.2.1", "::1"))
        own.listens("coap", "::", 5683)
        own.listens("coap", "192.0.2.9", 7000)
        own.listens("http", "127.0.0.1", 8080)
        own.listens("http", "localhost", 8081)
        return own

    def test_names(self) -> None:
        """By its names a URI is the node's whatever its scheme and port; names of others, and parts of its own, are not."""
        own = self.build()
        for text, expected in (
            ("coap://g1.example.org/", True),
            ("https://G1.example.org:99/x", True),
            ("http://alias/", True),
            ("coap://example.org/", False),
            ("coap://d1.g1.example.org/", False),
        ):
            self.assertIs(own(parse_uri(text)), expected, text)

    def test_addresses(self) -> None:
        """By address only where that scheme listens at that address and port; `::` is every IPv6 address of the host, and no IPv4 one."""
        own = self.build()
        for text, expected in (
            ("coap://[fd00::1]/", True),
            ("coap://[::1]/", True),
            ("coap://[fd00::2]/", False),
            ("coap://[fd00::1]:7000/", False),
            ("http://[fd00::1]:5683/", False),
            ("coap://192.0.2.1/", False),
            ("coap://192.0.2.9:7000/", True),
            ("http://127.0.0.1:8080/", True),
            ("http://127.0.0.1/", False),
        ):
            self.assertIs(own(parse_uri(text)), expected, text)


class NamesTests(SynchronousTestCase):
    def build(self) -> tuple[Names, list[str]]:
        """Names with devices d1 (port 5683) and d2 (port 40000, link-local), peers by address and by name, and a resolver that records."""
        built = build_tree((SCL_TYPE,))
        for name, given in (
            ("d1", {"hosts": ["d1.example.org"], "addresses": ["fd00::d1", "192.0.2.1"]}),
            ("d2", {"hosts": ["d2.example.org"], "addresses": ["fe80::2%eth1"], "port": 40000}),
            ("d3", {"hosts": ["d3.example.org"]}),
        ):
            built.committer.commit(Unit((Write((*SCLS, name), SCL, check(name, given)),)))
        asked: list[str] = []

        def resolve(host: str) -> Deferred[list[str]]:
            asked.append(host)
            if host == "broken.example.org":
                return fail(OSError("no resolver"))
            return succeed(["2001:db8::7", "192.0.2.7"] if host.endswith("example.com") else [])

        peers = {"n1": "http://[fd00::99]:8080", "n2": "http://n2.example.com:8080/", "n3": "coap://n3.example.com"}
        return Names(Registrations(built.tree), peers, resolve), asked

    def test_where(self) -> None:
        """Addresses as they are; then registrations by host and by endpoint, peers, the resolver; each with the port that is meant."""
        names, asked = self.build()
        for text, place in (
            ("coap://[fd00::5]:7/", ("fd00::5", 7)),
            ("coap://d1.example.org/t", ("fd00::d1", 5683)),
            ("coap://D1/t", ("fd00::d1", 5683)),
            ("coap://d1.example.org:7000/t", ("fd00::d1", 7000)),
            ("http://d1.example.org/t", ("fd00::d1", 80)),
            ("coap://d2.example.org/t", ("fe80::2%eth1", 40000)),
            ("http://n1/t", ("fd00::99", 8080)),
            ("http://n1:81/t", ("fd00::99", 81)),
            ("coap://n1/t", ("fd00::99", 5683)),
        ):
            self.assertEqual(self.successResultOf(names.find(parse_uri(text))), place, text)
        self.assertEqual(asked, [])
        for text, place, host in (
            ("http://n2/t", ("2001:db8::7", 8080), "n2.example.com"),
            ("http://n2.example.com/t", ("2001:db8::7", 80), "n2.example.com"),
            ("coap://other.example.com:7/t", ("2001:db8::7", 7), "other.example.com"),
        ):
            self.assertEqual(self.successResultOf(names.find(parse_uri(text))), place, text)
            self.assertEqual(asked.pop(), host)

    def test_nobody_knows(self) -> None:
        """A host that nobody knows, a device without an address, a resolver that fails: nothing leaves, and the host is named."""
        names, _ = self.build()
        for host in ("none.example.org", "d3.example.org", "broken.example.org"):
            fault = self.failureResultOf(names.find(parse_uri(f"coap://{host}/")), NotSent).value
            self.assertIn(host, fault.detail)
