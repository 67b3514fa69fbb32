"""Certificates in files: X.509 as DER, or as PEM (RFC 7468), to DER. Not responsible for whether anybody should trust them."""

from __future__ import annotations

import ssl

from cryptography import x509

from m2mapp.model.errors import Malformed


def certificate_der(data: bytes, where: str) -> bytes:
    """The first certificate in a file's bytes, as DER. `where` names it in the `Malformed` that is raised where there is none."""
    expected = "an X.509 certificate, DER or PEM"
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            text = data.decode("ascii")
            begin = text.index("-----BEGIN CERTIFICATE-----")
            end = text.index("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
            data = ssl.PEM_cert_to_DER_cert(text[begin:end])
        x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise Malformed(where, f"{len(data)} bytes", expected) from error
    return data
