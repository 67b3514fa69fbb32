"""The other group servers that this node knows: its peers, and the group servers among the devices registered here. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.elsewhere import Outsider, node_of
from m2mapp.groups.group import AddressType
from m2mapp.groups.plan import GroupServer
from m2mapp.tree.unit import Resource


class GroupServers:
    """Who can be asked for members, and for groups of them. `peers`: the URIs of other nodes, by name."""

    def __init__(self, peers: Mapping[str, str], around: Surroundings) -> None:
        self._around = around
        self._peers: dict[str, GroupServer] = {}
        for name, uri in peers.items():
            if not around.is_own(parse_uri(uri)):
                server = node_of(uri)
                self._peers |= {name.lower(): server, parse_uri(uri).host: server}

    def by_host(self) -> Mapping[str, GroupServer]:
        """All of them as they are now, by the hosts that name them."""
        found = dict(self._peers)
        for device in self._around.registrations.group_servers():
            host = next(iter(device.hosts or device.addresses), device.name)
            uri = Uri(device.scheme, host, device.port, ())
            if not self._around.is_own(uri):
                found.setdefault(host, node_of(uri.text(), given=device))
        return found

    def is_own_host(self, host: str) -> bool:
        """Whether the host is this node itself, by whatever scheme."""
        return any(self._around.is_own(Uri(scheme, host, port, ())) for scheme, port in (("coap", 5683), ("http", 80)))

    def remember(self, resource: Resource, now: float) -> None:
        """A fan-out set of before a restart: the members of a group at another server are that server's, until somebody was asked."""
        document = resource.attributes
        members = document["memberList"]
        if document["addressType"] != AddressType.GROUP.value or not document.get("group") or not isinstance(members, list):
            return
        server = node_of(str(document["group"]))
        for uri in members:
            self._around.elsewhere.remember(parse_uri(uri).host, Outsider(server, None), now)
