"""`[dhcpv6]`: what is read, and every fault with its key."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.bootstrap_options import BootstrapCodes
from m2mapp.dhcpv6.settings import DelegatingSettings, Dhcpv6Settings, DownlinkSettings, UplinkSettings, read

_GOOD = '[delegating]\ninterface = "eth2"\nprefix_pool = "2001:db8:100::/40"\n'


def _read(text: str) -> tuple[Dhcpv6Settings, list[str]]:
    settings, faults = read(tomllib.loads(text), "[dhcpv6] ")
    return settings, [fault.detail for fault in faults]


_UPLINK = '[uplink]\ninterface = "eth0"\n'
_DOWNLINK = '[downlink]\ninterfaces = ["eth1", "eth2"]\nprefix = "2001:db8:5::/48"\n'


class SettingsTests(SynchronousTestCase):
    def test_delegating(self) -> None:
        """The table of the specification is read, defaults filled in."""
        settings, faults = _read(_GOOD + 'delegated_length = 60\nbootstrap_uri = "coaps://bs.example.org:5684"\n')
        expected = DelegatingSettings("eth2", IPv6Network("2001:db8:100::/40"), 60, "coaps://bs.example.org:5684", "", 7200, 3600, 0)
        self.assertEqual((settings.delegating, settings.codes, faults), (expected, BootstrapCodes(), []))
        self.assertEqual(settings.roles, ("dhcpv6.delegating",))

    def test_downlink(self) -> None:
        """The downlink's table is read, defaults filled in."""
        settings, faults = _read(_DOWNLINK + "valid_lifetime_s = 600\n")
        expected = DownlinkSettings(("eth1", "eth2"), IPv6Network("2001:db8:5::/48"), "", "", 600)
        self.assertEqual((settings.downlink, faults, settings.roles), (expected, [], ("dhcpv6.downlink",)))
        learned, faults = _read('[uplink]\ninterface = "eth0"\n[downlink]\ninterfaces = ["eth1"]\n')
        self.assertEqual((learned.downlink, faults), (DownlinkSettings(("eth1",), None, "", "", 7200), []))

    def test_uplink(self) -> None:
        """The uplink's table is read, defaults filled in, and the other sources of the bootstrap address."""
        expected = UplinkSettings("eth0", None, release=False)
        self.assertEqual(_read(_UPLINK), (Dhcpv6Settings(uplink=expected), []))
        settings, faults = _read(_UPLINK + "ra_option = 253\nhncp = true\n")
        self.assertEqual((settings.uplink, faults), (replace(expected, ra_option=253, hncp=True), []))

    def test_static(self) -> None:
        """Prefixes by DUID, and routes to who has one."""
        settings, faults = _read(_GOOD + 'routes = true\nstatic = { "000301" = "2001:db8:100:100::/56" }\n')
        assert settings.delegating is not None
        static = ((bytes.fromhex("000301"), IPv6Network("2001:db8:100:100::/56")),)
        self.assertEqual((settings.delegating.static, settings.delegating.routes, faults), (static, True, []))

    def test_options(self) -> None:
        """Codes and encodings are read."""
        options = '[options]\nbootstrap_uri = 700\ncertificate = 701\nencodings = ["vendor", "option"]\nvendor_enterprise = 4491\n'
        self.assertEqual(_read(_GOOD + options)[0].codes, BootstrapCodes(700, 701, in_vendor=True, vendor_enterprise=4491))

    def test_faults(self) -> None:
        """Each fault names its table, key and value, and what would be right."""
        cases = {
            "": "no role",
            "[downlink]\n": "[dhcpv6.downlink] interfaces",
            _DOWNLINK.replace('"eth1", "eth2"', ""): "[dhcpv6.downlink] interfaces",
            _DOWNLINK.replace("eth2", "eth1"): "each interface once",
            _DOWNLINK.replace("/48", "/65"): "a prefix of at most 64 bits",
            _DOWNLINK.replace("2001:db8:5::/48", ""): "the prefix of which the devices' addresses are",
            _DOWNLINK + "valid_lifetime_s = 59\n": "valid_lifetime_s",
            '[uplink]\ninterface = "eth1"\n' + _DOWNLINK: "without eth1, which is that of [dhcpv6.uplink]",
            _GOOD + _DOWNLINK: "without eth2, which is that of [dhcpv6.delegating]",
            _UPLINK + "ra_option = 3\n": "such as 253 (RFC 4727): not 3",
            _UPLINK + "ra_option = 256\n": "[dhcpv6.uplink] ra_option",
            _UPLINK + 'hncp = "yes"\n': "[dhcpv6.uplink] hncp",
            _GOOD + "static = 1\n": "a table of prefixes by DUID",
            _GOOD + 'static = { "00" = "2001:db8:100::/56" }\n': "a DUID of 3 to 130 bytes",
            _GOOD + 'static = { "000301" = "nowhere" }\n': "[dhcpv6.delegating] static",
            _GOOD + 'static = { "000301" = "2001:db8:100::/57" }\n': "as long as delegated_length says, 56",
            _GOOD + 'static = { "000301" = "2001:db8:200::/56" }\n': "a prefix of 2001:db8:100::/40",
            _GOOD + 'static = { "000301" = "2001:db8:100::/56", "000302" = "2001:db8:100::/56" }\n': "a prefix that no other has",
            _DOWNLINK.replace("/48", "/64"): "a /64 for each of 2 interfaces",
            _GOOD + _DOWNLINK.replace("eth2", "eth3").replace("2001:db8:5::", "2001:db8:105::"): "outside 2001:db8:100::/40",
            _GOOD + "[options]\nbootstrap_uri = 3\n": "such as 65001: not 3",
            _GOOD + "[options]\ncertificate = 82\n": "[dhcpv6.options] certificate",
            "[uplnk]\n": "[dhcpv6] uplnk",
            "delegating = 1\n": "a table",
            "[delegating]\n": "[dhcpv6.delegating] interface",
            _GOOD + 'colour = "red"\n': "colour",
            _GOOD.replace("/40", "/129"): "prefix_pool",
            _GOOD.replace("2001:db8:100::/40", "fe80::/64"): "not link-local",
            _GOOD + "delegated_length = 39\n": "at least the length of prefix_pool, 40",
            _GOOD + "delegated_length = 65\n": "delegated_length",
            _GOOD + "preferred_lifetime_s = 8000\n": "at most valid_lifetime_s, 7200",
            _GOOD + 'bootstrap_uri = "http://bs.example.org"\n': "a coap or coaps URI",
            _GOOD + 'bootstrap_uri = "bs"\n': "a URI such as coaps://bs.example.org:5684",
            _GOOD + "[options]\nbootstrap_uri = 65002\n": "another code",
            _GOOD + '[options]\nencodings = ["vendor"]\n': "vendor_enterprise",
            _GOOD + '[options]\nencodings = ["smoke"]\n': "encodings",
            _GOOD + "[options]\ncertificate = 0\n": "[dhcpv6.options] certificate",
        }
        for text, expected in cases.items():
            faults = _read(text)[1]
            self.assertTrue(any(expected in fault for fault in faults), (text, faults))
