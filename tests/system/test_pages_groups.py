"""The pages of groups and of the network in a browser, with a gateway and devices on a link of their own.

test_life       a group from its plan to its end: made, read, written, a device killed, a member taken out, changed, ended
test_no_script  the same forms where nothing runs scripts
test_network    the picture while devices come, go and fall silent
test_large      a thousand devices with five resources each
"""

from __future__ import annotations

import json
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.browser import Browser, hosts, sign_in, skip_reason_of_browser
from tests.system.namespaces import skip_reason, wait_until
from tests.system.nodes import GROUP_SERVER, SMOKE, Device, Devices, Gateway, Site

_AT = "http://127.0.0.1:8080"
_DEADLINE_S = 4
"""Members that do not answer are silent after this."""
_TABLES = {**GROUP_SERVER, "groups": {"deadline_s": _DEADLINE_S}}


class PagesCase(SynchronousTestCase):
    """A gateway in a host of its own, and browsers there."""

    skip = skip_reason() or skip_reason_of_browser()

    def setUp(self) -> None:
        self.site = Site()
        self.site.__enter__()
        self.addCleanup(self.site.__exit__, None, None, None)
        self.gateway: Gateway = self.site.gateway("gw", ["fd00:1::1/64"], _TABLES)

    def browser(self, *, script: bool = True) -> Browser:
        """One that has signed in."""
        browser = Browser(script=script, place=self.site.lab_host("gw"))
        browser.__enter__()
        self.addCleanup(browser.__exit__, None, None, None)
        browser.open(_AT + "/admin/")
        sign_in(browser, self.gateway.token)
        return browser

    def members(self, *programs: Devices) -> tuple[Device, ...]:
        """Devices with a temperature, registered with two links each."""
        devices = tuple(device for program in programs for device in program.devices)
        puts = [Call("PUT", f"coap://[{device.address}]/temperature", b"21.5", 0) for device in devices]
        self.assertEqual({answer.code for answer in call_aiocoap(self.site.lab_host("gw"), *puts)}, {"2.01"})
        links = [{"href": "/temperature", "rt": "temperature"}, {"href": "/lamp", "rt": "light"}]
        for device in devices:
            self.gateway.put_document(f"/scls/{device.name}", {**device.registration, "links": links})
        return devices

    def check_fair(self, browser: Browser) -> None:
        """Nothing that the rules of accessibility find, nothing that the browser complains of."""
        self.assertEqual((browser.axe(), browser.complaints()), ([], []), browser.uri)


