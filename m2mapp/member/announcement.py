"""A group advertisement that comes to many devices at once and names those that are meant (US 9,450,772, step 204; spec section 3). Pure.

    POST /mcGroups   to an address that devices joined beforehand, or to All CoAP Nodes
    {"name": "g1-grp7-1", "mcAddress": "ff35::1", "fanoutURI": "/t", "leisure": 0.1, "members": ["coap://d1.example.org/t", ...]}
    {"name": "g1-grp7-1", "leisure": 0.1, "leave": ["coap://d1.example.org/t", ...]}

The members are named by their URIs: a device finds its own among them, makes of it the `mcGroup` of that name, and confirms by
answering. One that is not named is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from m2mapp.formats.documents import load_document
from m2mapp.formats.shapes import Field, Shape, Wrong, list_of, number
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.model.errors import Fault, Malformed
from m2mapp.model.identifiers import path_text
from m2mapp.tree.paths import check_segment
from m2mapp.tree.unit import Document

MAX_NAMED = 256
"""So many members are named by one advertisement at most: more do not fit a datagram."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What this node is told: the `mcGroup` of that name is to be this; None: it is to be left. It answers within the leisure time."""

    name: str
    document: Document | None
    leisure_s: float


def announced(payload: bytes, content_type: str | None, is_own: Callable[[Uri], bool]) -> Announcement | None:
    """What an advertisement says to this node; None: it is not named. Raises `Malformed`, `UnsupportedMediaType`.

    The document of a join is as it stands: what an `mcGroup` may be is checked when it is written.
    """
    given = load_document(payload, content_type)
    kept = _SHAPE.check({key: given[key] for key in ("name", "leisure", "members", "leave") if key in given})
    members, leave = kept["members"], kept["leave"]
    if (members is None) == (leave is None):
        raise Malformed("members", members, "given, or leave in its place: who is meant")
    named = members if isinstance(members, list) else leave
    mine = [uri for uri in (named if isinstance(named, list) else ()) if is_own(uri)]
    if not mine:
        return None
    leisure = kept["leisure"]
    leisure_s = leisure if isinstance(leisure, float) else 0.0
    if members is None:
        return Announcement(str(kept["name"]), None, leisure_s)
    rest = {key: value for key, value in given.items() if key not in ("name", "members")}
    return Announcement(str(kept["name"]), {**rest, "memberList": list(dict.fromkeys(path_text(uri.path) for uri in mine))}, leisure_s)


def _name(value: object) -> str:
    try:
        return check_segment(value if isinstance(value, str) else "", "name")
    except Fault as fault:
        raise Wrong(value, f"the name of an mcGroup ({fault.detail})") from fault


def _uri(value: object) -> Uri:
    try:
        return parse_uri(value)
    except Fault as fault:
        raise Wrong(value, "a URI such as coap://d1.example.org/t") from fault


_SHAPE = Shape(
    {
        "name": Field(_name),
        "leisure": Field(number(0.0, 3600.0), 0.0),
        "members": Field(list_of(_uri, least=1, most=MAX_NAMED), None),
        "leave": Field(list_of(_uri, least=1, most=MAX_NAMED), None),
    }
)
