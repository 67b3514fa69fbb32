"""The settings of DHCPv6: the tables `[dhcpv6.uplink]`, `[dhcpv6.downlink]`, `[dhcpv6.delegating]` and `[dhcpv6.options]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from m2mapp.dhcpv6.advert import ADVERTISED
from m2mapp.dhcpv6.bootstrap_options import CERTIFICATE_CODE, URI_CODE, BootstrapCodes
from m2mapp.dhcpv6.duid import LONGEST, SHORTEST, is_duid
from m2mapp.dhcpv6.numbers import INFINITY, TAKEN
from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, integer, list_of, text
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault, Malformed

_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_MAX_CODE = 0xFFFF
_ROLES = ("uplink", "downlink", "delegating")
_SUBNET_LENGTH = 64


@dataclass(frozen=True, slots=True)
class DelegatingSettings:
    """The delegating server: on which interface, from which pool, what it tells beside. `certificate` is a file, DER or PEM; or empty.

    `routes`: this host gets a route to each router that has a prefix. `static`: prefixes by the DUID that always gets them.
    """

    interface: str
    prefix_pool: IPv6Network
    delegated_length: int
    bootstrap_uri: str
    certificate: str
    valid_lifetime_s: int
    preferred_lifetime_s: int
    preference: int
    routes: bool = False
    static: tuple[tuple[bytes, IPv6Network], ...] = ()


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """The requesting router: on which interface, the prefix that it would like (None: any), and whether it gives it back at a stop.

    `ra_option` is the type of the option of router advertisements that carries the bootstrap URI (0: none); `hncp`: whether what HNCP's
    nodes tell on that interface counts.
    """

    interface: str
    hint: IPv6Network | None
    release: bool
    ra_option: int = 0
    hncp: bool = False


@dataclass(frozen=True, slots=True)
class DownlinkSettings:
    """The devices' server: on which interfaces, of which prefix (None: what the uplink learned), what it tells beside.

    `bootstrap_uri` empty: the learned one. `certificate` is a file, DER or PEM; empty: the learned one, if that is of the same URI.
    """

    interfaces: tuple[str, ...]
    prefix: IPv6Network | None
    bootstrap_uri: str
    certificate: str
    valid_lifetime_s: int


@dataclass(frozen=True, slots=True)
class Dhcpv6Settings:
    """The DHCPv6 roles of this node (None: off), and where the two bootstrap options stand."""

    uplink: UplinkSettings | None = None
    delegating: DelegatingSettings | None = None
    codes: BootstrapCodes = field(default_factory=BootstrapCodes)
    downlink: DownlinkSettings | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are on, as they are named in the file."""
        return tuple(f"dhcpv6.{name}" for name in _ROLES if getattr(self, name) is not None)

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The interfaces of all roles."""
        one = tuple(role.interface for role in (self.uplink, self.delegating) if role is not None)
        return one + (self.downlink.interfaces if self.downlink is not None else ())


def _interface(value: object) -> str:
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value):
        raise Wrong(value, "the name of a network interface such as eth2")
    return value


def _network(value: object) -> IPv6Network:
    try:
        network = IPv6Network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, f"an IPv6 prefix such as 2001:db8:100::/40 ({error})") from error
    if network.is_multicast or network.is_link_local:
        raise Wrong(value, "a prefix of unicast addresses that are not link-local")
    return network


def _subnets(value: object) -> IPv6Network | None:
    if value == "":
        return None
    network = _network(value)
    if network.prefixlen > _SUBNET_LENGTH:
        raise Wrong(value, f"a prefix of at most {_SUBNET_LENGTH} bits, of which each interface gets a /64; or empty")
    return network


def _bootstrap_uri(value: object) -> str:
    if value == "":
        return ""
    try:
        uri = parse_uri(value)
    except Fault as fault:
        raise Wrong(value, "a URI such as coaps://bs.example.org:5684, or empty") from fault
    if uri.scheme not in ("coap", "coaps"):
        raise Wrong(value, "a coap or coaps URI")
    return str(value)  # as it was written: devices get it so


def _hint(value: object) -> IPv6Network | None:
    if value == "":
        return None
    try:
        return IPv6Network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, f"a prefix such as ::/56 for its length alone, or 2001:db8:5::/56; or empty ({error})") from error


def _ra_option(value: object) -> object:
    found = integer(0, 255)(value)
    if found in ADVERTISED:
        raise Wrong(value, f"an option type that has no meaning of its own in router advertisements, such as 253 (RFC 4727): not {found}")
    return found


def _code(value: object) -> object:
    found = integer(1, _MAX_CODE)(value)
    if found in TAKEN:
        raise Wrong(value, f"an option code that has no other meaning in DHCPv6, such as {URI_CODE}: not {found}")
    return found


def _static(value: object) -> tuple[tuple[bytes, IPv6Network], ...]:
    if not isinstance(value, Mapping):
        raise Wrong(value, 'a table of prefixes by DUID, such as { "00030001020000000001" = "2001:db8:100:5::/56" }')
    found = []
    for written, prefix in value.items():
        try:
            duid = bytes.fromhex(written)
        except ValueError:
            duid = b""
        if not is_duid(duid):
            raise Wrong(written, f"a DUID of {SHORTEST} to {LONGEST} bytes in hexadecimal")
        found.append((duid, _network(prefix)))
    return tuple(found)


_LIFETIME = integer(60, INFINITY)
_UPLINK = Shape(
    {
        "interface": Field(_interface),
        "hint": Field(_hint, None),
        "release": Field(boolean, False),
        "ra_option": Field(_ra_option, 0),
        "hncp": Field(boolean, False),
    }
)
_DELEGATING = Shape(
    {
        "interface": Field(_interface),
        "prefix_pool": Field(_network),
        "delegated_length": Field(integer(1, 64), 56),
        "bootstrap_uri": Field(_bootstrap_uri, ""),
        "certificate": Field(text, ""),
        "valid_lifetime_s": Field(_LIFETIME, 7200),
        "preferred_lifetime_s": Field(_LIFETIME, 3600),
        "preference": Field(integer(0, 255), 0),
        "routes": Field(boolean, False),
        "static": Field(_static, ()),
    }
)
_DOWNLINK = Shape(
    {
        "interfaces": Field(list_of(_interface, least=1, most=64)),
        "prefix": Field(_subnets, None),
        "bootstrap_uri": Field(_bootstrap_uri, ""),
        "certificate": Field(text, ""),
        "valid_lifetime_s": Field(_LIFETIME, 7200),
    }
)
_OPTIONS = Shape(
    {
        "bootstrap_uri": Field(_code, URI_CODE),
        "certificate": Field(_code, CERTIFICATE_CODE),
        "encodings": Field(list_of(choice("option", "vendor"), least=1, most=2), ["option"]),
        "vendor_enterprise": Field(integer(0, INFINITY), 0),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[Dhcpv6Settings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    known = (*_ROLES, "options")
    faults = [Malformed(where + name, value, f"one of {', '.join(known)}") for name, value in table.items() if name not in known]
    faults += [Malformed(where + name, table[name], "a table") for name in known if not isinstance(table.get(name, {}), Mapping)]
    if not any(name in table for name in known):
        faults.append(Malformed(where.strip(), "no role", f"a table with one or more of {', '.join(_ROLES)}"))
    if faults:
        return Dhcpv6Settings(), faults
    codes, faults = _read_options(table.get("options", {}), "[dhcpv6.options] ")
    uplink, delegating = None, None
    if "uplink" in table:
        uplink, more = _read_uplink(table["uplink"], "[dhcpv6.uplink] ")
        faults += more
    if "delegating" in table:
        delegating, more = _read_delegating(table["delegating"], "[dhcpv6.delegating] ")
        faults += more
    downlink = None
    if "downlink" in table:
        downlink, more = _read_downlink(table["downlink"], "[dhcpv6.downlink] ")
        faults += more
        if downlink is not None and downlink.prefix is None and "uplink" not in table:
            expected = "the prefix of which the devices' addresses are, as there is no [dhcpv6.uplink] to learn it"
            faults.append(Malformed("[dhcpv6.downlink] prefix", "", expected))
    settings = Dhcpv6Settings(uplink, delegating, codes, downlink)
    return settings, [*faults, *_clashes(settings)]


def _clashes(settings: Dhcpv6Settings) -> list[Malformed]:
    """The roles exclude each other on one interface."""
    uplink, downlink, delegating = settings.uplink, settings.downlink, settings.delegating
    faults: list[Malformed] = []
    if uplink is not None and delegating is not None and uplink.interface == delegating.interface:
        expected = "another interface than that of [dhcpv6.uplink]: the roles exclude each other on one"
        faults.append(Malformed("[dhcpv6.delegating] interface", delegating.interface, expected))
    for role, other in (("uplink", uplink), ("delegating", delegating)):
        if downlink is not None and other is not None and other.interface in downlink.interfaces:
            expected = f"without {other.interface}, which is that of [dhcpv6.{role}]: the roles exclude each other on one"
            faults.append(Malformed("[dhcpv6.downlink] interfaces", list(downlink.interfaces), expected))
    if downlink is not None and downlink.prefix is not None and delegating is not None and downlink.prefix.overlaps(delegating.prefix_pool):
        expected = f"a prefix outside {delegating.prefix_pool}, which [dhcpv6.delegating] gives to others"
        faults.append(Malformed("[dhcpv6.downlink] prefix", str(downlink.prefix), expected))
    return faults


def _read_options(table: object, where: str) -> tuple[BootstrapCodes, list[Malformed]]:
    values, faults = _OPTIONS.read(table if isinstance(table, Mapping) else {}, where)
    if faults:
        return BootstrapCodes(), faults
    encodings = values["encodings"]
    chosen = encodings if isinstance(encodings, list) else []
    uri, certificate, enterprise = (int(str(values[name])) for name in ("bootstrap_uri", "certificate", "vendor_enterprise"))
    if uri == certificate:
        faults.append(Malformed(where + "certificate", certificate, "another code than that of bootstrap_uri"))
    if "vendor" in chosen and not enterprise:
        faults.append(Malformed(where + "vendor_enterprise", enterprise, "the enterprise number that the encoding 'vendor' needs"))
    return BootstrapCodes(uri, certificate, "option" in chosen, "vendor" in chosen, enterprise), faults


def _read_uplink(table: object, where: str) -> tuple[UplinkSettings | None, list[Malformed]]:
    values, faults = _UPLINK.read(table if isinstance(table, Mapping) else {}, where)
    return (None, faults) if faults else (UplinkSettings(**values), [])  # type: ignore[arg-type]  # the shape has checked them


def _read_delegating(table: object, where: str) -> tuple[DelegatingSettings | None, list[Malformed]]:
    values, faults = _DELEGATING.read(table if isinstance(table, Mapping) else {}, where)
    if faults:
        return None, faults
    settings = DelegatingSettings(**values)  # type: ignore[arg-type]  # the shape has checked each value's type
    if settings.delegated_length < settings.prefix_pool.prefixlen:
        expected = f"at least the length of prefix_pool, {settings.prefix_pool.prefixlen}"
        faults.append(Malformed(where + "delegated_length", settings.delegated_length, expected))
    faults += _static_faults(settings, where)
    if settings.preferred_lifetime_s > settings.valid_lifetime_s:
        expected = f"at most valid_lifetime_s, {settings.valid_lifetime_s}"
        faults.append(Malformed(where + "preferred_lifetime_s", settings.preferred_lifetime_s, expected))
    return settings, faults


def _static_faults(settings: DelegatingSettings, where: str) -> list[Malformed]:
    """Each DUID has one prefix of the pool, as long as the others, and of its own."""
    pool, length = settings.prefix_pool, settings.delegated_length
    faults = []
    seen: set[bytes | IPv6Network] = set()
    for duid, prefix in settings.static:
        expected = ""
        if prefix.prefixlen != length or not prefix.subnet_of(pool):
            expected = f"a prefix of {pool} that is as long as delegated_length says, {length}"
        elif seen & {duid, prefix}:
            expected = "each DUID once, and a prefix that no other has"
        if expected:
            faults.append(Malformed(f"{where}static {duid.hex()}", str(prefix), expected))
        seen |= {duid, prefix}
    return faults


def _read_downlink(table: object, where: str) -> tuple[DownlinkSettings | None, list[Malformed]]:
    values, faults = _DOWNLINK.read(table if isinstance(table, Mapping) else {}, where)
    if faults:
        return None, faults
    names = values["interfaces"]
    interfaces = tuple(names) if isinstance(names, list) else ()
    if len(set(interfaces)) < len(interfaces):
        faults.append(Malformed(where + "interfaces", names, "each interface once"))
    settings = DownlinkSettings(**{**values, "interfaces": interfaces})  # type: ignore[arg-type]  # the shape has checked the types
    subnets = 1 << _SUBNET_LENGTH - settings.prefix.prefixlen if settings.prefix is not None else len(interfaces)
    if subnets < len(interfaces):
        expected = f"a prefix that has a /64 for each of {len(interfaces)} interfaces"
        faults.append(Malformed(where + "prefix", str(settings.prefix), expected))
    return settings, faults