class GroupsTests(PagesCase):
    def setUp(self) -> None:
        super().setUp()
        self.lasting = self.site.devices("lasting", range(1, 4))
        self.mortal = self.site.devices("mortal", range(4, 5))
        self.site.ready()
        self.devices = self.members(self.lasting, self.mortal)

    def make(self, browser: Browser, name: str) -> None:
        """Make a group of all temperatures, which are picked."""
        browser.open(_AT + "/admin/new-group")
        browser.fill("#name", name)
        browser.fill("#find", "temperature")
        browser.click("#picker button[value=find]")
        browser.wait_text("#picker button", "Add all 4")
        browser.click("#picker button[value=pick-all]")
        browser.wait_text("label", "Members (4)")
        browser.click(".buttons button[value=plan]")
        browser.wait_text("#plan", "4: same path, local domain")
        self.assertEqual(self.gateway.get(f"/groups/{name}").status, 404)

    def test_life(self) -> None:
        """A group is planned, made, read, written, has a silent member, loses a member, is changed and ended; done means seen."""
        browser = self.browser()
        self.make(browser, "all")
        self.check_fair(browser)
        browser.click(".buttons button[value=save]")
        browser.wait_text("#notices .done", "the group all is made (4 joined)")
        browser.wait_text("#standing", "ready")
        self.check_fair(browser)
        self.ask(browser, "GET", "every member has answered")
        self.assertEqual(browser.count("#answers tbody tr"), 4)
        self.assertEqual({text.strip() for text in browser.texts("#answers td:nth-child(3)")}, {"21.5"})
        self.check_fair(browser)
        self.ask(browser, "PUT", "every member has answered", "19")
        read = call_aiocoap(self.site.lab_host("gw"), Call("GET", f"coap://[{self.devices[0].address}]/temperature"))
        self.assertEqual(read[0].payload, b"19")
        self.one_dies(browser)
        self.one_leaves(browser)
        self.changed(browser)
        browser.click("#delete summary")
        browser.click("#delete-form button")
        browser.wait_text("#groups", "There is no group")
        browser.wait_text("#notices", "the group all is ended")
        self.assertEqual(self.gateway.get("/groups/all").status, 404)
        self.assertEqual(hosts(browser.requests()), {"127.0.0.1:8080"})

    def ask(self, browser: Browser, method: str, outcome: str, content: str = "") -> None:
        """Ask the group whose page is open; wait for what comes of it."""
        if "/asked/" in browser.uri:
            browser.click("nav.trail a", "all")
        if method == "GET":
            browser.click("#read-all button")
        else:
            browser.click("#ask-more summary")
            browser.choose("#method", method)
            browser.fill("#content", content)
            browser.click("#ask button")
        browser.wait_text("#progress", outcome)

    def one_dies(self, browser: Browser) -> None:
        """A device is killed: the others' answers are on the page at once, it is silent when the deadline has passed."""
        self.mortal.process.kill()
        began = time.monotonic()
        self.ask(browser, "GET", "3 answers of 4 members")
        self.assertEqual(browser.texts("#missing li code"), [self.devices[3].uri("/temperature")])
        browser.wait_text("#progress", "1 member did not answer", _DEADLINE_S + 10)
        print(f"a killed device was silent on the page after {time.monotonic() - began:.1f} s; the deadline is {_DEADLINE_S} s")
        browser.click("nav.trail a", "all")
        browser.wait_text("#members tr", "silent")
        browser.wait_text("#records", "membersContent")
        browser.wait_text("#standing", "3 answered, 1 silent")

    def one_leaves(self, browser: Browser) -> None:
        """A member is taken out: told as done when its device has confirmed that it left, and it holds the group no more."""
        browser.click(f'button[value="{self.devices[2].uri("/temperature")}"]')
        browser.wait_text("#notices", "1 member has left, as their devices confirmed")
        held = call_aiocoap(self.site.lab_host("gw"), Call("GET", f"coap://[{self.devices[2].address}]/mcGroups", accept=50))
        self.assertNotIn(b"mcAddress", held[0].payload)
        self.assertEqual(browser.count("#members tbody tr"), 3)

    def changed(self, browser: Browser) -> None:
        """The members are changed by the form: one comes back, the dead one goes."""
        browser.click("a.button", "Change members")
        browser.fill("#members", "\n".join(device.uri("/temperature") for device in self.devices[:3]))
        browser.click(".buttons button[value=plan]")
        browser.wait_text("#plan", "1 would go")
        browser.click(".buttons button[value=save]")
        browser.wait_text("#notices", "the group all is changed")
        browser.wait_text("#standing", "ready")
        wait_until(lambda: browser.count("#members tbody tr") == 3, 20, "three members")
        self.assertIn("3 joined", browser.text("#standing"))

    def test_no_script(self) -> None:
        """Without scripts each step is a page: a group is planned, made, asked until all have answered, and ended."""
        browser = self.browser(script=False)
        self.make(browser, "plain")
        browser.click(".buttons button[value=save]")
        browser.wait_text("h1", "Group plain")
        wait_until(lambda: "4 joined" in self.reloaded(browser, "#standing"), 30, "the joins")
        browser.click("#read-all button")
        browser.wait_text("#progress", "every member has answered")
        browser.click("nav.trail a", "plain")
        browser.click("#delete summary")
        browser.click("#delete-form button")
        browser.wait_text("#groups", "There is no group")

    @staticmethod
    def reloaded(browser: Browser, css: str) -> str:
        """What stands there when the page is loaded again."""
        browser.reload()
        return browser.text(css)

    def test_network(self) -> None:
        """Devices stay where they are drawn while others come and go; one that falls silent is told apart; a group is laid over."""
        browser = self.browser()
        self.gateway.put_document("/groups/some", {"members": [device.uri("/temperature") for device in self.devices[1:]]})
        browser.open(_AT + "/admin/network")
        browser.wait_live()
        browser.wait_text("#tables", "3 joined")
        before = self.drawn(browser)
        self.assertEqual(set(before), {device.name for device in self.devices})
        self.gateway.request("DELETE", f"/scls/{self.devices[0].name}")
        self.gateway.put_document("/scls/aaa", {**self.devices[0].registration, "hosts": ["aaa.example.org"]})
        wait_until(lambda: "aaa" in self.drawn(browser), 20, "the new device in the picture")
        after = self.drawn(browser)
        self.assertEqual({name: after[name] for name in after if name in before}, {n: p for n, p in before.items() if n in after})
        self.check_fair(browser)
        self.mortal.process.kill()
        self.gateway.get("/groups/some/membersContent")
        browser.open(_AT + "/admin/network?group=some")
        browser.wait_text("#devices-found tr", "silent")
        self.assertEqual(browser.count("use.marked"), 3)
        self.assertEqual(browser.count("use.marked.bad"), 1)
        self.check_fair(browser)

    def drawn(self, browser: Browser) -> dict[str, str]:
        """Where each device is drawn."""
        where = "[one.textContent, one.getAttribute('x') + ' ' + one.getAttribute('y')]"
        found = browser.run(f"return [...document.querySelectorAll('svg.network g use')].map((one) => {where})")
        assert isinstance(found, list), found
        return {text.partition(":")[0]: place for text, place in found}


