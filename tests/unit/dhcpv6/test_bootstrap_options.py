"""The bootstrap service in DHCPv6 options: both encodings written and read, and what is not taken for one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.dhcpv6 import options as o
from m2mapp.dhcpv6.bootstrap_options import LARGEST_CERTIFICATE, Bootstrap, BootstrapCodes, bootstrap_in, bootstrap_options

_URI, _DER = "coaps://[2001:db8::bs]:5684", b"\x30\x82der"
_BOTH = Bootstrap(_URI, _DER)
_VENDOR = BootstrapCodes(in_option=False, in_vendor=True, vendor_enterprise=4491)
_TWICE = BootstrapCodes(uri=700, certificate=701, in_vendor=True, vendor_enterprise=4491)


class BootstrapOptionTests(SynchronousTestCase):
    def test_written(self) -> None:
        """As options of their own, inside option 17, and both ways."""
        own = (o.Opaque(65001, _URI.encode()), o.Opaque(65002, _DER))
        inside = o.VendorOpts(4491, (o.Opaque(1, _URI.encode()), o.Opaque(2, _DER)))
        self.assertEqual(bootstrap_options(_BOTH, BootstrapCodes(), with_certificate=True), own)
        self.assertEqual(bootstrap_options(_BOTH, _VENDOR, with_certificate=True), (inside,))
        self.assertEqual(
            bootstrap_options(_BOTH, _TWICE, with_certificate=True), (o.Opaque(700, _URI.encode()), o.Opaque(701, _DER), inside)
        )

    def test_certificate_only_where_asked(self) -> None:
        """The certificate, which may be larger than all the rest, goes only to those who asked for it."""
        self.assertEqual(bootstrap_options(_BOTH, BootstrapCodes(), with_certificate=False), (o.Opaque(65001, _URI.encode()),))

    def test_nothing_known(self) -> None:
        """Where no service is known there is no option, not an empty one."""
        self.assertEqual(bootstrap_options(Bootstrap(), _TWICE, with_certificate=True), ())

    def test_read(self) -> None:
        """What is written is read, whichever way."""
        for codes in (BootstrapCodes(), _VENDOR, _TWICE):
            self.assertEqual(bootstrap_in(bootstrap_options(_BOTH, codes, with_certificate=True), codes), _BOTH)

    def test_inside_ia_pd(self) -> None:
        """The document has the options as part of the IA_PD: they are found there, too; those at the top level count first."""
        inside = o.IaPd(1, 0, 0, (o.Opaque(65001, b"coap://inside"), o.Opaque(65002, _DER)))
        self.assertEqual(bootstrap_in((inside,), BootstrapCodes()), Bootstrap("coap://inside", _DER))
        self.assertEqual(bootstrap_in((inside, o.Opaque(65001, b"coap://top")), BootstrapCodes()), Bootstrap("coap://top", _DER))

    def test_other_enterprise(self) -> None:
        """Option 17 of another enterprise is not read."""
        self.assertEqual(bootstrap_in((o.VendorOpts(1, (o.Opaque(1, _URI.encode()),)),), _VENDOR), Bootstrap())

    def test_no_uri(self) -> None:
        """What is no URI is not taken for one; a zero byte at the end, as C programs send it, is dropped."""
        for value in (b"", b"not a uri", b"coap://a b", b"coap://\xff", b"coap://\x01", b"coap://" + b"a" * 2000):
            self.assertIsNone(bootstrap_in((o.Opaque(65001, value),), BootstrapCodes()).uri, value)
        self.assertEqual(bootstrap_in((o.Opaque(65001, b"coap://bs\0"),), BootstrapCodes()).uri, "coap://bs")

    def test_too_large(self) -> None:
        """A certificate that would not fit into the messages by which it is handed on is not taken; one that does is."""
        for size, taken in ((LARGEST_CERTIFICATE, True), (LARGEST_CERTIFICATE + 1, False)):
            found = bootstrap_in((o.Opaque(65001, _URI.encode()), o.Opaque(65002, bytes(size))), BootstrapCodes())
            self.assertEqual((found.uri, found.certificate is not None), (_URI, taken))

    def test_requested(self) -> None:
        """A client requests the codes by which it can read the options."""
        self.assertEqual(BootstrapCodes().wanted, (65001, 65002))
        self.assertEqual(_VENDOR.wanted, (17,))
        self.assertEqual(_TWICE.wanted, (700, 701, 17))
