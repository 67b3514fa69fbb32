"""The query of a dynamic group: which registered links are its members (spec section 3; the filter of RFC 9176, section 6.2).

Pure. Each pair `name=value` has to hold of the link, or of the registration that it stands in: `rt=temperature&d=floor1`. Of a link count
its attributes and `href`; of a registration `ep`, `d`, `host` and what the endpoint said besides (`et`...). A value that ends in `*` is a
beginning; of `rt`, `if`, `rel` and `ct` each word counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from m2mapp.formats.link_format import holds
from m2mapp.formats.uris import Uri, parse_query, parse_uri
from m2mapp.groups.group import DYNAMIC, MAX_MEMBERS, members_of
from m2mapp.model.errors import Fault
from m2mapp.tree.registrations import SCL, SCLS, Device, device_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Document, Resource

Query = tuple[tuple[str, str], ...]


def members_at(query: Query, resource: Resource) -> tuple[str, ...]:
    """The URIs of the links in one registration that pass the query."""
    links = resource.attributes.get("links")
    left = list(links) if isinstance(links, list | tuple) else []
    for name, wanted in query:
        if left and not holds(name, _said_by_endpoint(resource, name), wanted):
            left = [link for link in left if holds(name, _texts(link.get(name)), wanted)]
    return tuple(dict.fromkeys(_uris(device_of(resource), (str(link["href"]) for link in left)))) if left else ()


def members_now(tree: Tree, query: str) -> list[str]:
    """The members that a query gives now: it looks at every registration."""
    pairs = parse_query(query)
    return sorted({uri for resource in tree.children(SCLS) if resource.type == SCL for uri in members_at(pairs, resource)})


def with_members(kept: Document, members: Iterable[str]) -> dict[str, object]:
    """A dynamic group's document with these members (sorted): at most so many as a group can have; `leftOut` counts the others."""
    found = list(members)
    left_out = {"leftOut": len(found) - MAX_MEMBERS} if len(found) > MAX_MEMBERS else {}
    return {**{key: value for key, value in kept.items() if key != "leftOut"}, "members": found[:MAX_MEMBERS], **left_out}


@dataclass(slots=True)
class _Followed:
    """One dynamic group: its query, and what each device adds to its members."""

    text: str
    query: Query
    by_device: dict[str, tuple[str, ...]]

    def members(self) -> list[str]:
        return sorted({uri for uris in self.by_device.values() for uri in uris})


class Followers:
    """The dynamic groups and their members as the registrations are now. A registration that changes costs a look at each such group."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._followed: dict[str, _Followed] = {}

    def __len__(self) -> int:
        """How many dynamic groups there are."""
        return len(self._followed)

    def clear(self) -> None:
        """Forget all: whoever follows the tree begins anew."""
        self._followed.clear()

    def group_changed(self, name: str, after: Resource | None) -> bool:
        """A group is this now (None: it is gone). Whether its members are others than it says."""
        query = after.attributes.get("query") if after is not None and after.attributes.get("type") == DYNAMIC else None
        if after is None or not isinstance(query, str):
            self._followed.pop(name, None)
            return False
        followed = self._followed.get(name)
        if followed is None or followed.text != query:
            followed = self._followed[name] = _Followed(query, parse_query(query), {})
            for resource in self._tree.children(SCLS):
                _enter(followed, resource.path[-1], resource)
        return followed.members()[:MAX_MEMBERS] != list(members_of(after))

    def registration_changed(self, name: str, after: Resource | None) -> list[str]:
        """A registration is this now (None: it is over). The groups whose members are others by it."""
        return [group for group, followed in self._followed.items() if _enter(followed, name, after)]

    def members(self, name: str) -> list[str] | None:
        """The members of a dynamic group now; None where it is none."""
        followed = self._followed.get(name)
        return followed.members() if followed is not None else None


def _enter(followed: _Followed, name: str, resource: Resource | None) -> bool:
    """Note what a device adds; whether that is another than before."""
    uris = members_at(followed.query, resource) if resource is not None and resource.type == SCL else ()
    before = followed.by_device.pop(name, ())
    if uris:
        followed.by_device[name] = uris
    return uris != before


def _said_by_endpoint(resource: Resource, name: str) -> Sequence[str]:
    if name == "ep":
        # A registration's name is `ep@d`, percent-encoded.
        return (unquote(resource.path[-1].partition("@")[0]),)
    if name == "host":
        return _texts(resource.attributes.get("hosts"))
    attributes = resource.attributes.get("attributes")
    return _texts(attributes.get(name)) if isinstance(attributes, Mapping) else ()


def _texts(value: object) -> Sequence[str]:
    if value is None:
        return ()
    return [str(item) for item in value] if isinstance(value, list | tuple) else (str(value),)


def _uris(device: Device, targets: Iterable[str]) -> Iterator[str]:
    """The links' targets as URIs, by the device's name where it has one. A target that can be no member is left out."""
    host = next(iter((*device.hosts, *device.addresses)), device.name)
    base = Uri(device.scheme, host, device.port, ()).text().rstrip("/")
    for target in targets:
        separator = "" if target.startswith("/") else "/"
        try:
            yield parse_uri(target if "://" in target else f"{base}{separator}{target}").text()
        except Fault:
            continue
