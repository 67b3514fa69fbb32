"""URIs in operations and dependencies: a URI, or a path of the node where the document stands.

A document that was fetched from another node keeps its meaning: a path in it is of that node.
"""

from __future__ import annotations

from m2mapp.formats.shapes import Wrong
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault

_NODE = "http://node"
_EXPECTED = "a URI such as http://gscl2/airCondition, or a path of this node such as /airCondition"


def check_link(value: object) -> str:
    """The link as it was given, if it is one. Raises `Wrong`."""
    try:
        if isinstance(value, str):
            parse_uri(f"{_NODE}{value}" if value.startswith("/") else value)
            return value
    except Fault as fault:
        raise Wrong(value, _EXPECTED) from fault
    raise Wrong(value, _EXPECTED)


def absolute(link: str, base: str) -> str:
    """The URI that a link says in a document that stands at the URI `base`."""
    if not link.startswith("/"):
        return link
    uri = parse_uri(base)
    return f"{uri.scheme}://{uri.authority}{link}"
