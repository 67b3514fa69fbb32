"""The resource `/mcGroups/<name>`: what a group server tells a device, and how a group request is mapped to the device's own paths.

Pure (US 9,450,772, figure 3-A; spec sections 5 and 12).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from m2mapp.formats.shapes import Field, Shape, Wrong, list_of, number
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path, path_text
from m2mapp.tree.paths import parse_path
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Resource

MC_GROUPS: Path = ("mcGroups",)
MC_GROUP = "mcGroup"


@dataclass(frozen=True, slots=True)
class McGroup:
    """One group that this device is in. `fanout_path` None: each member is asked for by its own path."""

    name: str
    address: str
    fanout_path: Path | None
    members: tuple[str, ...]
    leisure_s: float


@dataclass(frozen=True, slots=True)
class Local:
    """What one member of this device is asked: a path here, or a URI elsewhere; `member` is its entry in the `memberList`."""

    member: str
    path: Path
    elsewhere: str | None = None


def mc_group_of(resource: Resource) -> McGroup:
    """The `mcGroup` that a resource of that type keeps."""
    document = resource.attributes
    fanout, members, leisure = document.get("fanoutURI"), document["memberList"], document["leisure"]
    return McGroup(
        name=resource.path[-1],
        address=str(document["mcAddress"]),
        fanout_path=parse_path(fanout) if isinstance(fanout, str) else None,
        # Each once: a member that is named twice is not asked twice.
        members=tuple(dict.fromkeys(str(member) for member in members)) if isinstance(members, list) else (),
        leisure_s=leisure if isinstance(leisure, float) else 0.0,
    )


def mapped(groups: Iterable[McGroup], path: Path) -> tuple[McGroup, list[Local]] | None:
    """The group that a request to a multicast address is for, and what each of its members here is asked; None: be silent.

    `groups` are those with that address. The longest fan-out URI that is the beginning of the path counts, segment by segment; the rest
    of the path is the suffix. A group without fan-out URI takes the paths in its `memberList`.
    """
    best: tuple[int, McGroup, list[Local]] | None = None
    for group in groups:
        found = _matching(group, path)
        if found is not None and (best is None or found[0] > best[0]):
            best = (found[0], group, found[1])
    return None if best is None else (best[1], best[2])


def _matching(group: McGroup, path: Path) -> tuple[int, list[Local]] | None:
    if group.fanout_path is not None:
        depth = len(group.fanout_path)
        if path[:depth] != group.fanout_path:
            return None
        return depth, [_local(member, path[depth:]) for member in group.members]
    best: tuple[int, list[Local]] | None = None
    for member in group.members:
        own = parse_path(member) if member.startswith("/") else parse_uri(member).path
        if path[: len(own)] == own and (best is None or len(own) > best[0]):
            best = len(own), [_local(member, path[len(own) :])]
    return best


def _local(member: str, suffix: Path) -> Local:
    if member.startswith("/"):
        return Local(member, (*parse_path(member), *suffix))
    uri = parse_uri(member)
    whole = type(uri)(uri.scheme, uri.host, uri.port, (*uri.path, *suffix), uri.query)
    return Local(member, whole.path, whole.text())


def _address(value: object) -> str:
    text = value if isinstance(value, str) else ""
    try:
        address = ip_address(text[1:-1] if text[:1] + text[-1:] == "[]" else text)
    except ValueError as error:
        raise Wrong(value, "a multicast address such as ff35:30:3ffe:ffff:1::1234") from error
    if not address.is_multicast:
        raise Wrong(value, "a multicast address: within ff00::/8 or 224.0.0.0/4")
    return str(address)


def _path(value: object) -> str:
    text = value if isinstance(value, str) else ""
    try:
        return path_text(parse_path(text[:-1] if text.endswith("/") and len(text) > 1 else text))
    except Fault as fault:
        raise Wrong(value, f"a path such as /xx/aa ({fault.detail})") from fault


def _member(value: object) -> str:
    if isinstance(value, str) and value.startswith("/"):
        return _path(value)
    try:
        return parse_uri(value).text()
    except Fault as fault:
        raise Wrong(value, "a path such as /cc, or a URI elsewhere") from fault


_SHAPE = Shape(
    {
        "mcAddress": Field(_address),
        "fanoutURI": Field(_path, None),
        "memberList": Field(list_of(_member, least=1, most=256)),
        "leisure": Field(number(0.0, 3600.0), 5.0),
    }
)


def _check(_name: str, given: Document) -> Document:
    return {key: value for key, value in _SHAPE.check(given).items() if value is not None}


MC_GROUP_TYPE = ResourceType(MC_GROUP, (*MC_GROUPS, "*"), _check)
"""`leisure` is DEFAULT_LEISURE (RFC 7252, section 4.8) where the group server says nothing. An address in brackets, and a path with a slash
at its end, are taken as table 3 of the document has them."""
