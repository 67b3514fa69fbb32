"""The pages of operations and timers in a browser: made, tried, seen to run, explained, changed and deleted, with and without scripts."""

from __future__ import annotations

from tests.system.browser import Browser, sign_in, signed_in
from tests.system.nodes import Gateway, Site
from tests.system.test_pages import PagesCase

AT = "/admin/operations/temperature/Operations/TurnOnAC"
PAGES = ("/admin/operations", AT, "/admin/timers", "/admin/timers/night")


class OperationsCase(PagesCase):
    """A gateway with a temperature of 20 degrees, and an air conditioner that is off."""

    def setUp(self) -> None:
        site = Site(namespaces=False)
        self.gateway: Gateway = site.__enter__().gateway_here("gw", {"triggers": {}})
        self.addCleanup(site.__exit__, None, None, None)
        self.gateway.start()
        self.gateway.ready()
        self.uri = f"http://127.0.0.1:{self.gateway.port}"
        self.gateway.put("/temperature", "20")
        self.gateway.put("/ac", "OFF")

    def make(self, browser: Browser) -> None:
        """The operation of the document, made on the page."""
        browser.open(self.uri + "/admin/operations")
        if not browser.count("#make[open]"):
            browser.click("#make summary")
        fields = {"subject": "/temperature", "name": "TurnOnAC", "rule": "value > 30", "objectResource": "/ac", "input": "ON"}
        for name, text in fields.items():
            browser.fill(f"#make-form [name={name}]", text)
        browser.choose("#make-form [name=inputKind]", "text")
        browser.click("#make-form > button")
        browser.wait_text("#notices", "TurnOnAC is made")


