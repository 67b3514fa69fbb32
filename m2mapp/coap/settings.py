"""The settings of CoAP: the tables `[coap]` and `[coap.access]`; `coaps` is read by `dtls.settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from m2mapp.coap.dtls import settings as dtls_settings
from m2mapp.coap.dtls.settings import NO_COAPS, CoapsSettings
from m2mapp.coap.parameters import Limits, Unproven
from m2mapp.formats.shapes import Field, Shape, Wrong, choice, integer, list_of
from m2mapp.model.errors import Malformed

_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_CERTIFICATE = re.compile(r"cert:[!-~]{1,255}")
_MAX_PORT = 65535
_USUAL_LISTEN = (("::", 5683), ("0.0.0.0", 5683))  # noqa: S104 - a gateway serves its links


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may do what over CoAP, by source: `link`, `leases`, `servers`, prefixes, or `cert:NAME`.

    The last is for clients that show a certificate with that name; `cert:*` is every client that shows one which `client_ca` verifies
    (spec section 10).
    """

    read: tuple[str, ...] = ("link", "leases", "servers")
    register: tuple[str, ...] = ("link", "leases")
    advertise: tuple[str, ...] = ("link", "leases", "servers")
    write: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CoapSettings:
    """Where CoAP is served: addresses with ports, and the interfaces on which group traffic goes out and comes in.

    `limits` has what the file says of unproven sources and of rates, and is else as usual.
    """

    listen: tuple[tuple[str, int], ...] = _USUAL_LISTEN
    interfaces: tuple[str, ...] = ()
    access: AccessSettings = AccessSettings()
    limits: Limits = field(default_factory=Limits)
    coaps: CoapsSettings = NO_COAPS


def _listen(value: object) -> tuple[str, int]:
    found = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    expected = "an address and a port such as [::]:5683 or 0.0.0.0:5683"
    if found is None or int(found["port"]) > _MAX_PORT:
        raise Wrong(value, expected)
    host = found["v6"] or found["v4"]
    try:
        ip_address(host)
    except ValueError as error:
        raise Wrong(value, expected) from error
    return host, int(found["port"])


def _interface(value: object) -> str:
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value):
        raise Wrong(value, "the name of a network interface such as eth1")
    return value


def _source(value: object) -> str:
    if value in ("link", "leases", "servers") or (isinstance(value, str) and _CERTIFICATE.fullmatch(value)):
        return str(value)
    try:
        return str(ip_network(value if isinstance(value, str) else ""))
    except ValueError as error:
        raise Wrong(value, f"'link', 'leases', 'servers', 'cert:NAME', 'cert:*' or a prefix such as fd00::/64 ({error})") from error


_USUAL, _USUAL_OF_DEVICES = ["link", "leases"], ["link", "leases", "servers"]
_ACCESS = Shape(
    {
        "read": Field(list_of(_source, most=64), _USUAL_OF_DEVICES),
        "register": Field(list_of(_source, most=64), _USUAL),
        "advertise": Field(list_of(_source, most=64), _USUAL_OF_DEVICES),
        "write": Field(list_of(_source, most=64), []),
    }
)
_SHAPE = Shape(
    {
        "listen": Field(list_of(_listen, most=16), list(_USUAL_LISTEN)),
        "interfaces": Field(list_of(_interface, most=64), []),
        "unproven": Field(choice(*(policy.value for policy in Unproven)), Unproven.ECHO.value),
        "source_requests_per_s": Field(integer(1, 1_000_000), 500),
        "source_bytes_per_s": Field(integer(1_000, 1_000_000_000), 1_000_000),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[CoapSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    given = dict(table)
    access, table_of_coaps = given.pop("access", {}), given.pop("coaps", {})
    values, faults = _SHAPE.read(given, where)
    if not isinstance(access, Mapping):
        faults.append(Malformed(where + "access", access, "a table"))
        access = {}
    rights, more = _ACCESS.read(access, where + "access.")
    coaps, of_coaps = dtls_settings.read(table_of_coaps, where + "coaps.", _listen)
    faults += more + of_coaps
    if faults:
        return CoapSettings(), faults
    listen = values["listen"]
    settings = CoapSettings(
        listen=tuple(listen) if isinstance(listen, list) else (),
        interfaces=_texts(values["interfaces"]),
        access=AccessSettings(**{name: _texts(sources) for name, sources in rights.items()}),
        limits=Limits(
            unproven=Unproven(values["unproven"]),
            source_requests_per_s=float(str(values["source_requests_per_s"])),
            source_bytes_per_s=float(str(values["source_bytes_per_s"])),
        ),
        coaps=coaps,
    )
    return settings, _across(settings, where)


def _across(settings: CoapSettings, where: str) -> list[Malformed]:
    """What must hold between `coaps` and the rest."""
    coaps, access = settings.coaps, settings.access
    faults = [
        Malformed(where + "coaps.listen", f"[{host}]:{port}", "one that is not in listen: a UDP port has plain CoAP or coaps")
        for host, port in coaps.listen
        if port and (host, port) in settings.listen
    ]
    if not coaps.client_ca:
        named = {"read": access.read, "register": access.register, "advertise": access.advertise, "write": access.write}
        faults += [
            Malformed(f"{where}access.{name}", source, "of use without coaps.client_ca, which verifies the certificates of clients")
            for name, sources in named.items()
            for source in sources
            if source.startswith("cert:")
        ]
    return faults


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
