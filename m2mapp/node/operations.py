"""Builds what a node has of operations, with what they have to know of it: its own URIs, and whose rights are what now."""

from __future__ import annotations

from m2mapp.clients.names import OwnUris
from m2mapp.clients.requester import Requester
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.node.parts import Parts
from m2mapp.node.rights import current_rights
from m2mapp.triggers.circles import Own
from m2mapp.triggers.service import TriggerNode, TriggerService
from m2mapp.triggers.settings import TriggerSettings


def make_operations(parts: Parts, settings: TriggerSettings, own: OwnUris, requester: Requester) -> TriggerService:
    """The operations of a node. Nothing is started."""
    node = TriggerNode(
        tree=parts.tree,
        rules=parts.rules,
        committer=parts.committer,
        journals=parts.committer,
        clock=parts.world.clock,
        requester=requester,
        registrations=parts.registrations,
        touch=parts.committer.touch,
        node_uri=parts.uri,
        own=own_paths(own),
        current=current_rights(parts.settings, parts.tree),
    )
    return TriggerService(parts.world.reactor, node, settings, parts.metrics)


def own_paths(own: OwnUris) -> Own:
    """What gives the path of a URI that is this node's, None of any other."""

    def path_of(uri: str) -> Path | None:
        try:
            found = parse_uri(uri)
        except Fault:
            return None
        return found.path if own(found) else None

    return path_of