class OperationsTests(OperationsCase):
    def test_from_making_to_the_end(self) -> None:
        """A rule is checked as it is typed; the operation is made, tried, seen to run and not to run, explained, changed and deleted."""
        with signed_in(self.uri, self.gateway.token) as browser:
            self.type_a_rule(browser)
            self.make(browser)
            self.assertEqual(browser.uri, self.uri + AT)
            self.try_it(browser)
            self.see_it_run(browser)
            self.change_it(browser)
            self.let_it_depend(browser)
            browser.click("#delete summary")
            browser.click("#delete button")
            browser.wait_text("#notices", "is deleted")
            browser.wait_text("#operations", "None yet")
            self.check_quiet(browser)

    def type_a_rule(self, browser: Browser) -> None:
        """What is typed is checked, with the mark below the column that is wrong, and with what comes of it now."""
        browser.open(self.uri + "/admin/operations?subject=/temperature")
        browser.wait_live()
        browser.fill("#make-form [name=rule]", "value = 30")
        browser.wait_text("#rule-check", "column 7: two signs compare: ==")
        self.assertTrue(browser.texts("#rule-check pre")[0].endswith("\n      ^"))
        browser.fill("#make-form [name=rule]", "value > 30")
        browser.wait_text("#rule-check", "with 20, it does not hold")

    def try_it(self, browser: Browser) -> None:
        """What would happen is told, and does not happen."""
        browser.fill("#try-form [name=value]", "31")
        browser.click("#try-form > button")
        browser.wait_text("#outcome", "It would run:")
        browser.wait_text("#outcome", "PUT")
        self.assertEqual(self.gateway.get("/ac").body, b"OFF")

    def see_it_run(self, browser: Browser) -> None:
        """A run, and why there was none, come onto the open page; what was before has a page of its own."""
        browser.wait_live()
        self.gateway.put("/temperature", "31")
        browser.wait_text("#trace li", "ran")
        browser.wait_text("#trace li", "/temperature changed to 31 from 20")
        self.assertEqual(self.gateway.get("/ac").body, b"ON")
        self.gateway.put("/temperature", "29")
        browser.wait_text("#trace li", "value > 30 does not hold")
        browser.click("#past a", "Evaluation")
        browser.wait_text("#trace h2", "Evaluation")
        browser.open(self.uri + AT)

    def change_it(self, browser: Browser) -> None:
        """Another rule, which is checked as it is typed, too."""
        browser.click("#change summary")
        browser.fill("#change-form [name=rule]", "value > 35")
        browser.wait_text("#change-form .rule-check", "with 29, it does not hold")
        browser.click("#change-form > button")
        browser.wait_text("#standing .rule", "value > 35")

    def let_it_depend(self, browser: Browser) -> None:
        """A dependency keeps it from running, which is told, and is removed."""
        browser.click("#depend summary")
        browser.fill("#dependency-form [name=name]", "MemberAtHome")
        browser.fill("#dependency-form [name=uri]", "/home")
        browser.fill("#dependency-form [name=rule]", "value == 'at home'")
        browser.wait_text("#dependency-rule-check", "A rule:")
        browser.click("#dependency-form > button")
        browser.wait_text("#dependencies", "necessary")
        self.gateway.put("/temperature", "36")
        browser.wait_text("#trace li", "MemberAtHome")
        browser.wait_text("#trace li", "which is necessary")
        browser.click("#dependencies button", "Remove MemberAtHome")
        browser.wait_text("#notices", "does not depend on MemberAtHome")

    def test_without_scripts(self) -> None:
        """The same without scripts: a wrong rule comes back with its column, the right one is made and tried."""
        with Browser(script=False) as browser:
            browser.open(self.uri + "/admin/operations")
            sign_in(browser, self.gateway.token)
            browser.open(self.uri + "/admin/operations")
            browser.click("#make summary")
            fields = {"subject": "/temperature", "name": "TurnOnAC", "rule": "value = 30", "objectResource": "/ac"}
            for name, text in fields.items():
                browser.fill(f"#make-form [name={name}]", text)
            browser.click("#make-form > button")
            browser.wait_text("#rule-check", "column 7")
            browser.fill("#make-form [name=rule]", "value > 30")
            browser.click("#make-form > button")
            browser.wait_text("#notices", "TurnOnAC is made")
            browser.fill("#try-form [name=value]", "31")
            browser.click("#try-form > button")
            browser.wait_text("#outcome", "It would run:")

    def test_timers(self) -> None:
        """A timer is made, is seen to fire under an open page, sets its operation off, is changed and deleted."""
        with signed_in(self.uri, self.gateway.token) as browser:
            browser.open(self.uri + "/admin/timers")
            browser.fill("#timer-form [name=name]", "night")
            browser.choose("#timer-form [name=schedule]", "every")
            browser.fill("#timer-form [name=time]", "2s")
            browser.click("#timer-form > button")
            browser.wait_text("#notices", "it fires at")
            browser.click("#timers a", "make an operation")
            for name, text in {"name": "Tick", "rule": "changed", "objectResource": "/ticks", "input": "tick"}.items():
                browser.fill(f"#make-form [name={name}]", text)
            browser.choose("#make-form [name=inputKind]", "text")
            browser.click("#make-form > button")
            browser.wait_text("#notices", "Tick is made")
            browser.wait_text("#trace li", "ran")
            self.assertEqual(self.gateway.get("/ticks").body, b"tick")
            browser.open(self.uri + "/admin/timers/night")
            browser.choose("#timer-form [name=schedule]", "cron")
            browser.fill("#timer-form [name=time]", "0 22 * * *")
            browser.click("#timer-form > button")
            browser.wait_text("#timers code", "0 22 * * *")
            browser.click("#timers button", "Delete night")
            browser.wait_text("#timers", "None yet")
            self.check_quiet(browser)

    def test_each_page(self) -> None:
        """Nothing serious is wrong for those who do not see or use a mouse, light at a desk and dark on a phone of 360 pixels."""
        with signed_in(self.uri, self.gateway.token) as browser:
            self.make(browser)
            self.gateway.put("/temperature", "31")
            self.gateway.put_document("/timers/night", {"cron": "0 22 * * *"})
            for width, dark in ((1280, False), (360, True)):
                browser.resize(width, 800)
                browser.look(dark=dark)
                for page in PAGES:
                    browser.open(self.uri + page)
                    browser.wait_live()
                    self.assertEqual(browser.axe(), [], page)
                    wide = browser.run("return document.documentElement.scrollWidth")
                    assert isinstance(wide, int)
                    self.assertLessEqual(wide, width, f"{page} is {wide} wide")
            self.check_quiet(browser)