class LargeTests(PagesCase):
    def test_large(self) -> None:
        """A thousand devices with five resources each are listed, found, planned and drawn, and nobody else waits for it."""
        if SMOKE:
            self.skipTest("a thousand registrations take their time")
        self.site.ready()
        links = [{"href": f"/r{number}", "rt": f"kind{number}"} for number in range(5)]
        with self.gateway.caller() as caller:
            for number in range(1000):
                document = {"hosts": [f"d{number}.example.org"], "addresses": [f"fd00:1::{number + 256:x}"], "links": links}
                reply = caller.request("PUT", f"/scls/d{number}", json.dumps({**document, "multicastEnabled": True}), "application/json")
                self.assertEqual(reply.status, 201)
        browser = self.browser()
        browser.open(_AT + "/admin/new-group")
        browser.fill("#name", "large")
        browser.fill("#find", "kind3")
        browser.click("#picker button[value=find]")
        browser.wait_text("#picker button", "Add all 1000")
        browser.click("#picker button[value=pick-all]")
        browser.wait_text("label", "Members (1000)")
        browser.click(".buttons button[value=plan]")
        browser.wait_text("#plan", "1000: same path, local domain")
        browser.click(".buttons button[value=save]")
        browser.wait_text("h1", "Group large")
        for target in ("/admin/groups", "/admin/groups/large", "/admin/new-group", "/admin/network", "/admin/network?group=large"):
            took_ms = min(self.timed(browser, target) for _ in range(3))
            print(f"{target}: loaded after {took_ms:.0f} ms")
        self.assertEqual(browser.count("rect.prefix"), 1)
        self.assertLess(browser.count("use.dot"), 200)

    def timed(self, browser: Browser, target: str) -> float:
        """Milliseconds until a page is loaded."""
        began = time.monotonic()
        browser.open(_AT + target)
        return 1000 * (time.monotonic() - began)
