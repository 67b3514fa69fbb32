"""What a request to `/rd` says: registrations as RFC 9176 has them (section 5), to the document of a resource `scl` and back.

Pure: from the query, the payload and the source of a request to the document that `service` commits. What a document may be is in `scl`.

Query parameters: `ep` (needed), `d`, `lt` (seconds), `base`; `host` (a name of the device; may stand several times) and `multicast`
(`1`: it takes multicast requests), which are additions of this program; any other is kept as an attribute of the endpoint (`et`, and
`lwm2m` and `b` of an LwM2M registration). The payload is in link format or empty. Some links say more: `rt="m2m.mcgroups"` where the
device takes group advertisements (a path, or a URI of its own), `rt="core.gp"` that it has the interface of RFC 7390 for them,
`rt="m2m.groups"` that it is itself a group server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from m2mapp.formats.documents import LINK_FORMAT, bare
from m2mapp.formats.link_format import Link, format_links, parse_links
from m2mapp.formats.shapes import Wrong, host
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.model.errors import Malformed, TooLarge, UnsupportedMediaType
from m2mapp.model.messages import Request
from m2mapp.registry.scl import DEFAULT_LIFETIME_S, DEFAULT_MC_GROUPS, MAX_LIFETIME_S, address, check, name_of
from m2mapp.tree.paths import check_segment
from m2mapp.tree.registrations import MC_GROUPS_KIND
from m2mapp.tree.unit import Document

MAX_NAME_BYTES = 63
"""The longest `ep` and `d` (RFC 9176, section 5)."""
MAX_LINKS_BYTES = 8192
"""The longest payload: what a registration may cost in memory follows from it."""
GROUPS_LINK = "m2m.groups"

_ONCE = ("ep", "d", "lt", "base", "multicast")
_TRUE, _FALSE = ("1", "true", ""), ("0", "false")


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration that was asked for: the name under `/scls` and the checked document."""

    name: str
    document: Document


@dataclass(frozen=True, slots=True)
class _Query:
    """The query taken apart; None where the parameter is not there."""

    endpoint: str | None
    sector: str | None
    lifetime_s: int | None
    base: Uri | None
    multicast: bool | None
    hosts: list[str]
    attributes: dict[str, object]


def registration(request: Request) -> Registration:
    """What a POST to `/rd` registers. Raises `Malformed`, `TooLarge` or `UnsupportedMediaType`, naming the parameter.

    Without `base` the device is reached where the request came from (RFC 9176, section 5); a request over HTTP has to give it. A base
    with a host name gives the registration that host, and no address.
    """
    query = _parse(request)
    if query.endpoint is None:
        raise Malformed("ep", "nothing", "the endpoint's name, such as ?ep=d1")
    given: dict[str, object] = {
        "lifetime": DEFAULT_LIFETIME_S if query.lifetime_s is None else query.lifetime_s,
        "multicastEnabled": bool(query.multicast),
        "attributes": query.attributes,
        **_reached(query.base, query.hosts, request.source),
        **_linked(request),
    }
    name = check_segment(name_of(query.endpoint, query.sector), "ep")
    return Registration(name, check(name, given))


def update(name: str, kept: Document, request: Request) -> Document:
    """The document after a POST to `/rd/<name>` (RFC 9176, section 5.3.1). Raises as `registration`.

    What is not given stays. Links that are given replace all. Where the registration has no explicit base and the request comes
    from another address or port, the device is from now on reached there.
    """
    query = _parse(request)
    attributes = kept.get("attributes")
    before: Mapping[str, object] = attributes if isinstance(attributes, Mapping) else {}
    if query.endpoint is not None or query.sector is not None:
        _same_name(name, query, before)
    given: dict[str, object] = {**kept, "attributes": {**before, **query.attributes}}
    if query.lifetime_s is not None:
        given["lifetime"] = query.lifetime_s
    if query.multicast is not None:
        given["multicastEnabled"] = query.multicast
    given.update(_moved(kept, before, query, request))
    if request.payload:
        given.update(_linked(request))
    return check(name, given)


def links_text(document: Document) -> str:
    """The links of a registration in link format (RFC 6690)."""
    kept = document.get("links")
    return format_links(_as_link(link) for link in (kept if isinstance(kept, list) else ()))


def _as_link(kept: Mapping[str, object]) -> Link:
    pairs: list[tuple[str, str]] = []
    for name, value in kept.items():
        if name != "href":
            pairs.extend((name, str(item)) for item in (value if isinstance(value, list) else (value,)))
    return Link(str(kept["href"]), tuple(pairs))


def _parse(request: Request) -> _Query:
    given: dict[str, list[str]] = {}
    for name, value in request.query:
        given.setdefault(name, []).append(value)
    for name in _ONCE:
        if len(given.get(name, ())) > 1:
            raise Malformed(name, ", ".join(given[name]), "given once")
    single = {name: values[0] for name, values in given.items()}
    attributes: dict[str, object] = _gathered((name, value) for name, value in request.query if name not in (*_ONCE, "host"))
    attributes.update({name: single[name] for name in ("d", "base") if name in single})
    return _Query(
        endpoint=_name(single, "ep"),
        sector=_name(single, "d"),
        lifetime_s=_lifetime(single),
        base=_base(single),
        multicast=_flag(single, "multicast"),
        hosts=[_host(value) for value in given.get("host", ())],
        attributes=attributes,
    )


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Names to values, or to lists of them where a name stands several times."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _name(single: Mapping[str, str], parameter: str) -> str | None:
    value = single.get(parameter)
    if value is None:
        return None
    if not value.isprintable() or not 1 <= len(value.encode(errors="replace")) <= MAX_NAME_BYTES:
        raise Malformed(parameter, value, f"a name of 1 to {MAX_NAME_BYTES} bytes without control characters")
    return value


