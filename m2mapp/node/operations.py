"""What operations have to know of the node's own URIs."""

from __future__ import annotations

from m2mapp.clients.names import OwnUris
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path
from m2mapp.triggers.circles import Own


def own_paths(own: OwnUris) -> Own:
    """What gives the path of a URI that is this node's, None of any other."""

    def path_of(uri: str) -> Path | None:
        try:
            found = parse_uri(uri)
        except Fault:
            return None
        return found.path if own(found) else None

    return path_of
