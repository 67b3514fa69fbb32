"""The pages of groups and the network picture in a browser, with a gateway and devices on a link of their own."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.system.aiocoap_calls import Call, call_aiocoap
from tests.system.browser import Browser, signed_in, skip_reason_of_browser
from tests.system.namespaces import skip_reason
from tests.system.nodes import Devices, Gateway, Site

_DEVICES = 4
URI = "http://127.0.0.1:8080"


class GroupsCase(SynchronousTestCase):
    """A gateway, devices that are registered, and two more whose process can be killed."""

    skip = skip_reason() or skip_reason_of_browser()

    def setUp(self) -> None:
        self.site = Site()
        self.site.__enter__()
        self.addCleanup(self.site.__exit__, None, None, None)
        self.gateway: Gateway = self.site.gateway("gw", ["fd00:1::1/64"])
        self.lasting = self.site.devices("lasting", range(1, _DEVICES + 1))
        self.mortal = self.site.devices("mortal", range(_DEVICES + 1, _DEVICES + 3))
        self.site.ready()
        self.devices = (*self.lasting.devices, *self.mortal.devices)
        puts = [Call("PUT", f"coap://[{device.address}]/temperature", b"21.5", 0) for device in self.devices]
        self.assertEqual({answer.code for answer in call_aiocoap(self.site.lab_host("gw"), *puts)}, {"2.01"})
        for device in self.devices:
            links = [{"href": "/temperature", "rt": "temperature"}, {"href": "/lamp", "rt": "light"}]
            self.gateway.put_document(f"/scls/{device.name}", {**device.registration, "links": links})

    def browser(self, *, script: bool = True) -> Browser:
        context = signed_in(URI, self.gateway.token, script=script, place=self.site.lab_host("gw"))
        browser = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return browser


class LifeTests(GroupsCase):
    def test_a_group_from_the_plan_to_its_end(self) -> None:
        """x"""
        browser = self.browser()
        browser.open(URI + "/admin/groups")
        browser.click("a.button", "Make a group")
        browser.fill("#name", "all")
        browser.fill("#find", "temperature")
        browser.click("#picker button[value=find]")
        browser.wait_text("#picker button", "Add all 6")
        browser.click("#picker button[value=pick-all]")
        browser.wait_text("label", "Members (6)")
        browser.click("button[value=plan]")
        browser.wait_text("#plan", "same path, local domain")
        print(browser.text("#plan"))
        print(browser.axe())
        browser.click(".buttons button[value=save]")
        browser.wait_text("h1", "Group all")
        browser.wait_text("#notices", "Done")
        print(browser.text("#main"))
        print(browser.axe())
        browser.click("#ask button")
        browser.wait_text("#progress", "every member has answered")
        print(browser.text("#main"))
        print(browser.axe())
        self.mortal.process.kill()
        browser.click("nav.trail a", "all")
        browser.wait_text("h1", "Group all")
        browser.click("#ask button")
        browser.wait_text("#progress", "awaited")
        browser.wait_text("#progress", "2 members did not answer", 45)
        print(browser.text("#main"))
        browser.click("nav.trail a", "all")
        browser.wait_text("#members", "silent")
        print(browser.text("#main"))
        print(browser.complaints())
