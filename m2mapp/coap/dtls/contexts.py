"""What OpenSSL is told for every session: protocol, ciphers, whose certificates are believed, and how a peer's is judged.

Responsible for the three contexts (server; client by trust; client by a given certificate) and for the reason why a peer was refused.
Not responsible for one session (`session`), nor for files (`credentials`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.exceptions import CertificateError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns

from m2mapp.coap.dtls.address import Wanted
from m2mapp.coap.dtls.cookies import Cookies
from m2mapp.coap.dtls.credentials import Identity, identity_of, names_of, weakness
from m2mapp.model.errors import PeerFailed
from m2mapp.model.messages import Shown
from m2mapp.net.interfaces import Sockaddr

DTLS_1_2: Final = 0xFEFD
_MOST_CONTEXTS: Final = 16
MTU_BYTES: Final = 1232
"""The largest datagram of a handshake: what passes every IPv6 link (1280 bytes less the IP and UDP headers)."""
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:@SECLEVEL=0"
"""All with ephemeral keys. RFC 7252, section 9.1.3.3 makes ECDHE-ECDSA-AES128-CCM8 mandatory, which only level 0 allows."""
_OPTIONS: Final = SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION
_WHY: Final = {
    7: "its certificate is not signed by whom it says",
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed, and is not among those that are trusted",
    19: "the root of its certificate is not among those that are trusted",
    20: "who issued its certificate is not among those that are trusted",
    21: "who issued its certificate is not among those that are trusted",
    26: "its certificate is for another purpose",
}
"""By OpenSSL's number (X509_V_ERR_...)."""


class Judge:
    """Judges the certificate of one peer; `why` says why it was refused. What OpenSSL's callbacks find at a connection.

    `wanted` is None where any peer will do whose certificate is trusted: on the server's side. `source` is for the cookies.
    """

    def __init__(self, wanted: Wanted | None = None) -> None:
        self.wanted = wanted
        self.why = ""
        self.source: Sockaddr = ("", 0)

    def accepts(self, certificate: x509.Certificate, error: int, depth: int) -> bool:
        """Whether to go on with a certificate in which OpenSSL found an error (0: none); depth 0 is the peer's own."""
        wanted = self.wanted
        if wanted is not None and wanted.certificate is not None:
            if depth == 0 and certificate.public_bytes(Encoding.DER) != wanted.certificate:
                self.why = "it shows another certificate than the one that was given for it"
        elif error:
            self.why = _WHY.get(error, f"its certificate was refused (X509_V_ERR {error})")
        elif weak := weakness(certificate):
            self.why = f"its certificate is too weak: {weak}"
        elif depth == 0 and wanted is not None and not _is_for(certificate, wanted.host):
            self.why = f"its certificate is not for {wanted.host} but for {', '.join(names_of(certificate)[:4]) or 'nobody'}"
        return not self.why


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate names a host (RFC 9525): a dNSName, or an iPAddress where the host is an address."""
    wanted = IPAddress_ID(host.partition("%")[0]) if _is_address(host) else DNS_ID(host)
    try:
        verify_service_identity(extract_patterns(crypto.X509.from_cryptography(certificate)), [wanted], [])
    except (VerificationError, CertificateError):
        return False
    return True


def _verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, _ok: int) -> bool:
    judge: Judge = connection.get_app_data()
    try:
        return judge.accepts(certificate.to_cryptography(), error, depth)
    except Exception as fault:  # noqa: BLE001 - a peer's certificate can be malformed in any way: that is its fault, told by the reason
        judge.why = f"its certificate cannot be read: {fault}"
        return False


def _context(method: int, identity: Identity | None) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(DTLS_1_2)
    context.set_max_proto_version(DTLS_1_2)
    context.set_cipher_list(_CIPHERS)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if identity is not None:
        context.use_certificate(identity.chain[0])
        context.use_privatekey(identity.key)
        for certificate in identity.chain[1:]:
            context.add_extra_chain_cert(certificate)
    return context


def _trust(context: SSL.Context, authorities: Iterable[x509.Certificate]) -> None:
    store = context.get_cert_store()
    if store is None:
        raise ValueError("OpenSSL gave no store of certificates")
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))


def server_context(
    identity: Identity, client_ca: tuple[x509.Certificate, ...], cookies: Cookies, seconds: Callable[[], float]
) -> SSL.Context:
    """For sessions that others begin. With `client_ca` clients are asked for a certificate; one that they show must be of these.

    Cookies are for the source in the connection's `Judge`.
    """
    context = _context(SSL.DTLS_SERVER_METHOD, identity)
    context.set_cookie_generate_callback(lambda connection: cookies.make(connection.get_app_data().source, seconds()))
    context.set_cookie_verify_callback(lambda connection, cookie: cookies.is_good(cookie, connection.get_app_data().source, seconds()))
    if client_ca:
        _trust(context, client_ca)
        for authority in client_ca:
            context.add_client_ca(authority)
        context.set_verify(SSL.VERIFY_PEER, _verify)
    return context


class ClientContexts:
    """The contexts of sessions that this node begins; each is made when it is first needed, since reading the system's roots takes time."""

    def __init__(self, identity: Identity | None, server_ca: tuple[x509.Certificate, ...]) -> None:
        self._identity, self._server_ca = identity, server_ca
        self._made: dict[tuple[bool, Shown | None], SSL.Context] = {}

    def connection(self, judge: Judge) -> SSL.Connection:
        """A connection that has said nothing yet; `judge` judges the server. Raises `PeerFailed` where what is to be shown cannot be."""
        wanted = judge.wanted
        pinned = wanted is not None and wanted.certificate is not None
        key = pinned, wanted.shown if wanted is not None else None
        context = self._made.get(key)
        if context is None:
            if len(self._made) >= _MOST_CONTEXTS:
                self._made.clear()  # sessions keep theirs
            context = self._made[key] = self._make(key[1], trusts=not pinned)
        connection = new_connection(context, judge)
        connection.set_connect_state()
        if wanted is not None and not _is_address(wanted.host):
            connection.set_tlsext_host_name(wanted.host.encode("ascii"))
        return connection

    def _make(self, shown: Shown | None, *, trusts: bool) -> SSL.Context:
        try:
            context = _context(SSL.DTLS_CLIENT_METHOD, self._identity if shown is None else identity_of(shown))
        except (ValueError, SSL.Error) as error:
            raise PeerFailed(f"the certificate that is to be shown there cannot be used: {error}") from error
        context.set_verify(SSL.VERIFY_PEER, _verify)
        if trusts and self._server_ca:
            _trust(context, self._server_ca)
        elif trusts:
            context.set_default_verify_paths()
        return context


def new_connection(context: SSL.Context, judge: Judge) -> SSL.Connection:
    """A connection over memory, with what its callbacks look for."""
    connection = SSL.Connection(context, None)
    connection.set_ciphertext_mtu(MTU_BYTES)
    connection.set_app_data(judge)
    return connection


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
