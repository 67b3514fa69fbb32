"""The pages in a browser: sign-in, what is live, what is told where the gateway is away, and what leaves the machine."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.system.browser import Browser, hosts, sign_in, signed_in, skip_reason_of_browser
from tests.system.nodes import Gateway, Site


class PagesCase(SynchronousTestCase):
    """A gateway on the loopback, and a browser."""

    skip = skip_reason_of_browser()

    def setUp(self) -> None:
        site = Site(namespaces=False)
        self.gateway: Gateway = site.__enter__().gateway_here("gw")
        self.addCleanup(site.__exit__, None, None, None)
        self.gateway.start()
        self.gateway.ready()
        self.uri = f"http://127.0.0.1:{self.gateway.port}"


class OverviewTests(PagesCase):
    def test_sign_in_and_live(self) -> None:
        """One who is not signed in comes to the sign-in page and from there to what was asked; a change is on the page by itself."""
        with Browser() as browser:
            browser.open(self.uri + "/admin/")
            self.assertIn("/admin/sign-in", browser.uri)
            sign_in(browser, self.gateway.token)
            self.assertEqual(browser.uri, self.uri + "/admin/")
            browser.wait_live()
            began = time.monotonic()
            self.gateway.put("/kitchen", "21.5")
            browser.wait_text("#lately", "/kitchen")
            print(f"a change was on the page after {1000 * (time.monotonic() - began):.0f} ms")
            self.assertEqual(hosts(browser.requests()), {f"127.0.0.1:{self.gateway.port}"})
            self.assertEqual([one for one in browser.complaints() if "favicon" not in one], [])
            self.assertEqual(browser.axe(), [])

    def test_restart_under_an_open_page(self) -> None:
        """Where the gateway is away that is told at the top, and when it is back it is told no more."""
        with signed_in(self.uri, self.gateway.token) as browser:
            browser.wait_live()
            self.gateway.kill()
            browser.wait_text("#connection", "is lost")
            self.gateway.start()
            self.gateway.ready()
            browser.wait_live()
            self.assertEqual(browser.text("#connection"), "")
