"""What is known of members' devices that are registered at other nodes (spec section 3, point 2; US 9,450,772, steps 203-1 and 203-3).

Pure: it is told what other nodes answered, and says what to ask again when. Who asks is `drivers.asking`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from sortedcontainers import SortedList

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, host, integer, list_of, text
from m2mapp.formats.uris import DEFAULT_PORTS, MAX_PORT, Uri, address_key, parse_uri
from m2mapp.groups.group import is_multicast_address
from m2mapp.groups.plan import GroupServer
from m2mapp.model.errors import Malformed
from m2mapp.tree.registrations import Device, Registrations

FOUND_S, NOBODY_S, UNREACHABLE_S = 600.0, 120.0, 20.0
"""What was learned of a host is asked again after so long: where it was found, where nobody has it, where somebody could not be asked."""
MOST_HOSTS = 100_000
"""So many hosts are remembered, as many as there may be registrations here; of further ones nothing is learned."""


@dataclass(frozen=True, slots=True)
class Outsider:
    """A device that belongs to another node: the group server through which it is reached, and the device as that says it is.

    `device` is None where the host is that server itself and nobody says more of it.
    """

    server: GroupServer
    device: Device | None


@dataclass(frozen=True, slots=True)
class _Known:
    outsider: Outsider | None
    why: str
    ask_again_s: float


class Elsewhere:
    """Hosts that are not registered here, and what is known of them. Times are monotonic seconds."""

    def __init__(self, registrations: Registrations, most: int = MOST_HOSTS) -> None:
        self._registrations, self._most = registrations, most
        self._known: dict[str, _Known] = {}
        self._by_time = SortedList()

    def of(self, host_name: str) -> Outsider | None:
        """The outsider at that host."""
        known = self._known.get(host_name)
        return known.outsider if known is not None else None

    def is_known(self, host_name: str) -> bool:
        """Whether it was asked for, be it that nobody knows it."""
        return host_name in self._known

    def why_unknown(self, host_name: str) -> str:
        """Why there is no outsider at that host, for whoever reads a plan."""
        known = self._known.get(host_name)
        return known.why if known is not None else "its device is not registered here"

    def learned(self, host_name: str, found: Outsider | None, unreachable: Iterable[str], now: float) -> bool:
        """The other nodes were asked for the host; `unreachable` are the URIs of those that gave no answer. Whether that is news.

        What a node said before holds while that node cannot be asked.
        """
        missing = tuple(unreachable)
        before = self._known.get(host_name)
        if before is None and len(self._known) >= self._most:
            return False
        if found is None and before is not None and before.outsider is not None and before.outsider.server.uri in missing:
            found = before.outsider
        why = ""
        if found is None:
            why = (
                f"its device is not registered here, and {', '.join(missing[:3])} could not be asked"
                if missing
                else "its device is not registered at any known node"
            )
        again_s = UNREACHABLE_S if missing else FOUND_S if found is not None else NOBODY_S
        self._keep(host_name, _Known(found, why, now + again_s))
        return before is None or (before.outsider, before.why) != (found, why)

    def remember(self, host_name: str, found: Outsider, now: float) -> None:
        """What the group's sets of before say of the host: it holds until somebody was asked, which is due now."""
        if host_name not in self._known and len(self._known) < self._most:
            self._keep(host_name, _Known(found, "", now))

    def due(self, now: float, limit: int) -> list[str]:
        """The hosts that are to be asked for again, at most so many; each is due once."""
        names: list[str] = []
        while self._by_time and len(names) < limit and self._by_time[0][0] <= now:
            names.append(self._by_time.pop(0)[1])
        return names

    def next_due_s(self) -> float | None:
        """When the next host is due; None where there is none."""
        return float(self._by_time[0][0]) if self._by_time else None

    def forget(self, host_name: str) -> None:
        """Nobody asks for the host any more."""
        known = self._known.pop(host_name, None)
        if known is not None:
            self._by_time.discard((known.ask_again_s, host_name))
            self._registrations.found_elsewhere(host_name, None)

    def _keep(self, host_name: str, known: _Known) -> None:
        self.forget(host_name)
        self._known[host_name] = known
        self._by_time.add((known.ask_again_s, host_name))
        self._registrations.found_elsewhere(host_name, known.outsider.device if known.outsider is not None else None)


def _address(value: object) -> str:
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, "an IP address") from error
    if address.is_multicast:
        raise Wrong(value, "a unicast address")
    return str(address)


def _fixed(value: object) -> str:
    if not isinstance(value, str) or not is_multicast_address(value):
        raise Wrong(value, "a multicast address")
    return address_key(value)


_REGISTRATION = Shape(
    {
        "name": Field(text),
        "hosts": Field(list_of(host), ()),
        "addresses": Field(list_of(_address), ()),
        "port": Field(integer(1, MAX_PORT)),
        "scheme": Field(choice(*DEFAULT_PORTS)),
        "multicastEnabled": Field(boolean, False),
        "groupServer": Field(boolean, False),
        "mcGroups": Field(text, "/mcGroups"),
        "fixedGroups": Field(list_of(_fixed), ()),
    }
)


def found_in(document: Mapping[str, object], hosts: Iterable[str], server: GroupServer) -> dict[str, Outsider]:
    """Which of the hosts the answer to `GET /scls?host=` names, by host. Registrations that are not as they should be do not count."""
    found: dict[str, Outsider] = {}
    children = document.get("children")
    wanted = tuple(hosts)
    for child in children if isinstance(children, list) else ():
        device = _device(child, server) if isinstance(child, Mapping) else None
        if device is None:
            continue
        names = {*device.hosts, *device.addresses, str(child["name"])}
        for name in wanted:
            if name in names:
                found.setdefault(name, Outsider(_server_of(device, name, server), device))
    return found


def node_of(uri: str, *, given: Device | None = None) -> GroupServer:
    """The group server at a URI, whose path does not count."""
    parsed = parse_uri(uri)
    whole = Uri(parsed.scheme, parsed.host, parsed.port, ()).text().rstrip("/")
    return GroupServer(whole, parsed.host if parsed.address is not None else (given.addresses[0] if given and given.addresses else ""))


def _server_of(device: Device, name: str, asked: GroupServer) -> GroupServer:
    """A device that is a group server is reached through itself, any other through the node where it is registered."""
    if not device.group_server:
        return asked
    return GroupServer(Uri(device.scheme, name, device.port, ()).text().rstrip("/"), device.addresses[0] if device.addresses else "")


def _device(child: Mapping[str, object], server: GroupServer) -> Device | None:
    known = {key: child[key] for key in _REGISTRATION.names if key in child}
    try:
        values = _REGISTRATION.check(known)
    except Malformed:
        return None
    return Device(
        name=f"{values['name']}@{server.uri}",
        hosts=_texts(values["hosts"]),
        addresses=_texts(values["addresses"]),
        port=int(str(values["port"])),
        scheme=str(values["scheme"]),
        multicast_enabled=values["multicastEnabled"] is True,
        group_server=values["groupServer"] is True,
        mc_groups=str(values["mcGroups"]),
        fixed_groups=_texts(values["fixedGroups"]),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()
