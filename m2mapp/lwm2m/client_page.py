"""`/node/lwm2m`: what this node, as an LwM2M client, was told by the bootstrap service. Pure.

Responsible for the document, and for what of it is still good after a restart. No key is in it (docs/decisions): a server for which the
client was given a certificate and a key of its own is asked for anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from m2mapp.formats.documents import rfc3339
from m2mapp.formats.uris import parse_uri
from m2mapp.lwm2m.client import BootstrapServer
from m2mapp.lwm2m.held import ToldServer
from m2mapp.lwm2m.plans import Security
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Resource, Write

PAGE: Final[Path] = ("node", "lwm2m")
CLIENT: Final = "lwm2m-client"
_DER: Final = "der"


def page_write(endpoint: str, server: BootstrapServer, servers: tuple[ToldServer, ...], now_ms: int) -> Write:
    """What is kept of a bootstrap that went well."""
    told = [
        {
            "shortId": one.short_id,
            "uri": f"{one.uri.scheme}://{one.uri.authority}",
            "security": one.security.name.lower(),
            "lifetime": one.lifetime_s,
            "binding": one.binding,
            "certificate": fingerprint(one.certificate),
            "identified": one.shown is not None,
            _DER: one.certificate,
        }
        for one in servers
    ]
    document: dict[str, object] = {
        "endpoint": endpoint,
        "bootstrapURI": server.uri,
        "certificate": fingerprint(server.certificate),
        "bootstrappedAt": rfc3339(now_ms),
        "servers": told,
    }
    return Write(PAGE, CLIENT, document)


def kept_servers(resource: Resource | None, endpoint: str, server: BootstrapServer) -> tuple[ToldServer, ...]:
    """The servers that were told by this service before the start; empty where they were not, or must be asked for anew."""
    if resource is None:
        return ()
    kept = resource.attributes
    same = (endpoint, server.uri, fingerprint(server.certificate)) == tuple(
        kept.get(name) for name in ("endpoint", "bootstrapURI", "certificate")
    )
    listed = kept.get("servers")
    if not same or not isinstance(listed, list) or any(one["identified"] for one in listed):
        return ()
    return tuple(map(_server, listed))


def _server(kept: Mapping[str, object]) -> ToldServer:
    der = kept[_DER]
    return ToldServer(
        int(str(kept["shortId"])),
        parse_uri(kept["uri"]),
        Security[str(kept["security"]).upper()],
        int(str(kept["lifetime"])),
        str(kept["binding"]),
        der if isinstance(der, bytes) else None,
    )


def fingerprint(certificate: bytes | None) -> str | None:
    """How a certificate is shown."""
    return f"sha256:{hashlib.sha256(certificate).hexdigest()}" if certificate else None


def _refuse(_name: str, _given: Document) -> Document:
    raise MethodNotAllowed("PUT", path_text(PAGE), ("GET",))


def _describe(resource: Resource, _: Tree) -> Document:
    listed = resource.attributes.get("servers")
    servers = [{name: value for name, value in one.items() if name != _DER} for one in listed] if isinstance(listed, list) else []
    return {**resource.attributes, "servers": servers}


PAGE_TYPE: Final = ResourceType(CLIENT, PAGE, _refuse, _describe, methods=frozenset({Method.GET}))