def _lifetime(single: Mapping[str, str]) -> int | None:
    value = single.get("lt")
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or not 1 <= int(value[:11]) <= MAX_LIFETIME_S:
        raise Malformed("lt", value, f"a lifetime of 1 to {MAX_LIFETIME_S} seconds")
    return int(value)


def _base(single: Mapping[str, str]) -> Uri | None:
    value = single.get("base")
    if value is None:
        return None
    uri = parse_uri(value, "base")
    if uri.path or uri.query:
        raise Malformed("base", value, "scheme://authority, without path and query, such as coap://[fd00::d1]:5683")
    try:
        return replace(uri, host=host(uri.host) if uri.address is None else address(uri.host))
    except Wrong as wrong:
        raise Malformed("base", value, f"a URI whose host is {wrong.expected}") from wrong


def _flag(single: Mapping[str, str], parameter: str) -> bool | None:
    value = single.get(parameter)
    if value is None:
        return None
    if value not in _TRUE + _FALSE:
        raise Malformed(parameter, value, "1 or 0")
    return value in _TRUE


def _host(value: str) -> str:
    try:
        return host(value)
    except Wrong as wrong:
        raise Malformed("host", value, wrong.expected) from wrong


def _same_name(name: str, query: _Query, before: Mapping[str, object]) -> None:
    """An update does not rename (RFC 9176, section 5.3.1); the name that it has may be said again."""
    kept_sector = before.get("d")
    sector = query.sector if query.sector is not None else kept_sector if isinstance(kept_sector, str) else None
    if query.endpoint is not None and name_of(query.endpoint, sector) != name:
        raise Malformed("ep", query.endpoint, f"the name that is registered here ({name}), or left out")
    if query.sector is not None and query.sector != kept_sector:
        raise Malformed("d", query.sector, "the sector that is registered here, or left out")


def _reached(base: Uri | None, hosts: list[str], source: tuple[str, int] | None) -> dict[str, object]:
    """How the device is reached: hosts, addresses, scheme and port, by its base or else by where the request came from."""
    if base is None:
        if source is None:
            raise Malformed("base", "nothing", "where the device is, such as base=coap://[fd00::d1]: over HTTP it has to be given")
        return {"hosts": hosts, "addresses": [source[0]], "scheme": "coap", "port": source[1]}
    if base.address is None:
        return {"hosts": [*hosts, base.host], "addresses": [], "scheme": base.scheme, "port": base.port}
    # A link-local address means nothing without the zone that it was heard from.
    heard_there = source is not None and source[0].partition("%")[0] == base.host
    return {"hosts": hosts, "addresses": [source[0] if source and heard_there else base.host], "scheme": base.scheme, "port": base.port}


def _moved(kept: Document, before: Mapping[str, object], query: _Query, request: Request) -> dict[str, object]:
    """What an update changes of how the device is reached."""
    kept_hosts, base_text = kept.get("hosts"), before.get("base")
    hosts = [str(name) for name in kept_hosts] if isinstance(kept_hosts, list) else []
    base = parse_uri(base_text, "base") if isinstance(base_text, str) else None
    if query.base is not None:
        return _reached(query.base, query.hosts or [name for name in hosts if base is None or name != base.host], request.source)
    moved: dict[str, object] = {}
    if query.hosts:
        moved["hosts"] = query.hosts if base is None or base.address is not None else [*query.hosts, base.host]
    if base is None and request.source is not None:
        moved.update({"addresses": [request.source[0]], "port": request.source[1], "scheme": "coap"})
    return moved


def _linked(request: Request) -> dict[str, object]:
    """What the payload says: the links, and what follows from some of them."""
    if not request.payload:
        return {"links": [], "mcGroups": DEFAULT_MC_GROUPS, "groupServer": False}
    if bare(request.content_type) != LINK_FORMAT:
        raise UnsupportedMediaType(request.content_type, (LINK_FORMAT,))
    if len(request.payload) > MAX_LINKS_BYTES:
        raise TooLarge("body", MAX_LINKS_BYTES)
    try:
        links = parse_links(request.payload.decode(), "body")
    except UnicodeDecodeError as error:
        raise Malformed("body", request.payload[:16].hex(), "link format in UTF-8 (RFC 6690)") from error
    kinds = {word: link for link in reversed(links) for word in link.words("rt")}
    advertised = kinds.get(MC_GROUPS_KIND)
    return {
        "links": [_kept(link) for link in links],
        "mcGroups": DEFAULT_MC_GROUPS if advertised is None else _target_path(advertised.target),
        "groupServer": GROUPS_LINK in kinds,
    }


def _kept(link: Link) -> dict[str, object]:
    if link.get("href") is not None:
        raise Malformed("body", link.target, "a link without an attribute of the name href")
    return {"href": link.target, **_gathered(link.attributes)}


def _target_path(target: str) -> str:
    if "://" in target and not target.startswith("/"):
        return parse_uri(target, "body").text()
    try:
        path = unquote(target, errors="strict")
    except UnicodeDecodeError as error:
        raise Malformed("body", target, "percent-encoded UTF-8") from error
    if not path.startswith("/"):
        raise Malformed("body", target, f"a path such as {DEFAULT_MC_GROUPS}, or a URI of the device, where rt is {MC_GROUPS_KIND}")
    return path
