"""The device role of a node: its DHCPv6 client, its port at the address that it was given, its LwM2M client. Builds them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from twisted.application.service import Service

from m2mapp.clients.names import OwnUris
from m2mapp.coap.given import ListeningWhereGiven
from m2mapp.coap.service import CoapService
from m2mapp.dhcpv6.around import Dhcpv6Node
from m2mapp.dhcpv6.bootstrap_options import BootstrapCodes
from m2mapp.dhcpv6.device import DeviceLink
from m2mapp.dhcpv6.drivers.linking import LinkNode
from m2mapp.dhcpv6.duid import new_duid
from m2mapp.dhcpv6.service import dhcpv6_device
from m2mapp.lwm2m.device_settings import DeviceSettings
from m2mapp.lwm2m.drivers.bootstrapping import Bootstrapping, ClientNode
from m2mapp.model.interfaces import IRequester
from m2mapp.node.parts import Parts


def make_device(
    parts: Parts, device: DeviceSettings, coap: CoapService, own: OwnUris, requester: IRequester, links: Callable[[], str]
) -> tuple[Bootstrapping, tuple[Service, ...]]:
    """The LwM2M client, and all services of the role in the order in which they start: each of them follows what the one before writes.

    `links` gives the node's resources in link format.
    """
    settings, world, tree = parts.settings, parts.world, parts.tree
    around = Dhcpv6Node(tree, parts.committer, world.clock, parts.datagrams, world.host)
    reactor = world.reactor
    listening = ListeningWhereGiven(reactor, tree, coap, own.listens_where_given)
    duid = world.kept(settings, "duid", lambda: new_duid(UUID(int=parts.random.getrandbits(128), version=4)))
    codes = settings.dhcpv6.codes if settings.dhcpv6 is not None else BootstrapCodes()
    link = DeviceLink(device.interface, device.link_local, device.release)
    asking = dhcpv6_device(reactor, around, (duid, link, codes), LinkNode(parts.datagrams, world.host, parts.random), parts.metrics)
    query = (("host", settings.node.name), *((("multicast", "1"),) if settings.member else ()))
    node = ClientNode(tree, parts.committer, world.clock, requester, coap.back, links, query, parts.random)
    client = Bootstrapping(reactor, node, device, parts.metrics)
    given: tuple[Service, ...] = () if settings.coap is not None and settings.coap.listen else (listening,)
    return client, (*given, asking, client)
