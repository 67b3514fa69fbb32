"""What `/node` says of the options that devices are sent: it is what their messages have."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6.bootstrap_options import Bootstrap, BootstrapCodes, bootstrap_in
from m2mapp.dhcpv6.packet import parse_options
from m2mapp.dhcpv6.told import MOST_BYTES, options_told

URI = "coaps://bs.example.org"


class ToldTests(SynchronousTestCase):
    def test_as_it_stands_in_a_message(self) -> None:
        """The bytes are those of the option, with its code and its length; both encodings are shown."""
        (shown,) = options_told(Bootstrap(URI), BootstrapCodes())
        self.assertEqual(shown["hex"], "fde90016" + URI.encode().hex())
        self.assertEqual((shown["code"], shown["when"], shown["more"]), (65001, "always", 0))
        codes = BootstrapCodes(in_vendor=True, vendor_enterprise=32473)
        option, vendor = options_told(Bootstrap(URI), codes)
        self.assertEqual((option["code"], vendor["code"]), (65001, 17))
        for one in (option, vendor):
            self.assertEqual(bootstrap_in(parse_options(bytes.fromhex(str(one["hex"]))), codes), Bootstrap(URI))

    def test_certificate(self) -> None:
        """A certificate is sent to who asks; of what is long the beginning is shown, and how much more there is."""
        _, shown = options_told(Bootstrap(URI, b"c" * 500), BootstrapCodes())
        self.assertEqual((shown["code"], shown["when"], shown["more"]), (65002, "to a device that asks for it", 504 - MOST_BYTES))

    def test_nothing(self) -> None:
        """Without a service nothing is sent of it."""
        self.assertEqual(options_told(Bootstrap(), BootstrapCodes()), [])
