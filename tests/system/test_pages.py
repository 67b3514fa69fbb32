"""The pages in a browser: each action end to end, what is live, what is told where the gateway is away, and what leaves the machine."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from twisted.trial.unittest import SynchronousTestCase

from tests.system.browser import Browser, hosts, sign_in, signed_in, skip_reason_of_browser
from tests.system.namespaces import wait_until
from tests.system.nodes import Gateway, Site

PASSWORD = "a few words of no meaning"
PAGES = (
    "/admin/",
    "/admin/tree",
    "/admin/tree/kitchen/temperature",
    "/admin/tree/node",
    "/admin/people",
    "/admin/audit",
    "/admin/account",
)
FIRST_PAGE_BYTES = 100_000
TABS = 8


class PagesCase(SynchronousTestCase):
    """A gateway on the loopback with a few values, and browsers."""

    skip = skip_reason_of_browser()

    def setUp(self) -> None:
        site = Site(namespaces=False)
        self.gateway: Gateway = site.__enter__().gateway_here("gw")
        self.addCleanup(site.__exit__, None, None, None)
        self.gateway.start()
        self.gateway.ready()
        self.uri = f"http://127.0.0.1:{self.gateway.port}"
        for number in range(5):
            self.gateway.put("/kitchen/temperature", str(20 + number))

    def check_quiet(self, browser: Browser) -> None:
        """The browser asked nobody but the gateway, and had nothing to complain of."""
        self.assertLessEqual(hosts(browser.requests()), {f"127.0.0.1:{self.gateway.port}"})
        self.assertEqual(browser.complaints(), [])


class SignInTests(PagesCase):
    def test_first_user_to_last_session(self) -> None:
        """The one-time code makes the first user, who makes a token and takes it back; a password signs in; the audit list has it all."""
        with Browser() as browser:
            browser.open(self.uri + "/admin/tree/kitchen")
            self.assertIn("/admin/sign-in", browser.uri)
            code = (self.gateway.state_seen / "admin.code").read_text()
            for field, text in (("code", code.strip()), ("name", "anna"), ("password", PASSWORD), ("repeat", PASSWORD)):
                browser.fill(f"#first [name={field}]", text)
            browser.click("#first button")
            browser.wait_text(".who", "anna")
            self.assertEqual(browser.uri, self.uri + "/admin/tree/kitchen")

            browser.open(self.uri + "/admin/people")
            browser.click("#new-token-form summary")
            browser.fill("#token-name", "meter")
            browser.choose("#token-role", "operator")
            browser.click("#new-token-form button")
            browser.wait("#new-token")
            token = browser.text("#new-token")
            headers = {"Authorization": f"Bearer {token}"}
            with self.gateway.caller() as caller:
                self.assertEqual(caller.request("PUT", "/kitchen/light", "on", "text/plain", headers).status, 201)
                browser.click("#tokens button", "Take back meter")
                browser.wait_text("#notices", "worth nothing any more")
                self.assertEqual(caller.request("PUT", "/kitchen/light", "off", "text/plain", headers).status, 401)
            self.assertEqual(browser.axe(), [])

            browser.click(".who a", "Sign out")
            browser.click("main button", "Sign out")
            browser.fill("#by-password [name=name]", "anna")
            browser.fill("#by-password [name=password]", PASSWORD)
            browser.click("#by-password button")
            browser.wait_text(".who", "anna")
            browser.open(self.uri + "/admin/audit")
            for what in ("made the first user", "made a token", "took back the token", "signed out", "signed in"):
                browser.wait_text("#audit td", what)
            self.check_quiet(browser)

    def test_a_form_of_another_site(self) -> None:
        """A page of another port of this machine sends a form to the gateway, as the user who is signed in: it is refused."""
        page = f"""<form method=post action="{self.uri}/admin/tree/stolen"><input name=do value=write><input name=content value=1>
            <input name=type value=text/plain></form><script>document.forms[0].submit()</script>""".encode()

        class Evil(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Evil)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with signed_in(self.uri, self.gateway.token) as browser:
            browser.open(f"http://127.0.0.1:{server.server_port}/")
            browser.wait_text("main", "another")
            self.assertEqual(self.gateway.get("/stolen").status, 404)


class TreeTests(PagesCase):
    def test_make_write_delete(self) -> None:
        """A resource is made, written and deleted by hand; each is told as done when it is, and is so for everybody."""
        with signed_in(self.uri, self.gateway.token) as browser:
            browser.open(self.uri + "/admin/tree/kitchen")
            browser.click("#create summary")
            for field, text in (("name", "lamp <1>"), ("content", "off")):
                browser.fill(f"#create-form [name={field}]", text)
            browser.click("#create-form button")
            browser.wait_text("#notices", "is made")
            browser.wait_text("#shown", "off")
            self.assertEqual(browser.uri, self.uri + "/admin/tree/kitchen/lamp%20%3C1%3E")
            self.assertEqual(self.gateway.get("/kitchen/lamp%20%3C1%3E").body, b"off")

            browser.fill("#write [name=content]", "on")
            browser.click("#write button")
            browser.wait_text("#notices", "is written")
            browser.wait_text("#shown", "on")
            self.assertEqual(self.gateway.get("/kitchen/lamp%20%3C1%3E").body, b"on")

            browser.fill("#write [name=type]", "nonsense")
            browser.click("#write button")
            browser.wait_text(".notice.failed", "a media type such as")

            browser.click("#delete summary")
            browser.click("#delete-form button")
            browser.wait_text("#notices", "is deleted")
            self.assertEqual(browser.uri, self.uri + "/admin/tree/kitchen")
            self.assertEqual(self.gateway.get("/kitchen/lamp%20%3C1%3E").status, 404)

    def test_somebody_else_writes_meanwhile(self) -> None:
        """What somebody else writes is on the open page at once, with its plot; what was typed stays, and is not laid over it unseen."""
        with signed_in(self.uri, self.gateway.token) as browser:
            browser.open(self.uri + "/admin/tree/kitchen/temperature")
            browser.wait_live()
            browser.wait("#plot .uplot")
            browser.fill("#write [name=content]", "99")
            self.gateway.put("/kitchen/temperature", "31.5")
            browser.wait_text("#shown", "31.5")
            browser.wait('#plot[data-points="6"]')
            self.assertEqual(browser.run("return document.querySelector('#write [name=content]').value"), "99")
            browser.click("#write button")
            browser.wait_text(".notice.failed", "not as")
            self.assertEqual(self.gateway.get("/kitchen/temperature").body, b"31.5")
            browser.click("#write button")
            browser.wait_text("#shown", "99")

    def test_without_scripts(self) -> None:
        """All of it works in a browser that runs no script."""
        with Browser(script=False) as browser:
            browser.open(self.uri + "/admin/")
            sign_in(browser, self.gateway.token)
            browser.open(self.uri + "/admin/tree/kitchen/temperature")
            browser.fill("#write [name=content]", "18")
            browser.click("#write button")
            browser.wait_text("#notices", "is written")
            browser.click("#delete summary")
            browser.click("#delete-form button")
            browser.wait_text("#notices", "is deleted")
            self.assertEqual(self.gateway.get("/kitchen/temperature").status, 404)


class LiveTests(PagesCase):
    def test_eight_tabs(self) -> None:
        """Eight tabs are live at once on one stream, and each gets its pages: a browser opens no more than six connections to a host."""
        with signed_in(self.uri, self.gateway.token) as browser:
            tabs = [browser.this_tab]
            for _ in range(TABS):
                tabs.append(browser.new_tab())
                browser.open(self.uri + "/admin/tree/kitchen/temperature")
                browser.wait_live()
            streams = self.gateway.metric("m2mapp_http_streams")
            self.gateway.put("/kitchen/temperature", "7.25")
            for tab in tabs[1:]:
                browser.tab(tab)
                browser.wait_text("#shown", "7.25")
            self.assertEqual(streams, 1)
            self.check_quiet(browser)
            took = [round(self.delay_ms(browser, f"{number}.125")) for number in range(5)]
            print(f"a change was on the page after {took} ms")

    def delay_ms(self, browser: Browser, value: str) -> float:
        """How long after it is written a new value is on the open page of the resource, by the wall clock that both have."""
        script = """const [value, done] = arguments, shown = () => document.getElementById("shown").textContent.trim();
            const look = () => shown() === value ? done(Date.now()) : setTimeout(look, 2); look();"""
        seen: list[object] = []
        watching = threading.Thread(target=lambda: seen.append(browser.run_async(script, value)))
        watching.start()
        time.sleep(0.5)
        began = time.time()
        self.gateway.put("/kitchen/temperature", value)
        watching.join(20)
        assert isinstance(seen[0], int)
        return seen[0] - 1000 * began

    def test_restart_under_an_open_page(self) -> None:
        """A lost gateway is told at the top, and nothing can be sent then; when it is back the page is true again, and still signed in."""
        with signed_in(self.uri, self.gateway.token) as browser:
            browser.open(self.uri + "/admin/tree/kitchen/temperature")
            browser.wait_live()
            self.gateway.kill()
            browser.wait_text("#connection", "is lost")
            self.assertEqual(browser.run("return document.querySelectorAll('form[method=post] button:enabled').length"), 0)
            self.gateway.start()
            self.gateway.ready()
            self.gateway.put("/kitchen/temperature", "3.5")
            browser.wait_live()
            browser.wait_text("#shown", "3.5")
            self.assertEqual(browser.text("#connection"), "")
            browser.reload()
            browser.fill("#write [name=content]", "4.5")
            browser.click("#write button")
            browser.wait_text("#shown", "4.5")

    def test_session_over(self) -> None:
        """A session that somebody ends is told at the top of its pages, with the way back in."""
        with signed_in(self.uri, self.gateway.token) as browser, signed_in(self.uri, self.gateway.token) as other:
            browser.wait_live()
            other.open(self.uri + "/admin/people")
            other.click("#sessions button", "End it")
            browser.wait_text("#connection", "Sign in again")
            browser.click("#connection a")
            browser.wait("#with-token")


class ReadableTests(PagesCase):
    def test_each_page(self) -> None:
        """Each page, light at a desk and dark on a phone, breaks no serious rule of accessibility and asks nobody else for anything."""
        with signed_in(self.uri, self.gateway.token) as browser:
            for width, dark in ((1280, False), (360, True)):
                browser.resize(width, 740)
                browser.look(dark=dark)
                for page in PAGES:
                    browser.open(self.uri + page)
                    browser.wait_live()
                    self.assertEqual(browser.axe(), [], page)
                    wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
                    self.assertEqual(wide, 0, page)
            self.check_quiet(browser)

    def test_keyboard_and_weight(self) -> None:
        """The first key leads past the navigation, and what has the keyboard can be seen; a first page with its files is below 100 kB."""
        with signed_in(self.uri, self.gateway.token) as browser:
            tab, enter = "\ue004", "\ue007"
            browser.keys("body", tab)
            self.assertEqual(browser.run("return document.activeElement.textContent"), "Skip to the content")
            self.assertNotEqual(browser.run("return getComputedStyle(document.activeElement).outlineStyle"), "none")
            browser.keys(".skip", enter)
            wait_until(lambda: browser.run("return document.activeElement.id") == "main", what="the content to have the keyboard")
            browser.command("Network.setCacheDisabled", cacheDisabled=True)
            browser.reload()
            script = """const files = performance.getEntriesByType("resource"), page = performance.getEntriesByType("navigation")[0];
                return [[page, ...files].reduce((sum, one) => sum + one.transferSize, 0), page.domContentLoadedEventEnd];"""
            found = browser.run(script)
            assert isinstance(found, list), found
            print(f"the first page has {found[0]} bytes and is there after {found[1]:.0f} ms")
            self.assertLess(found[0], FIRST_PAGE_BYTES)
