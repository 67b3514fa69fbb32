"""The cookies of HelloVerifyRequests."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.coap.dtls.cookies import PERIOD_S, Cookies
from m2mapp.net.interfaces import Sockaddr

SOURCE: Sockaddr = ("fd00::1", 5684, 0, 0)


class CookieTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cookies = Cookies(Random(1))

    def test_source(self) -> None:
        """A cookie is good for the source that it was made for: address, port and zone."""
        cookie = self.cookies.make(SOURCE, 0.0)
        self.assertTrue(self.cookies.is_good(cookie, SOURCE, 1.0))
        others: tuple[Sockaddr, ...] = (("fd00::2", 5684, 0, 0), ("fd00::1", 5685, 0, 0), ("fd00::1", 5684, 0, 2), ("192.0.2.1", 5684))
        for other in others:
            self.assertFalse(self.cookies.is_good(cookie, other, 1.0))
        for wrong in (b"", cookie[:-1], cookie + b"\0", bytes(16)):
            self.assertFalse(self.cookies.is_good(wrong, SOURCE, 1.0))

    def test_time(self) -> None:
        """It is good until the period after its own is over, however seldom cookies are asked for."""
        for later, good in ((PERIOD_S - 1, True), (2 * PERIOD_S - 1, True), (2 * PERIOD_S + 1, False), (1e9, False)):
            cookies = Cookies(Random(1))
            cookie = cookies.make(SOURCE, 0.0)
            if later > PERIOD_S:
                cookies.make(SOURCE, PERIOD_S)
            self.assertEqual(cookies.is_good(cookie, SOURCE, later), good, later)
        cookie = self.cookies.make(SOURCE, 0.0)
        self.assertFalse(self.cookies.is_good(cookie, SOURCE, 5 * PERIOD_S))
