"""What a registration is: the resource type `scl`, which stands at `/scls/<name>` (spec section 12).

Responsible for the shape of its document and for what is shown of it. Not responsible for where registrations come from (`rd`, and
writes to `/scls`), nor for when they end (`service`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from m2mapp.formats.documents import rfc3339
from m2mapp.formats.link_format import MAX_LINKS
from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, host, integer, list_of
from m2mapp.formats.uris import DEFAULT_PORTS, MAX_PORT, parse_uri
from m2mapp.model.errors import Malformed, TooLarge
from m2mapp.tree.paths import parse_path
from m2mapp.tree.registrations import SCL, SCLS
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Resource

DEFAULT_LIFETIME_S = 90_000
"""25 hours: what a registration lasts that names no lifetime (RFC 9176, section 5, `lt`). The same for `/rd` and for `/scls`."""
MAX_LIFETIME_S = 2**32 - 1
DEFAULT_MC_GROUPS = "/mcGroups"
MAX_HOSTS = MAX_ADDRESSES = 16
MAX_FIXED_GROUPS = 64
MAX_ATTRIBUTES = 32
MAX_TEXT = 255
LAST_SEEN = "lastSeen"
"""The volatile attribute that says, in wall-clock milliseconds, when the device was last heard of."""
SOURCE = "source"
"""Kept beside the document, never taken from it and never shown: the address that registered, where the request came by CoAP."""

_READ_ONLY = ("name", "registeredAt", LAST_SEEN, "expires", "groups", SOURCE)
_ZONE = re.compile(r"[!-~]{1,15}")
_ATTRIBUTE_NAME = re.compile(r"[!#$&+\-.^_`|~0-9A-Za-z*]{1,64}")


def address(value: object) -> str:
    """A unicast IP address in its canonical form; a link-local one may have a zone (`fe80::1%eth1`). Raises `Wrong`."""
    expected = "a unicast IP address such as fd00::d1, 192.0.2.1 or fe80::1%eth1"
    try:
        parsed = ip_address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, expected) from error
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        if mapped is not None:
            parsed = mapped
        elif parsed.scope_id is not None and not (parsed.is_link_local and _ZONE.fullmatch(parsed.scope_id)):
            raise Wrong(value, expected)
    if parsed.is_multicast or parsed.is_unspecified:
        raise Wrong(value, expected)
    return str(parsed)


def _group_address(value: object) -> str:
    try:
        parsed = ip_address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, "a multicast address such as ff35::1234 or 239.0.0.1") from error
    if not parsed.is_multicast or (isinstance(parsed, IPv6Address) and parsed.scope_id is not None):
        raise Wrong(value, "a multicast address such as ff35::1234 or 239.0.0.1, without zone")
    return str(parsed)


def _mc_groups(value: object) -> str:
    """A path, or a URI; whose that is `check` looks at."""
    try:
        if isinstance(value, str) and "://" in value and not value.startswith("/"):
            return parse_uri(value).text()
        parse_path(value if isinstance(value, str) else "")
    except (Malformed, TooLarge) as error:
        raise Wrong(value, f"a path such as {DEFAULT_MC_GROUPS}, or a URI of the device ({error})") from error
    return str(value)


def _short_text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise Wrong(value, f"text of at most {MAX_TEXT} characters")
    return value


def _text_or_texts(value: object) -> object:
    return list_of(_short_text, least=1, most=MAX_ATTRIBUTES)(value) if isinstance(value, list | tuple) else _short_text(value)


def attributes(value: object) -> dict[str, object]:
    """Attributes of an endpoint or a link: names to text, or to a list where one stands several times. Raises `Wrong`."""
    if not isinstance(value, Mapping) or len(value) > MAX_ATTRIBUTES:
        raise Wrong(value, f'an object of at most {MAX_ATTRIBUTES} attributes such as {{"et": "lamp"}}')
    checked: dict[str, object] = {}
    for name, item in value.items():
        if not isinstance(name, str) or not _ATTRIBUTE_NAME.fullmatch(name):
            raise Wrong(name, "the name of an attribute: 1 to 64 letters, digits and signs (RFC 8288, parmname)")
        try:
            checked[name] = _text_or_texts(item)
        except Wrong as wrong:
            raise Wrong(wrong.value, wrong.expected, f".{name}{wrong.within}") from wrong
    return checked


def _link(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping) or not isinstance(value.get("href"), str):
        raise Wrong(value, 'a link such as {"href": "/temp", "rt": "temperature"}')
    target = str(value["href"])
    if not re.fullmatch(r"[^<>\"\s]{0,1024}", target):
        raise Wrong(target, "a URI reference of at most 1024 characters", ".href")
    return {"href": target, **attributes({name: item for name, item in value.items() if name != "href"})}


_SHAPE = Shape(
    {
        "hosts": Field(list_of(host, most=MAX_HOSTS), ()),
        "addresses": Field(list_of(address, most=MAX_ADDRESSES), ()),
        "port": Field(integer(1, MAX_PORT), None),
        "scheme": Field(choice(*DEFAULT_PORTS), "coap"),
        "multicastEnabled": Field(boolean, False),
        "groupServer": Field(boolean, False),
        "mcGroups": Field(_mc_groups, DEFAULT_MC_GROUPS),
        "fixedGroups": Field(list_of(_group_address, most=MAX_FIXED_GROUPS), ()),
        "lifetime": Field(integer(1, MAX_LIFETIME_S), DEFAULT_LIFETIME_S),
        "links": Field(list_of(_link, most=MAX_LINKS), ()),
        "attributes": Field(attributes, None),
    }
)


def check(name: str, given: Document) -> Document:
    """The document of a registration as it is kept: defaults filled in, hosts in lower case, addresses canonical. Raises `Malformed`.

    `port` is the scheme's where none is given; `lifetime` is in seconds. What only a GET shows may be there, and does not count: what
    was read can be written back. `name` is not looked at: it is that of the path.
    """
    kept = _SHAPE.check({key: value for key, value in given.items() if key not in _READ_ONLY})
    if kept["port"] is None:
        kept["port"] = DEFAULT_PORTS[str(kept["scheme"])]
    for key in ("hosts", "addresses", "fixedGroups"):
        items = kept[key]
        kept[key] = list(dict.fromkeys(items)) if isinstance(items, list) else []
    _check_own(str(kept["mcGroups"]), {name, *_texts(kept["hosts"]), *_texts(kept["addresses"])})
    kept["links"] = kept["links"] or []
    kept["attributes"] = kept["attributes"] or {}
    return kept


def _check_own(mc_groups: str, own: set[str]) -> None:
    """A device takes its advertisements itself: nobody is told of groups because another says so. Raises `Malformed`."""
    if not mc_groups.startswith("/") and parse_uri(mc_groups).host not in own:
        raise Malformed("mcGroups", mc_groups, "a path, or a URI whose host is one of the device's own hosts and addresses")


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def describe(resource: Resource, tree: Tree) -> Document:
    """The registration as it stands in the tree: what is kept, its `name`, and `lastSeen` (RFC 3339, null before anything was heard).

    What depends on the node and its clocks (`registeredAt`, `expires`, `groups`) is added by `service`.
    """
    seen = tree.volatile(resource.path).get(LAST_SEEN)
    kept = {key: value for key, value in resource.attributes.items() if key != SOURCE}
    return {"name": resource.path[-1], **kept, LAST_SEEN: rfc3339(seen) if isinstance(seen, int) else None}


SCL_TYPE = ResourceType(SCL, (*SCLS, "*"), check=check, describe=describe)
"""The type that the node's `Types` are given."""


def name_of(endpoint: str, sector: str | None) -> str:
    """The name of a registration: the endpoint's name, with its sector `ep@d` (RFC 9176, section 5).

    `/` cannot stand in a path segment and `@` divides, so these two, and `%`, are percent-encoded.
    """
    return _encoded(endpoint) if sector is None else f"{_encoded(endpoint)}@{_encoded(sector)}"


def _encoded(text: str) -> str:
    return text.replace("%", "%25").replace("/", "%2F").replace("@", "%40")
