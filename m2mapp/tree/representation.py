"""From a resource to the bytes of a representation: content as it was stored, documents as JSON or CBOR, collections in pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from m2mapp.formats.documents import (
    CBOR,
    JSON,
    LINK_FORMAT,
    OCTETS,
    RESOURCE_CBOR,
    RESOURCE_JSON,
    choose,
    content_value,
    dump_cbor,
    dump_json,
    is_cbor,
    rfc3339,
)
from m2mapp.formats.link_format import Link, format_links, target_of
from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Request, Response, Status
from m2mapp.tree.etags import CBOR_TAG, CONTENT_TAG, JSON_TAG, LINKS_TAG, etag
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Members, ResourceType
from m2mapp.tree.unit import CONTENT, EMPTY, Document, Resource

DEFAULT_PAGE, MAX_PAGE = 100, 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a collection is asked for: so many children after a name."""

    limit: int = DEFAULT_PAGE
    after: str | None = None


def page_of(request: Request) -> Page:
    """The page that `?limit=` and `?after=` ask for. Raises `Malformed`."""
    text = request.query_value("limit")
    if text is None:
        return Page(after=request.query_value("after"))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_PAGE))) or not 1 <= int(text) <= MAX_PAGE:
        raise Malformed("limit", text, f"a number from 1 to {MAX_PAGE}")
    return Page(int(text), request.query_value("after"))


def document_response(document: Mapping[str, object], accept: tuple[str, ...], version: int, modified_ms: int | None = None) -> Response:
    """A document as the representation that is accepted. Raises `NotAcceptable`."""
    media_type = choose(accept, (JSON, CBOR))
    if media_type == CBOR:
        return Response(Status.CONTENT, dump_cbor(document), CBOR, etag(CBOR_TAG, version), modified_ms=modified_ms)
    return Response(Status.CONTENT, dump_json(document), JSON, etag(JSON_TAG, version), modified_ms=modified_ms)


def render(resource: Resource, kind: ResourceType | None, tree: Tree, request: Request, members: Members | None = None) -> Response:
    """The response to a GET of the resource. Raises `NotAcceptable` or `Malformed`."""
    if kind is not None:
        return document_response(kind.describe(resource, tree), request.accept, tree.version(resource), resource.modified_ms)
    if resource.type == CONTENT:
        return _render_content(resource, request.accept, tree, members)
    return _render_collection(resource, tree, request)


def whole(resource: Resource, tree: Tree, members: Members | None) -> Document:
    """The whole representation of a content resource (spec section 2)."""
    attributes: Document = resource.attributes
    more: Document = EMPTY
    if members is not None:
        attributes = {name: value for name, value in attributes.items() if name != members.attribute}
        more = members.show(resource, tree)
    return {
        "path": path_text(resource.path),
        "type": resource.type,
        "contentType": resource.media_type,
        "content": content_value(resource.content or b"", resource.media_type),
        **attributes,
        **more,
        "created": rfc3339(resource.created_ms),
        "modified": rfc3339(resource.modified_ms),
    }


def _render_content(resource: Resource, accept: tuple[str, ...], tree: Tree, members: Members | None) -> Response:
    stored = resource.media_type or OCTETS
    media_type = choose(accept, (stored, RESOURCE_JSON, RESOURCE_CBOR)) if accept else stored
    if media_type == stored:
        tag = etag(CONTENT_TAG, resource.version)
        return Response(Status.CONTENT, resource.content or b"", stored, tag, modified_ms=resource.modified_ms)
    shown = whole(resource, tree, members)
    payload, tag_kind = (dump_cbor(shown), CBOR_TAG) if is_cbor(media_type) else (dump_json(shown), JSON_TAG)
    version = resource.version if members is None else members.version(resource, tree)
    return Response(Status.CONTENT, payload, media_type, etag(tag_kind, version), modified_ms=resource.modified_ms)


def _render_collection(resource: Resource, tree: Tree, request: Request) -> Response:
    page = page_of(request)
    children = tree.children(resource.path, page.after, page.limit + 1)
    more = len(children) > page.limit
    del children[page.limit :]
    version = tree.latest(resource.path)
    following = (("limit", str(page.limit)), ("after", children[-1].path[-1])) if more else None
    media_type = choose(request.accept, (JSON, CBOR, LINK_FORMAT))
    if media_type == LINK_FORMAT:
        links = [Link(target_of(child.path)) for child in children]
        if following is not None:  # CoAP has no header for it: here, and as `next` in a document, every reader finds it
            query = "&".join(f"{key}={quote(value, safe='')}" for key, value in following)
            links.append(Link(f"{target_of(resource.path)}?{query}", (("rel", "next"),)))
        text = format_links(links)
        return Response(Status.CONTENT, text.encode(), LINK_FORMAT, etag(LINKS_TAG, version), next_query=following)
    document: dict[str, object] = {
        "path": path_text(resource.path),
        "type": resource.type,
        "children": [{"name": child.path[-1], "type": child.type, "modified": rfc3339(child.modified_ms)} for child in children],
    }
    if more:
        document["next"] = children[-1].path[-1]
    payload, tag_kind = (dump_cbor(document), CBOR_TAG) if media_type == CBOR else (dump_json(document), JSON_TAG)
    return Response(Status.CONTENT, payload, media_type, etag(tag_kind, version), next_query=following)
