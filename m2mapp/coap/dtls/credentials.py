"""Certificates and keys from PEM files: this node's own, and those whom it believes.

Responsible for reading them and for saying what is wrong with one. Not responsible for what OpenSSL does with them (`contexts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key, load_pem_private_key
from cryptography.x509.oid import NameOID

from m2mapp.formats.shapes import Wrong
from m2mapp.model.messages import Shown

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
KEYS: Final = (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
_LARGEST_FILE: Final = 1 << 20
_RSA_BITS, _EC_BITS = 2048, 224


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node shows: its certificate, then those that lead to a root; and the private key of the first."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


def load_chain(file: str) -> tuple[x509.Certificate, ...]:
    """This node's certificate and those behind it. Raises `Wrong`, also for one that has ended, or that is too weak."""
    chain = load_certificates(file)
    own = chain[0]
    if own.not_valid_after_utc < datetime.now(UTC):
        # One that is not good yet is taken: a box without a clock battery starts years back.
        raise Wrong(file, f"a file with a certificate that is still good: this one ended {own.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    weak = weakness(own)
    if weak:
        raise Wrong(file, f"a file with a certificate that others can trust: {weak}")
    return chain


def load_certificates(file: str) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file, in their order, one at least. Raises `Wrong`."""
    try:
        return tuple(x509.load_pem_x509_certificates(_read(file, "certificates")))
    except ValueError as error:
        raise Wrong(file, "a PEM file with one or more certificates (-----BEGIN CERTIFICATE-----)") from error


def load_key(file: str) -> PrivateKey:
    """The private key in a PEM file. Raises `Wrong`."""
    try:
        key = load_pem_private_key(_read(file, "a private key"), None)
    except TypeError as error:
        raise Wrong(file, "a PEM file with a private key that has no passphrase: nobody is there to type it") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Wrong(file, "a PEM file with a private key (-----BEGIN PRIVATE KEY-----)") from error
    if not isinstance(key, KEYS):
        raise Wrong(file, "an EC, Ed25519, Ed448 or RSA private key")
    return key


def identity_of(shown: Shown) -> Identity:
    """The identity that a certificate and its key are. Raises `ValueError` where they are none."""
    try:
        certificate, key = x509.load_der_x509_certificate(shown.certificate), load_der_private_key(shown.key, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("the key has a passphrase, or is of a kind that is not known here") from error
    if not isinstance(key, KEYS) or not is_pair(certificate, key):
        raise ValueError("the key is not the certificate's")
    return Identity((certificate,), key)


def is_pair(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Whether the private key is the certificate's."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def weakness(certificate: x509.Certificate) -> str:
    """Why nobody should rely on a certificate, whoever signed it; empty where there is no such reason (112 bits, NIST SP 800-57).

    OpenSSL's own levels of security are off, because AES-128-CCM-8, which RFC 7252 makes mandatory, is below them all.
    """
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size < _RSA_BITS:
        return f"its key has {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _EC_BITS:
        return f"its key is on the curve {key.curve.name}"
    if isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1) and certificate.issuer != certificate.subject:
        return f"it is signed with {certificate.signature_hash_algorithm.name}"
    return ""


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Whom a certificate names: the dNSName and URI alternative names, or the common name where there are none (RFC 7252, 9.1.3.3)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = _printable((*found.get_values_for_type(x509.DNSName), *found.get_values_for_type(x509.UniformResourceIdentifier)))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        names = ()
    if names:
        return names
    try:
        common = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except ValueError:
        return ()
    return _printable(name for name in common if isinstance(name, str))


def _printable(names: Iterable[str]) -> tuple[str, ...]:
    """Those that may stand in a record or a log, and be compared."""
    return tuple(name for name in names if name and name.isprintable() and name.isascii())


def _read(file: str, what: str) -> bytes:
    try:
        with FilePath(file).open("rb") as stream:
            return stream.read(_LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Wrong(file, f"a PEM file with {what} that can be read: {reason}") from error
