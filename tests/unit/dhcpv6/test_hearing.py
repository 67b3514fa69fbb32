"""The bootstrap URI of router advertisements: how long it counts, and what is not believed."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.advert import build_solicitation
from m2mapp.dhcpv6.announced import LEAST_S, MOST_ROUTERS
from m2mapp.dhcpv6.bootstrap_options import Bootstrap
from m2mapp.dhcpv6.drivers.hearing import SOLICIT_AGAIN_S, SOLICITATIONS, Hearing
from m2mapp.model.metrics import Metrics
from tests.unit.dhcpv6.parts import RecordingDatagrams
from tests.unit.fakes import FakeHost

_OPTION = 253
_URI = "coaps://bs.example.org:5684"
_FROM = "fe80::1"


def _option(body: bytes, kind: int = _OPTION) -> bytes:
    units = -(-(len(body) + 2) // 8)
    return (bytes((kind, units)) + body).ljust(units * 8, b"\0")


def _advertisement(*options: bytes, lifetime_s: int = 1800) -> bytes:
    return bytes((134, 0, 0, 0, 64, 0)) + lifetime_s.to_bytes(2, "big") + bytes(8) + b"".join(options)


class HearingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.host, self.metrics = Clock(), FakeHost(), Metrics()
        self.datagrams = RecordingDatagrams({"eth0": 3})
        self.told: list[tuple[str | None, str]] = []
        self.hearing = Hearing(self.clock, (self.datagrams, self.host), "eth0", _OPTION, self.tell, self.metrics)
        self.hearing.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.hearing.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.host.ports[0].stopped)

    def tell(self, bootstrap: Bootstrap, origin: str) -> None:
        if (bootstrap.uri, origin) != (self.told[-1] if self.told else None):
            self.told.append((bootstrap.uri, origin))

    def hear(self, data: bytes, source: str = _FROM, interface: int = 3) -> None:
        self.host.ports[0].receive(data, source, interface)

    def counts(self) -> str | None:
        return self.told[-1][0]

    def test_asks(self) -> None:
        """Three solicitations at most, none once a router has answered; again when the interface was away."""
        self.clock.pump([SOLICIT_AGAIN_S] * 5)
        asked = (build_solicitation(), "ff02::2", 3)
        self.assertEqual(self.host.ports[0].sent, [asked] * SOLICITATIONS)
        del self.datagrams.interfaces["eth0"]
        self.clock.advance(SOLICIT_AGAIN_S)
        self.datagrams.interfaces["eth0"] = 4
        self.clock.advance(SOLICIT_AGAIN_S)
        self.hear(_advertisement(_option(_URI.encode())), interface=4)
        self.clock.pump([SOLICIT_AGAIN_S] * 3)
        self.assertEqual((len(self.host.ports[0].sent), self.counts()), (SOLICITATIONS + 1, _URI))

    def test_lifetime(self) -> None:
        """It counts as long as its router, half an hour at least; an advertisement without the option takes nothing back."""
        for lifetime_s, lasts_s in ((9000, 9000.0), (0, LEAST_S), (60, LEAST_S)):
            self.hear(_advertisement(_option(_URI.encode()), lifetime_s=lifetime_s))
            self.hear(_advertisement(lifetime_s=1800))
            self.assertEqual(self.told[-1], (_URI, _FROM))
            self.clock.advance(lasts_s - 1)
            self.assertEqual(self.counts(), _URI)
            self.clock.advance(1)
            self.assertIsNone(self.counts())

    def test_router_that_goes(self) -> None:
        """A router that takes itself back takes back what it said; the next one counts."""
        self.hear(_advertisement(_option(_URI.encode())))
        self.hear(_advertisement(_option(b"coap://other")), "fe80::2")
        self.assertEqual(self.counts(), _URI)
        self.hear(_advertisement(lifetime_s=0))
        self.assertEqual(self.told[-1], ("coap://other", "fe80::2"))

    def test_link_that_goes(self) -> None:
        """What was heard on a link that went says nothing of the next."""
        self.hear(_advertisement(_option(_URI.encode())))
        self.datagrams.interfaces["eth0"] = 4
        self.clock.advance(SOLICIT_AGAIN_S)
        self.assertIsNone(self.counts())
        self.hear(_advertisement(_option(_URI.encode())))
        self.assertIsNone(self.counts())

    def test_not_believed(self) -> None:
        """Malformed ones, from elsewhere than the link, with what is no URI: counted, and nothing changes."""
        good = _advertisement(_option(_URI.encode()))
        bad = [good[:-1], good[:15], b"", good + b"\xfd\0", b"\x85" + good[1:], good[:1] + b"\1" + good[2:]]
        bad += [_advertisement(_option(body)) for body in (b"", b"bs", b"coap://b s", b"coap://\xff", b"\0" * 30)]
        for data in bad:
            self.hear(data)
        self.hear(good, "2001:db8::1")
        self.hear(good, "::")
        self.hear(good, interface=9)
        self.hear(_advertisement(_option(_URI.encode(), 254)))
        ignored = self.metrics.counter("m2mapp_dhcpv6_uplink_advertisements_ignored_total", "")
        self.assertEqual((self.told, ignored.value), ([(None, "")], len(bad) + 2))

    def test_many_routers(self) -> None:
        """A link full of routers costs no more than the first few; those go on."""
        for number in range(100):
            self.hear(_advertisement(_option(b"coap://%d" % number)), f"fe80::{number:x}")
        self.assertEqual(len(self.hearing._routers._heard), MOST_ROUTERS)
        self.hear(_advertisement(_option(b"coap://new")), "fe80::0")
        self.assertEqual(self.counts(), "coap://new")
