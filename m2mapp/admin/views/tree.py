"""Tree: any resource: what stands there and below it, its history, and writing, creating and deleting it.

Everything goes through the dispatcher with the visitor's rights, so that it ends as the same request by HTTP would.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from m2mapp.admin.pages import Answer, Data, Page, Redirect, Shown
from m2mapp.admin.rendering import tree_uri
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import JSON, MERGE_PATCH, OCTETS, dump_json, is_cbor, is_json, is_text, load_cbor, load_json
from m2mapp.formats.rules.sample import Sample
from m2mapp.model.errors import Malformed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import ANY_ETAG, Conditions, Method, Request, Response
from m2mapp.model.principal import Right
from m2mapp.tree.paths import RESERVED, check_path, parse_path
from m2mapp.tree.unit import COLLECTION, CONTENT, Entry, Resource, values_journal

_CHILDREN = 200
_MOST_SHOWN = 65_536
_BYTES_SHOWN = 512
_VALUES, _VALUES_LISTED = 100, 20
_OWN_TYPES = (CONTENT, COLLECTION)


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands at a path: its content or document as text, the media type, the ETag (hexadecimal), whether all of it is shown."""

    text: str
    media_type: str
    etag: str
    whole: bool
    editable: bool


def tree_pages() -> tuple[Page, Page]:
    """The page of any resource, and the points of its plot."""
    acts = {"write": _write, "patch": _patch, "create": _create, "delete": _delete, "go": _go}
    return Page("tree", "Tree", _show, acts), Page("history", "History", _history, listed=False)


async def _show(visit: Visit) -> Answer:
    path = visit.rest
    resource = visit.find(path)
    standing = await _standing(visit, path, resource)
    part, following = visit.part(path, _CHILDREN)
    children = [child for child in part if visit.may_read(child.path)]
    there = resource is not None or standing is not None or bool(children) or not path
    values: Mapping[str, object] = {
        "path": path,
        "trail": [path[: depth + 1] for depth in range(len(path))],
        "resource": resource,
        "standing": standing,
        "children": [(child, _in_short(child)) for child in children],
        "next": following,
        "there": there,
        "offers": _offers(visit, path, resource),
        "values": await _values(visit, path) if resource is not None and resource.type == CONTENT else [],
        "numeric": resource is not None and resource.type == CONTENT and _number(resource.content or b"", resource.media_type) is not None,
        "below": sum(1 for _ in visit.node.tree.walk(path)) - 1 if resource is not None else 0,
    }
    return Shown("tree.html", values, path_text(path), status=200 if there else 404)


async def _standing(visit: Visit, path: Path, resource: Resource | None) -> Standing | None:
    """What a GET gives; None where there is nothing, and for collections, whose children are shown."""
    if resource is None and (not path or visit.node.tree.children(path, limit=1)):
        return None
    if resource is not None and resource.type == COLLECTION:
        return None
    try:
        accept = () if resource is not None and resource.type == CONTENT else (JSON,)
        response = await visit.send(Request(Method.GET, path, accept=accept))
    except NoSuchResource:
        return None
    return _in_full(response)


def _in_full(response: Response) -> Standing:
    payload, media_type = response.payload, response.content_type or OCTETS
    text, whole, editable = _as_text(payload[:_MOST_SHOWN], media_type), len(payload) <= _MOST_SHOWN, True
    if text is None:
        shown = payload[:_BYTES_SHOWN]
        text, whole, editable = shown.hex(" "), len(payload) <= _BYTES_SHOWN, False
    return Standing(text, media_type, response.etag.hex() if response.etag is not None else "", whole, editable and whole)


def _as_text(payload: bytes, media_type: str) -> str | None:
    """A payload as people read it: JSON and CBOR laid out, text as it is; None where it is bytes."""
    try:
        if is_json(media_type):
            return json.dumps(load_json(payload), indent=2, ensure_ascii=False)
        if is_cbor(media_type):
            return json.dumps(json.loads(dump_json(load_cbor(payload))), indent=2, ensure_ascii=False)
        return payload.decode() if is_text(media_type) or payload.isascii() else None
    except (Malformed, UnicodeDecodeError):
        return None


