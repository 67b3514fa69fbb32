"""Builds what a node has of groups, with the pool of local addresses that it derives where none is configured."""

from __future__ import annotations

from ipaddress import IPv6Interface

from m2mapp.clients.names import OwnUris
from m2mapp.clients.requester import Requester
from m2mapp.coap.service import CoapService
from m2mapp.groups.edit import Surroundings
from m2mapp.groups.elsewhere import Elsewhere
from m2mapp.groups.pool import derived_pool
from m2mapp.groups.service import GroupNode, GroupService
from m2mapp.groups.settings import GroupSettings
from m2mapp.node.parts import Parts


def make_groups(parts: Parts, settings: GroupSettings, own: OwnUris, requester: Requester, coap: CoapService) -> GroupService:
    """The groups of a node. Nothing is started."""
    name = parts.settings.node.name
    node = GroupNode(
        name=name,
        around=Surroundings(parts.tree, parts.registrations, own, settings, Elsewhere(parts.registrations), name, parts.uri),
        pool=lambda: settings.local_pool or derived_pool(name, _prefix(parts)),
        rules=parts.rules,
        committer=parts.committer,
        journals=parts.committer,
        clock=parts.world.clock,
        requester=requester,
        group_sender=coap,
        random=parts.random,
        peers={peer.name: peer.uri for peer in parts.settings.peers},
    )
    return GroupService(parts.world.reactor, node, parts.metrics)


def _prefix(parts: Parts) -> IPv6Interface | None:
    """This node's own global (or unique local) prefix on the first interface that has one."""
    for name in parts.settings.coap.interfaces if parts.settings.coap is not None else ():
        try:
            found = parts.datagrams.interface_addresses(name)
        except OSError:
            continue
        for address in found:
            if isinstance(address, IPv6Interface) and not address.ip.is_link_local and not address.ip.is_loopback:
                return address
    return None
