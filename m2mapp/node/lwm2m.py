"""Builds what a node has of LwM2M: the bootstrap server with what it knows of gateways, and a gateway's report.

The report's LwM2M client has a CoAP endpoint of its own: ports, rights and objects that are not the node's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath

from twisted.application.service import Service

from m2mapp import __version__
from m2mapp.clients.coap import coap_sender
from m2mapp.clients.names import Names, OwnUris
from m2mapp.clients.requester import Requester
from m2mapp.coap.access import OneServer
from m2mapp.coap.dtls.settings import NO_COAPS
from m2mapp.coap.service import CoapService, make_context
from m2mapp.config import Settings
from m2mapp.formats.certificates import certificate_der
from m2mapp.lwm2m import service
from m2mapp.lwm2m.drivers.gateways import ROUTES, GatewayService, ServerNode
from m2mapp.lwm2m.drivers.reporting import ReportNode, ReportService
from m2mapp.lwm2m.drivers.telling import Telling
from m2mapp.lwm2m.gateways import GATEWAY_TYPES
from m2mapp.lwm2m.report import REPORT_TYPE
from m2mapp.lwm2m.report_settings import ReportSettings
from m2mapp.lwm2m.service import BootstrapNode, BootstrapService, bootstrap_types
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IHandle
from m2mapp.node.parts import Parts
from m2mapp.tree.types import ResourceType


def lwm2m_types(settings: Settings) -> Iterator[ResourceType]:
    """The resource types that these parts of the node have."""
    if settings.bootstrap is not None:
        yield from (*bootstrap_types(settings.bootstrap), *GATEWAY_TYPES)
    if settings.report is not None:
        yield REPORT_TYPE


def bootstrap_server(parts: Parts, coap: CoapService) -> dict[Path, IHandle]:
    """Who answers for a bootstrap server, by path. Raises `LookupError` for a node that is none."""
    settings, world, tree, committer = parts.settings.bootstrap, parts.world, parts.tree, parts.committer
    if settings is None:
        raise LookupError("[bootstrap]")
    node = BootstrapNode(tree, parts.rules, committer, world.clock, coap.back)
    knows = ServerNode(tree, parts.rules, committer, world.clock, parts.registrations, coap.observe_client, committer.touch)
    server, gateways = BootstrapService(world.reactor, node, settings, parts.metrics), GatewayService(world.reactor, knows, parts.metrics)
    return {**dict.fromkeys(service.ROUTES, server), **dict.fromkeys(ROUTES, gateways)}


def gateway_report(parts: Parts, own: OwnUris, requester: Requester) -> tuple[ReportService, list[Service]]:
    """The report of a node that has `[report]`, and what else has to run for it. Raises `LookupError` for one that has not."""
    settings = parts.settings.report
    if settings is None:
        raise LookupError("[report]")
    report = ReportService(parts.world.reactor, _node(parts, requester), settings, parts.metrics)
    if not settings.lwm2m:
        return report, []
    client = _client(parts, report, settings)
    send = coap_sender(client.client, parts.datagrams.interface_index)
    report.client = Requester(parts.world.reactor, own, Names(parts.registrations, {}, parts.world.resolve), {"coap": send, "coaps": send})
    return report, [client]


def _node(parts: Parts, requester: Requester) -> ReportNode:
    dhcpv6 = parts.settings.dhcpv6
    downlink = dhcpv6.downlink if dhcpv6 is not None else None
    file = downlink.certificate if downlink is not None else ""
    return ReportNode(
        name=parts.settings.node.name,
        version=__version__,
        tree=parts.tree,
        rules=parts.rules,
        committer=parts.committer,
        clock=parts.world.clock,
        registrations=parts.registrations,
        requester=requester,
        random=parts.random,
        peers={parts.settings.node.name: parts.uri, **{peer.name: peer.uri for peer in parts.settings.peers}},
        bootstrap_uri=downlink.bootstrap_uri if downlink is not None else "",
        certificate=certificate_der(FilePath(file).read_bytes(), f"[dhcpv6.downlink] certificate {file}") if file else None,
    )


def _client(parts: Parts, report: ReportService, settings: ReportSettings) -> CoapService:
    """The client's endpoint. Over coaps it shows the node's certificate and believes whom the node believes."""
    context = make_context(parts.world.reactor, parts.metrics, parts.random)
    ports = (("::", settings.port), ("0.0.0.0", settings.port))  # noqa: S104 - only the server that it registers at has any right
    client = CoapService(ports, (), parts.datagrams, report.objects, OneServer(report.principal), context)
    coap = parts.settings.coap
    client.secure(replace(coap.coaps, listen=()) if coap is not None else NO_COAPS)
    client.observe(Telling(parts.world.reactor, report.objects))
    client.setName("report")
    return client
