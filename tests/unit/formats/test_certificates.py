"""Certificates in files, DER and PEM, to DER."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.certificates import certificate_der
from m2mapp.model.errors import Malformed


def _made() -> bytes:
    """A certificate of its own, as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bs.example.org")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    draft = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    draft = draft.serial_number(1).not_valid_before(begin).not_valid_after(begin + timedelta(days=1))
    return draft.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class CertificateTests(SynchronousTestCase):
    def test_der_and_pem(self) -> None:
        """Either gives the same DER; in a chain it is the first; a private key before it does no harm."""
        der = _made()
        pem = ssl.DER_cert_to_PEM_cert(der).encode()
        other = ssl.DER_cert_to_PEM_cert(_made()).encode()
        key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        for data in (der, pem, pem + other, key + pem, b"\n" + pem):
            self.assertEqual(certificate_der(data, "certificate"), der)

    def test_none(self) -> None:
        """What holds no certificate is refused with the name of the key."""
        for data in (b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"-----BEGIN \xff", _made()[:-1]):
            fault = self.assertRaises(Malformed, certificate_der, data, "[dhcpv6.delegating] certificate x.pem")
            self.assertIn("[dhcpv6.delegating] certificate x.pem", fault.detail)
