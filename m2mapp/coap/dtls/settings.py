"""The settings of coaps: `[coap] coaps`, with the certificates and keys that its files hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from m2mapp.coap.dtls.credentials import KEYS, Identity, is_pair, load_certificates, load_chain, load_key, names_of
from m2mapp.formats.shapes import Check, Field, Shape, Wrong, list_of
from m2mapp.formats.uris import Uri
from m2mapp.model.errors import Malformed


@dataclass(frozen=True, slots=True)
class CoapsSettings:
    """Where coaps is served; what this node shows, as a server and as a client; whom it believes.

    Clients' certificates must be of `client_ca`; without it none is asked for. Servers' must be of `server_ca`; without it, of the
    system's.
    """

    listen: tuple[tuple[str, int], ...] = ()
    identity: Identity | None = None
    client_ca: tuple[x509.Certificate, ...] = ()
    server_ca: tuple[x509.Certificate, ...] = ()


NO_COAPS = CoapsSettings()


def _file(load: Callable[[str], object]) -> Check:
    """What a file holds, by a loader; an empty name: nothing."""

    def check(value: object) -> object:
        if not isinstance(value, str):
            raise Wrong(value, "the path of a PEM file")
        return load(value) if value else None

    return check


def read(given: object, where: str, listen: Check) -> tuple[CoapsSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key, `listen` checks one address with its port."""
    if not isinstance(given, Mapping):
        return CoapsSettings(), [Malformed(where.removesuffix("."), given, "a table such as { listen = [], certificate = '', key = '' }")]
    shape = Shape(
        {
            "listen": Field(list_of(listen, most=16), []),
            "certificate": Field(_file(load_chain), None),
            "key": Field(_file(load_key), None),
            "client_ca": Field(_file(load_certificates), None),
            "server_ca": Field(_file(load_certificates), None),
        }
    )
    values, faults = shape.read(given, where)
    if not faults:
        faults = _together(values, given, where)
    if faults:
        return CoapsSettings(), faults
    bound, chain, key = values["listen"], _certificates(values["certificate"]), values["key"]
    settings = CoapsSettings(
        listen=tuple(bound) if isinstance(bound, list) else (),
        identity=Identity(chain, key) if isinstance(key, KEYS) else None,
        client_ca=_certificates(values["client_ca"]),
        server_ca=_certificates(values["server_ca"]),
    )
    return settings, []


def about(settings: CoapsSettings, node: str) -> dict[str, object]:
    """What `/node` says of coaps, where it is served: the URI; whom the certificate names, until when it is good, its SHA-256."""
    if settings.identity is None or not settings.listen:
        return {}
    shown = settings.identity.chain[0]
    certificate = {
        "names": list(names_of(shown)),
        "until": f"{shown.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "sha256": shown.fingerprint(SHA256()).hex(),
    }
    return {"coaps": {"uri": f"coaps://{Uri('coaps', node, settings.listen[0][1], ()).authority}", "certificate": certificate}}


def _certificates(value: object) -> tuple[x509.Certificate, ...]:
    return tuple(item for item in value if isinstance(item, x509.Certificate)) if isinstance(value, tuple) else ()


def _together(values: Mapping[str, object], given: Mapping[str, object], where: str) -> list[Malformed]:
    """What must hold between the keys."""
    faults = []
    chain, key = _certificates(values["certificate"]), values["key"]
    if bool(chain) != (key is not None):
        missing, there = ("key", "certificate") if key is None else ("certificate", "key")
        faults.append(Malformed(f"{where}{missing}", "nothing", f"enough: {there} is given, and neither is of use without the other"))
    elif isinstance(key, KEYS) and not is_pair(chain[0], key):
        faults.append(Malformed(f"{where}key", given["key"], f"a file with the private key of the certificate in {given['certificate']}"))
    if values["listen"] and not chain and key is None:
        faults.append(Malformed(f"{where}certificate", "nothing", "enough: coaps is served with a certificate and its key"))
    if values["client_ca"] and not values["listen"]:
        faults.append(Malformed(f"{where}client_ca", given["client_ca"], "used without listen: it is for those who connect to this node"))
    return faults
