"""Which devices are registered, found by name, host or address: an index derived from `/scls`.

The registrations themselves are resources of the type `scl`; `registry` makes and ends them. Here they are only read, by whoever has
to find a device: the groups' planner, the senders of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from m2mapp.model.identifiers import Path
from m2mapp.tree.name_index import NameIndex
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Document, Resource

SCLS: Path = ("scls",)
SCL = "scl"
MC_GROUPS_KIND, COAP_GROUP_KIND = "m2m.mcgroups", "core.gp"
"""The resource types of the links by which a device says where it takes group advertisements (the second: RFC 7390, section 2.6)."""

_REPORT: Final = "/33050"
"""The LwM2M object by which a gateway tells which devices it gave addresses (spec section 9)."""


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device, as its registration says. `port` and `scheme` are how its resources are reached.

    `mc_groups` is where it takes group advertisements: a path, or a URI of its own. `coap_group` is the path of its interface of
    RFC 7390 (`rt="core.gp"`), where it has that one only; else empty. `reporting`: as `is_reporting`.
    """

    name: str
    hosts: tuple[str, ...]
    addresses: tuple[str, ...]
    port: int
    scheme: str
    multicast_enabled: bool
    group_server: bool
    mc_groups: str
    fixed_groups: tuple[str, ...]
    coap_group: str = ""
    reporting: bool = False

    def is_found_by(self, text: str) -> bool:
        """Whether a text, in lower case, is part of its name, as it stands or as the endpoint said it, of a host or of an address."""
        return any(text in said.lower() for said in (self.name, unquote(self.name), *self.hosts, *self.addresses))


def is_reporting(document: Document) -> bool:
    """Whether a registration is that of an LwM2M client by which a gateway reports (object 33050).

    Its name is the gateway's, and its port is not where the gateway's resources are: nobody is led there by the name.
    """
    said, links = document.get("attributes"), document.get("links")
    if not isinstance(said, Mapping) or "lwm2m" not in said or not isinstance(links, list | tuple):
        return False
    return any(str(link["href"]) == _REPORT or str(link["href"]).startswith(f"{_REPORT}/") for link in links)


def device_of(resource: Resource) -> Device:
    """The device that a resource of the type `scl` describes."""
    document = resource.attributes
    return Device(
        name=resource.path[-1],
        hosts=_texts(document, "hosts"),
        addresses=_texts(document, "addresses"),
        port=_whole(document, "port"),
        scheme=str(document["scheme"]),
        multicast_enabled=document["multicastEnabled"] is True,
        group_server=document["groupServer"] is True,
        mc_groups=str(document["mcGroups"]),
        fixed_groups=_texts(document, "fixedGroups"),
        coap_group=_coap_group(document),
        reporting=is_reporting(document),
    )


class Registrations:
    """The devices registered at this node; follows the tree. Besides, those registered at other nodes that somebody has found there."""

    def __init__(self, tree: Tree) -> None:
        self._devices: dict[str, Device] = {}
        self._by_host, self._by_address = NameIndex(), NameIndex()
        self._group_servers: set[str] = set()
        self._elsewhere: dict[str, Device] = {}
        self._elsewhere_named: dict[str, Device] = {}
        for resource in tree.children(SCLS):
            if resource.type == SCL:
                self._enter(device_of(resource))
        tree.watch(SCLS, self._on_change, subtree=True)

    def of(self, resource: Resource) -> Device:
        """The device that a registration of the tree describes: each is made out once, for those who look at thousands."""
        return self._devices.get(resource.path[-1]) or device_of(resource)

    def named(self, name: str) -> Device | None:
        """The device of that endpoint name, or of the name that one registered elsewhere has here."""
        return self._devices.get(name) or self._elsewhere_named.get(name)

    def at_host(self, host: str, port: int | None = None) -> Device | None:
        """The device that a URI's host names: one registered here, else one that was found at another node."""
        return self.here(host, port) or self._elsewhere.get(host)

    def here(self, host: str, port: int | None = None) -> Device | None:
        """The device registered here that a URI's host names: one of its hosts, else its endpoint name, else one of its addresses.

        Of several that say the same of themselves the one at the port, else the one that said it last.
        """
        named = self._devices.get(host)
        by_name = named if named is not None and not named.reporting else None
        return self._one_of(self._by_host.last_first(host.lower()), port) or by_name or self.at_address(host, port)

    def group_servers(self) -> list[Device]:
        """The devices registered here that are group servers themselves, by name."""
        return [self._devices[name] for name in sorted(self._group_servers)]

    def found_elsewhere(self, host: str, device: Device | None) -> None:
        """The device of that host is registered at another node; None: it is not any more. Its name bears that node's."""
        before = self._elsewhere.pop(host, None)
        if before is not None and self._elsewhere_named.get(before.name) is before:
            del self._elsewhere_named[before.name]
        if device is not None:
            self._elsewhere[host] = self._elsewhere_named[device.name] = device

    def at_address(self, address: str, port: int | None = None) -> Device | None:
        """The device that registered this address; of several the one at the port, else the last."""
        return self._one_of(self._by_address.last_first(address), port)

    def _one_of(self, names: Iterable[str], port: int | None) -> Device | None:
        last = None
        for name in names:
            device = self.named(name)
            if device is not None and (port is None or device.port == port):
                return device
            last = last or device
        return last

    def _on_change(self, change: Change) -> None:
        if change.before is not None and change.before.type == SCL:
            self._leave(device_of(change.before))
        if change.after is not None and change.after.type == SCL:
            self._enter(device_of(change.after))

    def _enter(self, device: Device) -> None:
        self._devices[device.name] = device
        if device.group_server:
            self._group_servers.add(device.name)
        for host in device.hosts:
            self._by_host.add(host.lower(), device.name)
        for address in device.addresses:
            self._by_address.add(address, device.name)

    def _leave(self, device: Device) -> None:
        self._devices.pop(device.name, None)
        self._group_servers.discard(device.name)
        for host in device.hosts:
            self._by_host.remove(host.lower(), device.name)
        for address in device.addresses:
            self._by_address.remove(address, device.name)


def _coap_group(document: Document) -> str:
    """The path of the link with `rt="core.gp"`; empty where there is none, or one says that the device takes `mcGroup`s."""
    links = document.get("links")
    found = ""
    for link in links if isinstance(links, list | tuple) else ():
        kinds = str(link.get("rt", "")).split()
        if MC_GROUPS_KIND in kinds:
            return ""
        if COAP_GROUP_KIND in kinds and str(link["href"]).startswith("/"):
            found = str(link["href"])
    return found


def _texts(document: Document, name: str) -> tuple[str, ...]:
    value = document.get(name)
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()


def _whole(document: Document, name: str) -> int:
    value = document[name]
    return value if isinstance(value, int) else 0
