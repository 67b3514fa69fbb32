"""Which source of the bootstrap address counts, and what is shown of all of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.sources import Source, Sources
from tests.unit.fakes import FakeClock

_TOLD = {source: Bootstrap(f"coap://{source.value}") for source in Source if source is not Source.FILE}


class SourcesTests(SynchronousTestCase):
    def build(self, file: Bootstrap | None = None) -> Sources:
        self.clock = FakeClock()
        self.told: list[str | None] = []
        sources = Sources(file or Bootstrap(), self.clock.now_ms)
        sources.listen(lambda: self.told.append(sources.in_force().uri))
        return sources

    def test_order(self) -> None:
        """The file is before DHCPv6, that before advertisements, those before HNCP; who counts no more gives way to the next."""
        sources = self.build(Bootstrap("coap://file"))
        for source, bootstrap in _TOLD.items():
            sources.learn(source, bootstrap, "there")
        self.assertEqual((sources.in_force().uri, self.told), ("coap://file", []))
        sources = self.build()
        for source in reversed(_TOLD):
            sources.learn(source, _TOLD[source], "there")
        for source in _TOLD:
            sources.learn(source, Bootstrap(), "")
        expected = ["coap://hncp", "coap://router-advertisement", "coap://dhcpv6", "coap://router-advertisement", "coap://hncp", None]
        self.assertEqual((self.told, sources.counts()), (expected, None))

    def test_only_changes_are_told(self) -> None:
        """The same again, and what does not count, change nothing."""
        sources = self.build()
        for _ in range(2):
            sources.learn(Source.DHCPV6, _TOLD[Source.DHCPV6], "there")
            sources.learn(Source.HNCP, _TOLD[Source.HNCP], "there")
        self.assertEqual(self.told, ["coap://dhcpv6"])

    def test_certificate(self) -> None:
        """The file's certificate is of the service that counts; a learned one goes with the URI that was learned with it only."""
        learned = Bootstrap("coap://learned", b"learned")
        for file, expected in (
            (Bootstrap(), learned),
            (Bootstrap("coap://file"), Bootstrap("coap://file")),
            (Bootstrap("coap://file", b"file"), Bootstrap("coap://file", b"file")),
            (Bootstrap("coap://learned"), learned),
            (Bootstrap(None, b"file"), Bootstrap("coap://learned", b"file")),
        ):
            sources = self.build(file)
            sources.learn(Source.DHCPV6, learned, "there")
            self.assertEqual(sources.in_force(), expected)

    def test_shown(self) -> None:
        """What each says, who said it and since when; without a URI a source says nothing."""
        sources = self.build()
        nothing: dict[str, object] = {"uri": None, "certificate": None, "source": None, "sources": {}}
        self.assertEqual(sources.document(), nothing)
        sources.learn(Source.DHCPV6, Bootstrap(None, b"der"), "0004aa")
        self.assertEqual(sources.document(), nothing)
        sources.learn(Source.ROUTER, Bootstrap("coap://one"), "fe80::1")
        self.clock.advance(60_000)
        sources.learn(Source.ROUTER, Bootstrap("coap://one"), "fe80::1")
        shown = {"uri": "coap://one", "certificate": None, "from": "fe80::1", "since": "2027-01-15T08:00:00.000Z"}
        about = {"uri": "coap://one", "certificate": None, "source": "router-advertisement", "sources": {"router-advertisement": shown}}
        self.assertEqual(sources.document(), about)
