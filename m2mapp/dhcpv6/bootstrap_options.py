"""The two options of draft-ietf-dhc-dhcpv6-lwm2m-bootstrap-options: the URI of the bootstrap service, and its certificate (DER).

Responsible for where they stand in messages: at the top level, inside Vendor-specific Information, and, when read, inside an IA_PD as
the document has it. They have no assigned numbers: the configuration file sets them. Not responsible for what is at the URI.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from m2mapp.dhcpv6.options import IaPd, Opaque, Option, VendorOpts, every, opaque

URI_CODE, CERTIFICATE_CODE = 65001, 65002
_VENDOR_URI: Final = 1
_VENDOR_CERTIFICATE: Final = 2
"""The sub-options of option 17."""
_LONGEST_URI: Final = 1024
LARGEST_CERTIFICATE: Final = 16_384
"""Bytes of a certificate at most: it has to fit into an option, that into option 17, that into relay messages, each below 64 KiB."""


@dataclass(frozen=True, slots=True)
class BootstrapCodes:
    """Where the two options stand: `[dhcpv6.options]`. `in_option`, `in_vendor`: as options of their own, inside option 17, or both."""

    uri: int = URI_CODE
    certificate: int = CERTIFICATE_CODE
    in_option: bool = True
    in_vendor: bool = False
    vendor_enterprise: int = 0

    @property
    def wanted(self) -> tuple[int, ...]:
        """The codes that a client requests (ORO) to get both."""
        return ((self.uri, self.certificate) if self.in_option else ()) + ((17,) if self.in_vendor else ())


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The bootstrap service: its URI, and its certificate as DER; either may be missing."""

    uri: str | None = None
    certificate: bytes | None = None


def fingerprint(certificate: bytes | None) -> str | None:
    """How a certificate is shown: its SHA-256; None for none."""
    return f"sha256:{hashlib.sha256(certificate).hexdigest()}" if certificate else None


def bootstrap_options(bootstrap: Bootstrap, codes: BootstrapCodes, *, with_certificate: bool) -> tuple[Option, ...]:
    """The options that tell the bootstrap service. `with_certificate`: the client asked for it."""
    values = [(codes.uri, _VENDOR_URI, bootstrap.uri.encode() if bootstrap.uri else None)]
    if with_certificate:
        values.append((codes.certificate, _VENDOR_CERTIFICATE, bootstrap.certificate))
    present = [(code, sub_code, value) for code, sub_code, value in values if value]
    options: list[Option] = [Opaque(code, value) for code, _, value in present] if codes.in_option else []
    if codes.in_vendor and present:
        options.append(VendorOpts(codes.vendor_enterprise, tuple(Opaque(sub_code, value) for _, sub_code, value in present)))
    return tuple(options)


def bootstrap_in(options: tuple[Option, ...], codes: BootstrapCodes) -> Bootstrap:
    """The bootstrap service that a message tells: at the top level before option 17 before its IA_PDs.

    What is no URI is not taken, nor a certificate that could not be handed on (`LARGEST_CERTIFICATE`).
    """
    levels: list[tuple[Option, ...]] = [options, *(ia.options for ia in every(options, IaPd))]
    uris: list[bytes | None] = []
    certificates: list[bytes | None] = []
    for level in levels:
        if codes.in_option:
            uris.append(opaque(level, codes.uri))
            certificates.append(opaque(level, codes.certificate))
        for vendor in every(level, VendorOpts) if codes.in_vendor else ():
            if vendor.enterprise == codes.vendor_enterprise:
                uris.append(opaque(vendor.options, _VENDOR_URI))
                certificates.append(opaque(vendor.options, _VENDOR_CERTIFICATE))
    uri = next((text for text in map(uri_of, uris) if text), None)
    return Bootstrap(uri, next((one for one in certificates if one and len(one) <= LARGEST_CERTIFICATE), None))


def uri_of(value: bytes | None) -> str | None:
    """The text of a URI: some programs end it with zero bytes, and some options are padded with them. None for what is none."""
    if value is None or len(value) > _LONGEST_URI:
        return None
    text = value.rstrip(b"\0").decode("ascii", errors="replace")
    return text if text.isprintable() and "://" in text and " " not in text and "\ufffd" not in text else None
