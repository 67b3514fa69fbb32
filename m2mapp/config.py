"""The configuration file: TOML to frozen settings, every fault at once (spec section 11).

Each part reads its own table (its `settings.py`); here they are joined, and what must hold between tables is checked in one function.
Opens no socket, and no file but the one it reads and those that this names: certificates, keys, bootstrap plans.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TypeVar

from m2mapp.coap import settings as coap_settings
from m2mapp.coap.settings import CoapSettings
from m2mapp.dhcpv6 import settings as dhcpv6_settings
from m2mapp.dhcpv6.settings import Dhcpv6Settings
from m2mapp.formats.shapes import Field, Shape, Wrong, host, list_of, text
from m2mapp.formats.uris import parse_uri
from m2mapp.groups import settings as group_settings
from m2mapp.groups.settings import GroupSettings
from m2mapp.http import settings as http_settings
from m2mapp.http.settings import HttpSettings
from m2mapp.lwm2m import device_settings, report_settings
from m2mapp.lwm2m import settings as bootstrap_settings
from m2mapp.lwm2m.device_settings import DeviceSettings
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.lwm2m.settings import BootstrapSettings
from m2mapp.model.errors import Fault, Malformed
from m2mapp.sim import settings as sim_settings
from m2mapp.sim.settings import SimSettings
from m2mapp.triggers import settings as trigger_settings
from m2mapp.triggers.settings import TriggerSettings

EXIT_CONFIG = 78
"""The exit code of a program whose configuration is at fault (EX_CONFIG of sysexits.h)."""

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Who this node is, and where it keeps everything."""

    name: str
    aliases: tuple[str, ...]
    state_dir: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node: where it is, and the file with the token to sign in there (read when it is needed; empty for none)."""

    name: str
    uri: str
    token_file: str


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's configuration. A role that is None (or False) is off."""

    node: NodeSettings
    http: HttpSettings | None = None
    coap: CoapSettings | None = None
    groups: GroupSettings | None = None
    member: bool = False
    triggers: TriggerSettings | None = None
    dhcpv6: Dhcpv6Settings | None = None
    bootstrap: BootstrapSettings | None = None
    report: ReportSettings | None = None
    device: DeviceSettings | None = None
    sim: SimSettings | None = None
    peers: tuple[Peer, ...] = ()