def _in_short(resource: Resource) -> str:
    """The beginning of a content, for lists."""
    if resource.type != CONTENT:
        return ""
    text = _as_text((resource.content or b"")[:_BYTES_SHOWN], "text/plain")
    return text if text is not None else f"{len(resource.content or b'')} bytes"


def _offers(visit: Visit, path: Path, resource: Resource | None) -> frozenset[str]:
    """What the page offers: what the visitor may do and what such a resource takes."""
    found = set()
    owned = bool(path) and path[0] in RESERVED
    if path and visit.may_write(path):
        kind = resource.type if resource is not None else None
        if kind == CONTENT or (kind is None and not owned):
            found.add("write")
        if kind is not None and kind not in _OWN_TYPES:
            found.add("patch")
        if kind is not None and (kind != COLLECTION or not owned):
            found.add("delete")
    if visit.may(Right.WRITE, path) and (resource is None or resource.type == COLLECTION) and path[:1] != ("admin",):
        found.add("create")
    return frozenset(found)


# The history.


def _number(content: bytes, media_type: str | None) -> float | None:
    """What a content says, where that is a number (spec section 12)."""
    return Sample(content, media_type).number


async def _values(visit: Visit, path: Path) -> list[tuple[Entry, str]]:
    """The last values, the newest first."""
    entries = await visit.journal(values_journal(path), path, _VALUES_LISTED)
    return [(entry, _value_text(entry)) for entry in reversed(entries)]


def _value_text(entry: Entry) -> str:
    content = entry.body.get("content")
    if not isinstance(content, bytes):
        return ""
    return _as_text(content[:_BYTES_SHOWN], "text/plain") or f"{len(content)} bytes"


async def _history(visit: Visit) -> Answer:
    """The numbers of a content resource's history."""
    path = visit.rest
    times, numbers = [], []
    for entry in await visit.journal(values_journal(path), path, _VALUES):
        content, media_type = entry.body.get("content"), entry.body.get("contentType")
        number = _number(content, media_type if isinstance(media_type, str) else None) if isinstance(content, bytes) else None
        if number is not None:
            times.append(entry.at_ms / 1000)
            numbers.append(number)
    return Data(dump_json({"x": times, "lines": [{"name": path_text(path), "values": numbers}]}))


# What can be done.


async def _write(visit: Visit) -> Answer:
    path, etag = check_path(visit.rest), visit.field("etag")
    conditions = Conditions(if_match=(_etag(etag),)) if etag else Conditions(if_none_match=(ANY_ETAG,))
    payload, media_type = visit.field("content").encode(), visit.field("type") or "text/plain"
    await visit.send(Request(Method.PUT, path, payload=payload, content_type=media_type, conditions=conditions))
    visit.done(f"{path_text(path)} is written")
    return Redirect(tree_uri(path))


async def _patch(visit: Visit) -> Answer:
    path, etag = visit.rest, visit.field("etag")
    conditions = Conditions(if_match=(_etag(etag),)) if etag else Conditions()
    payload = visit.field("patch").encode()
    await visit.send(Request(Method.PATCH, path, payload=payload, content_type=MERGE_PATCH, conditions=conditions))
    visit.done(f"{path_text(path)} is changed")
    return Redirect(tree_uri(path))


async def _create(visit: Visit) -> Answer:
    name = visit.field("name")
    payload, media_type = visit.field("content").encode(), visit.field("type") or "text/plain"
    request = Request(Method.POST, visit.rest, payload=payload, content_type=media_type, query=(("name", name),) if name else ())
    response = await visit.send(request)
    made = response.location or visit.rest
    visit.done(f"{path_text(made)} is made")
    return Redirect(tree_uri(made))


async def _delete(visit: Visit) -> Answer:
    path = visit.rest
    await visit.send(Request(Method.DELETE, path))
    visit.done(f"{path_text(path)} is deleted, with all below it")
    return Redirect(tree_uri(path[:-1]))


async def _go(visit: Visit) -> Answer:
    return Redirect(tree_uri(parse_path(visit.field("path").strip() or "/")))


def _etag(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Malformed("etag", text, "hexadecimal, as the page had it") from None
