"""The pages of addresses and devices in a browser: a device from its first Solicit (ISC dhclient) to its answer in a group, and silent."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import issue
from tests.system.browser import Browser, sign_in, skip_reason_of_browser
from tests.system.dhcp_devices import DhclientDevice, DhcpcdDevice, device
from tests.system.namespaces import Host, skip_reason
from tests.system.nodes import Device, Devices, Gateway, Site
from tests.system.programs import Tables

_PREFIX, _URI = "2001:db8:5::/48", "coaps://bs.example.org:5684"
_HERE = "http://127.0.0.1:8080"
PAGES = ("/admin/addresses", "/admin/devices")


class BrowserIn(Browser):
    """A browser in a host of its own. Only what is between the test and it takes place there."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def _start(self) -> None:
        with self._host.entered():
            super()._start()

    def _ask(self, method: str, path: str, body: object = None) -> object:
        with self._host.entered():
            return super()._ask(method, path, body)


class DevicesTests(SynchronousTestCase):
    skip = skip_reason("dhclient", "dhcpcd") or skip_reason_of_browser()

    def setUp(self) -> None:
        self.site = Site()
        self.site.__enter__()
        self.addCleanup(self.site.__exit__, None, None, None)
        certificate = self.site.folder / "bs.der"
        certificate.write_bytes(issue("bs.example.org").der)
        downlink = {"interfaces": ["eth0"], "prefix": _PREFIX, "bootstrap_uri": _URI, "certificate": str(certificate)}
        tables: Tables = {
            "coap": {"listen": ["[::]:5683"], "interfaces": ["eth0"]},
            "groups": {"deadline_s": 3.0},
            "dhcpv6.downlink": downlink,
        }
        self.gateway: Gateway = self.site.gateway("gw", ["fd00:1::1/64"], tables)
        self.host: Host = self.site.lab_host("gw")
        self.gateway.ready()
        self.device_host = self.site.host("device", [])
        self.host.ip("-6", "route", "replace", _PREFIX, "dev", "eth0")

    @contextlib.contextmanager
    def browser(self) -> Iterator[Browser]:
        """A browser in the gateway's own host, which has signed in."""
        with BrowserIn(self.host) as browser:
            browser.open(_HERE + "/admin/")
            sign_in(browser, self.gateway.token)
            yield browser

    def member(self, address: str) -> Devices:
        """The device's program, at the address that it was given."""
        host = self.device_host
        host.ip("-6", "addr", "replace", f"{address}/128", "dev", "eth0", "nodad")
        host.ip("-6", "route", "replace", _PREFIX, "dev", "eth0")
        member = Devices(host, self.site.folder, "member", [Device("d1", address)])
        self.site.add(member)
        member.start()
        return member

    def test_from_solicit_to_silence(self) -> None:
        """Each step of a device comes onto its page as it happens; a missing one is red, with what to do; a killed device is silent."""
        with self.browser() as browser:
            browser.open(_HERE + "/admin/devices")
            browser.wait_text("#devices td", "None yet")
            browser.wait_live()
            client = device(DhclientDevice, self.device_host, self.site.folder / "device")
            client.start()
            address = str(client.device().address)
            browser.wait_text("#devices td", address)
            browser.wait_text("#devices .bad", "registered is missing")
            browser.click("#devices tbody th a")
            browser.wait_text("#timeline .bad", "registered")
            browser.wait_text("#timeline .notice.failed", "look whether it is on")
            browser.wait_text("#timeline li", _URI)
            self.assertEqual(browser.axe(), [])

            member = self.member(address)
            browser.wait_live()
            self.gateway.put_document("/scls/d1", {**Device("d1", address).registration, "links": []})
            browser.wait_text("#timeline li.good", "registered")
            self.gateway.put_document("/groups/lamps", {"members": ["coap://d1.example.org/light"]})
            browser.wait_text("#timeline li.good", "lamps: one by one")
            self.gateway.get("/groups/lamps/membersContent")
            browser.wait_text("#timeline li.good", "answered in a group")
            self.assertEqual(browser.count("#timeline li.bad"), 0)

            member.kill()
            self.gateway.get("/groups/lamps/membersContent")
            browser.wait_text("#timeline li.bad", "answered in a group", 30.0)
            browser.wait_text("#timeline .notice.failed", "Answered in a group is missing")
            self.assertEqual(browser.complaints(), [])

    def test_reservations(self) -> None:
        """An address is reserved, refused where nobody may have it, taken by the device (dhcpcd) when told to, and deleted."""
        with self.browser() as browser:
            browser.open(_HERE + "/admin/addresses")
            browser.wait_text("#sources td", "counts")
            browser.wait_text("#sources td", _URI)
            browser.wait_live()
            client = device(DhcpcdDevice, self.device_host, self.site.folder / "device")
            client.start()
            address = str(client.device().address)
            browser.wait_text("#leases th", address)
            browser.click("#leases th a")
            browser.fill("#reserve-form [name=address]", "fd00:dead::1")
            browser.click("#reserve-form button")
            browser.wait_text(".notice.failed", "an address of")
            self.assertEqual(browser.run("return document.querySelector('[name=address]').value"), "fd00:dead::1")
            reserved = str(IPv6Network((address, 64), strict=False)[0xD1])
            browser.fill("#reserve-form [name=address]", reserved)
            browser.click("#reserve-form button")
            browser.wait_text("#notices p", f"{reserved} is reserved for")
            browser.wait_text("#leases th", reserved)
            browser.wait_text("#notices .done", "its lease says so")
            browser.click("#leases th a")
            browser.wait_text("#lease dd", reserved)
            browser.wait_text("#history th", address)
            browser.click("#end summary")
            browser.click("#end button")
            browser.wait_text("#notices", "is deleted")
            browser.wait_text("#leases td", "None yet")
            self.assertEqual([one for one in browser.complaints() if "status of 400" not in one], [])

    def test_each_page(self) -> None:
        """Nothing serious is wrong for those who do not see or use a mouse, light at a desk and dark on a phone of 360 pixels."""
        lease = "/leases/00030001000000000001/1"
        refused = self.gateway.request("PUT", lease, '{"address": "fd00:dead::1"}', "application/json")
        prefix = IPv6Network(re.findall(r"[0-9a-f:]+::/64", refused.body.decode())[0])
        self.gateway.put_document(lease, {"address": str(prefix[0xD1])})
        self.gateway.put_document("/scls/d2", {"addresses": ["fd00:1::2"]})
        with self.browser() as browser:
            for width, dark in ((1280, False), (360, True)):
                browser.resize(width, 800)
                browser.look(dark=dark)
                for page in (*PAGES, "/admin/addresses/00030001000000000001/1", "/admin/devices/00030001000000000001", "/admin/devices/d2"):
                    browser.open(_HERE + page)
                    browser.wait_live()
                    self.assertEqual(browser.axe(), [], page)
                    wide = browser.run("return document.documentElement.scrollWidth")
                    assert isinstance(wide, int)
                    self.assertLessEqual(wide, width, f"{page} is {wide} wide")