class BadConfiguration(Exception):  # noqa: N818 - it is the user's, told as a list
    """The file has faults; `lines` tells each with file, table and key."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def load(file: str) -> Settings:
    """The settings in a file. Raises `BadConfiguration`."""
    try:
        with FilePath(file).open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise BadConfiguration([f"{file}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfiguration([f"{file}: is not TOML: {error}"]) from error
    settings, faults = read(document)
    if settings is None:
        raise BadConfiguration([f"{file}: {fault.detail}" for fault in faults])
    return settings


def clashes(loaded: Mapping[str, Settings]) -> list[str]:
    """What the nodes of one process cannot have together, by the files that they come from: told as `load` tells faults."""
    faults: list[str] = []
    first: dict[tuple[str, str], str] = {}
    for file, settings in loaded.items():
        keys = [("[node] state_dir", settings.node.state_dir)]
        listen = (*settings.coap.listen, *settings.coap.coaps.listen) if settings.coap is not None else ()
        keys += [("[coap] listen", f"[{host}]:{port}") for host, port in listen if port]
        if settings.report is not None and settings.report.lwm2m and settings.report.port:
            keys.append(("[report] port", str(settings.report.port)))
        for key, value in keys:
            other = first.setdefault((key, value), file)
            if other != file:
                faults.append(f"{file}: {key}: {value} is that of {other}; each node has its own")
    return faults


def read(document: Mapping[str, object]) -> tuple[Settings | None, list[Malformed]]:
    """The settings in a document as TOML gives it, or None and all faults."""
    faults: list[Malformed] = []
    known = ("node", "http", "coap", "groups", "member", "triggers", "dhcpv6", "bootstrap", "report", "device", "sim", "peers")
    faults += [Malformed(f"[{name}]", "a table", f"one of {', '.join(known)}") for name in document if name not in known]
    node = _part(document, "node", _read_node, faults) if "node" in document else None
    if "node" not in document:
        faults.append(Malformed("[node]", "nothing", "left out: name and state_dir are needed"))
    settings = Settings(
        node=node or NodeSettings("", (), ""),
        http=_part(document, "http", http_settings.read, faults),
        coap=_part(document, "coap", coap_settings.read, faults),
        groups=_part(document, "groups", group_settings.read, faults),
        member=_part(document, "member", _read_member, faults) or False,
        triggers=_part(document, "triggers", trigger_settings.read, faults),
        dhcpv6=_part(document, "dhcpv6", dhcpv6_settings.read, faults),
        bootstrap=_part(document, "bootstrap", bootstrap_settings.read, faults),
        report=_part(document, "report", report_settings.read, faults),
        device=_part(document, "device", device_settings.read, faults),
        sim=_part(document, "sim", sim_settings.read, faults),
        peers=_part(document, "peers", _read_peers, faults) or (),
    )
    if not faults:
        faults = _across(settings)
    return (None if faults else settings), faults


def _across(settings: Settings) -> list[Malformed]:
    """What must hold between tables."""
    faults = []
    for name, wanted in (("groups", settings.groups is not None), ("member", settings.member)):
        if wanted and settings.coap is None:
            faults.append(Malformed(f"[{name}]", "a table without [coap]", "used without CoAP: add the table [coap]"))
        elif wanted and settings.coap is not None and not settings.coap.interfaces:
            faults.append(Malformed("[coap] interfaces", [], f"a list of one or more interfaces, which [{name}] needs for group traffic"))
    if settings.bootstrap is not None and settings.coap is None:
        faults.append(Malformed("[bootstrap]", "a table without [coap]", "used without CoAP: add the table [coap]"))
    elif settings.bootstrap is not None and settings.coap is not None and not settings.coap.coaps.client_ca:
        asking = [f"{plan['file']}: identity" for plan in settings.bootstrap.plans.values() if plan["identity"] == "certificate"]
        faults += [Malformed(key, "certificate", "used without [coap] coaps and its client_ca, who verifies it") for key in asking]
    faults += _of_report(settings)
    faults += _of_device(settings)
    sim = settings.sim
    if sim is not None and sim.registrar.startswith(("coap:", "coaps:")) and settings.coap is None:
        faults.append(Malformed("[sim] registrar", sim.registrar, "reached without CoAP: add the table [coap]"))
    if settings.http is None and settings.coap is None:
        faults.append(Malformed("[node]", "a node without [http] and [coap]", "reachable: add one of the tables"))
    return faults


def _of_report(settings: Settings) -> list[Malformed]:
    """What must hold between `[report]` and the other tables."""
    report, dhcpv6 = settings.report, settings.dhcpv6
    if report is None:
        return []
    faults = []
    if dhcpv6 is None or dhcpv6.downlink is None:
        faults.append(Malformed("[report]", "a table without [dhcpv6.downlink]", "used where no device is given an address"))
    peers = {peer.name: peer.uri for peer in settings.peers}
    here = settings.bootstrap is not None and report.push == settings.node.name
    if report.push and not here and not peers.get(report.push, "").startswith("http://"):
        expected = f"the name of one of [peers] whose uri is http://...: {', '.join(sorted(peers)) or 'there is none'}"
        expected += f"; or {settings.node.name}, this node, where it has [bootstrap]"
        faults.append(Malformed("[report] push", report.push, expected))
    taken = {port for _, port in (*settings.coap.listen, *settings.coap.coaps.listen)} if settings.coap is not None else set()
    if report.lwm2m and report.port and report.port in taken:
        faults.append(Malformed("[report] port", report.port, "one that [coap] does not listen on: the LwM2M client has its own endpoint"))
    return faults


def _of_device(settings: Settings) -> list[Malformed]:
    """What must hold between the device and the other tables."""
    device, dhcpv6, coap = settings.device, settings.dhcpv6, settings.coap
    faults = []
    if coap is not None and not coap.listen and device is None:
        faults.append(Malformed("[coap] listen", [], "one address with its port at least; a device alone may do without one"))
    if dhcpv6 is not None and not dhcpv6.roles and device is None:
        faults.append(Malformed("[dhcpv6]", "no role", "a table with one or more of uplink, downlink, delegating; or a table [device]"))
    if device is not None and coap is None:
        faults.append(Malformed("[device]", "a table without [coap]", "used without CoAP: add the table [coap]"))
    if device is not None and dhcpv6 is not None and device.interface in dhcpv6.interfaces:
        expected = "another interface than those of [dhcpv6]: a DHCPv6 client and the other roles exclude each other on one"
        faults.append(Malformed("[device] interface", device.interface, expected))
    return faults


def _part(
    document: Mapping[str, object],
    name: str,
    read_table: Callable[[Mapping[str, object], str], tuple[_Part, list[Malformed]]],
    faults: list[Malformed],
) -> _Part | None:
    if name not in document:
        return None
    table = document[name]
    if not isinstance(table, Mapping):
        faults.append(Malformed(f"[{name}]", table, "a table"))
        return None
    part, found = read_table(table, f"[{name}] ")
    faults += found
    return part


def _state_dir(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise Wrong(value, "an absolute path such as /var/lib/m2mapp")
    return value


_NODE = Shape(
    {
        "name": Field(host),
        "aliases": Field(list_of(host, most=64), []),
        "state_dir": Field(_state_dir, "/var/lib/m2mapp"),
    }
)


def _read_node(table: Mapping[str, object], where: str) -> tuple[NodeSettings, list[Malformed]]:
    values, faults = _NODE.read(table, where)
    if faults:
        return NodeSettings("", (), ""), faults
    aliases = values["aliases"]
    return NodeSettings(str(values["name"]), tuple(aliases) if isinstance(aliases, list) else (), str(values["state_dir"])), []


def _read_member(table: Mapping[str, object], where: str) -> tuple[bool, list[Malformed]]:
    return True, Shape({}).read(table, where)[1]


def _http_uri(value: object) -> str:
    try:
        uri = parse_uri(value)
    except Fault as fault:
        raise Wrong(value, "a URI such as http://n1.example.com") from fault
    return uri.text()


_PEER = Shape({"uri": Field(_http_uri), "token_file": Field(text, "")})


def _read_peers(table: Mapping[str, object], where: str) -> tuple[tuple[Peer, ...], list[Malformed]]:
    peers: list[Peer] = []
    faults: list[Malformed] = []
    for name, peer in table.items():
        if not isinstance(peer, Mapping):
            faults.append(Malformed(f"{where}{name}", peer, "a table"))
            continue
        values, found = _PEER.read(peer, f"[peers.{name}] ")
        faults += found
        if not found:
            peers.append(Peer(name, str(values["uri"]), str(values["token_file"])))
    return tuple(peers), faults
