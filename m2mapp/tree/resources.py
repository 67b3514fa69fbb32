"""What requests to plain resources mean: from a request and the tree to a response, or to a unit and the response it will have.

Pure: nothing is committed here. Capabilities use the same functions for the writes to their own types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from m2mapp.formats.documents import (
    MERGE_PATCH,
    RESOURCE_CBOR,
    RESOURCE_JSON,
    TEXT,
    bare,
    content_bytes,
    content_value,
    dump_json,
    is_cbor,
    is_json,
    load_cbor,
    load_document,
    load_json,
)
from m2mapp.formats.merge_patch import merge_patch
from m2mapp.formats.shapes import Field, Shape, Wrong, text
from m2mapp.model.errors import Malformed, MethodNotAllowed, TooLarge, UnsupportedMediaType
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.tree.etags import CONTENT_TAG, JSON_TAG, etag
from m2mapp.tree.paths import RESERVED, check_segment
from m2mapp.tree.representation import render
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType, Types, attributes_only, named_as
from m2mapp.tree.unit import COLLECTION, CONTENT, EMPTY, Change, Document, Remove, Requirement, Resource, Unit, Write

MAX_CONTENT_BYTES = 1 << 20


def _link_attributes(value: object) -> Document:
    if not isinstance(value, dict) or len(value) > 32 or not all(isinstance(item, str | int | float | bool) for item in value.values()):  # noqa: PLR2004
        raise Wrong(value, "at most 32 link attributes such as {\"rt\": \"temperature\"}: text, numbers, true, false")
    return {text(name): item for name, item in value.items()}


_WHOLE = Shape(
    {
        "content": Field(lambda value: value),
        "contentType": Field(text, None),
        "attributes": Field(_link_attributes, None),
    }
)
_READ_ONLY = ("path", "type", "created", "modified")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be committed, and the response once that is done."""

    unit: Unit
    answer: Callable[[tuple[Change, ...]], Response]


class ResourceRules:
    """How the tree's resources take requests."""

    def __init__(self, tree: Tree, types: Types) -> None:
        self._tree = tree
        self._types = types
        self._fixed = types.owned_collections()

    def decide(self, request: Request) -> Response | Decision:
        """Answer a read, or decide a write. Raises the `Fault` that says why not."""
        method = request.method
        if method is Method.GET:
            resource = self._tree.get(request.path)
            return render(resource, self._types.named(resource.type), self._tree, request)
        if method is Method.DELETE:
            return self._delete(request)
        if method is Method.POST:
            return self._post(request)
        return self._put(request) if method is Method.PUT else self._patch(request)

    def _delete(self, request: Request) -> Decision:
        path = request.path
        if not path or path in self._fixed or (len(path) == 1 and path[0] in RESERVED):
            raise MethodNotAllowed("DELETE", path_text(path), ("GET", "POST"))
        self._check_method(request, self._types.at(path))
        requires = (Requirement(path, request.conditions, exists=True),)
        return Decision(Unit((Remove(path),), requires=requires, trace=request.trace), lambda _: Response(Status.DELETED))

    def _put(self, request: Request) -> Decision:
        path = request.path
        if not path or path in self._fixed:
            raise MethodNotAllowed("PUT", path_text(path), ("GET", "POST"))
        kind = self._types.at(path)
        self._check_method(request, kind)
        return self._write(request, self._draft(path, kind, request), Requirement(path, request.conditions))

    def _post(self, request: Request) -> Decision:
        path = request.path
        resource = self._tree.expected(path)
        if path and resource is None and path not in self._fixed:
            self._tree.get(path)
        if resource is not None and resource.type == CONTENT:
            return self._write(request, self._draft(path, None, request), Requirement(path, request.conditions, exists=True))
        if resource is not None and self._types.named(resource.type):
            raise MethodNotAllowed("POST", path_text(path), ("GET", "PUT", "PATCH", "DELETE"))
        name = self._child_name(request)
        child = (*path, name)
        kind = self._types.at(child)
        self._check_method(request, kind)
        return self._write(request, self._draft(child, kind, request), Requirement(child, exists=False))

    def _patch(self, request: Request) -> Decision:
        path = request.path
        resource = self._tree.expected(path) or self._tree.get(path)
        kind = self._types.named(resource.type)
        self._check_method(request, kind)
        whole_patch = bare(request.content_type) in (RESOURCE_JSON, RESOURCE_CBOR)
        if not whole_patch and bare(request.content_type) != MERGE_PATCH:
            raise UnsupportedMediaType(request.content_type, (MERGE_PATCH, RESOURCE_JSON, RESOURCE_CBOR))
        if resource.type == COLLECTION:
            raise MethodNotAllowed("PATCH", path_text(path), ("GET", "POST", "DELETE"))
        if kind is not None:
            given = named_as(path[-1], load_document(request.payload, request.content_type))
            kept = kind.check(path[-1], _as_document(merge_patch(resource.attributes, given)))
            write = Write(path, kind.name, kept)
        elif whole_patch:
            given = load_document(request.payload, request.content_type)
            write = _whole_write(path, _as_document(merge_patch(_settable(resource), given)))
        else:
            write = _patched_content(resource, load_json(request.payload))
        # A patch rests on what it was laid upon: nobody may write in between.
        return self._write(request, write, Requirement(path, request.conditions, exists=True))

    def _draft(self, path: Path, kind: ResourceType | None, request: Request) -> Write:
        if kind is not None:
            given = named_as(path[-1], load_document(request.payload, request.content_type))
            return Write(path, kind.name, kind.check(path[-1], given))
        if bare(request.content_type) in (RESOURCE_JSON, RESOURCE_CBOR):
            return _whole_write(path, named_as(path[-1], load_document(request.payload, request.content_type)))
        before = self._tree.expected(path)
        kept = before.attributes if before is not None and before.type == CONTENT else EMPTY
        return content_write(path, request.payload, request.content_type, kept)

    def _child_name(self, request: Request) -> str:
        kind = self._types.at((*request.path, "-")) if request.path else None
        name: object = request.query_value("name")
        if name is None and (kind is not None or bare(request.content_type) in (RESOURCE_JSON, RESOURCE_CBOR)):
            name = load_document(request.payload, request.content_type).get("name")
        if name is None:
            return str(self._tree.next_number)
        if not isinstance(name, str):
            raise Malformed("name", name, "a path segment")
        return check_segment(name, "name")

    def _write(self, request: Request, write: Write, requirement: Requirement) -> Decision:
        unit = Unit((write,), requires=(requirement,), trace=request.trace)
        return Decision(unit, written(write.path))

    @staticmethod
    def _check_method(request: Request, kind: ResourceType | None) -> None:
        if kind is not None and request.method not in kind.methods:
            raise MethodNotAllowed(request.method.value, path_text(request.path), tuple(sorted(method.value for method in kind.methods)))


def written(path: Path) -> Callable[[tuple[Change, ...]], Response]:
    """The answer to a write of one resource, made from the changes that came of it: created with its Location, or changed."""

    def answer(changes: tuple[Change, ...]) -> Response:
        change = next(change for change in changes if change.path == path)
        tag = CONTENT_TAG if change.after is not None and change.after.type == CONTENT else JSON_TAG
        if change.before is None:
            return Response(Status.CREATED, etag=etag(tag, change.number), location=path)
        return Response(Status.CHANGED, etag=etag(tag, change.number))

    return answer


def content_write(path: Path, payload: bytes, media_type: str | None, attributes: Document = EMPTY) -> Write:
    """The write of content, checked to be what its media type says. Raises `TooLarge` or `Malformed`."""
    if len(payload) > MAX_CONTENT_BYTES:
        raise TooLarge("body", MAX_CONTENT_BYTES)
    if media_type is None:
        media_type = TEXT if _is_text(payload) else "application/octet-stream"
    elif is_json(media_type):
        load_json(payload)
    elif is_cbor(media_type):
        load_cbor(payload)
    elif bare(media_type).startswith("text/") and not _is_utf8(payload):
        raise Malformed("body", payload[:16].hex(), "text in UTF-8")
    return Write(path, CONTENT, attributes, payload, media_type)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_text(payload: bytes) -> bool:
    return _is_utf8(payload) and all(character.isprintable() or character in "\t\r\n" for character in payload.decode())


def _settable(resource: Resource) -> Document:
    return {
        "content": content_value(resource.content or b"", resource.media_type),
        "contentType": resource.media_type,
        **resource.attributes,
    }


def _whole_write(path: Path, given: Document) -> Write:
    values = _WHOLE.check({name: value for name, value in given.items() if name not in _READ_ONLY})
    media_type = values["contentType"]
    content, kind = content_bytes(values["content"], media_type if isinstance(media_type, str) else None)
    attributes = {"attributes": values["attributes"]} if values["attributes"] else EMPTY
    return content_write(path, content, kind, attributes)


def _patched_content(resource: Resource, patch: object) -> Write:
    if not is_json(resource.media_type):
        raise Malformed("Content-Type", resource.media_type, "the type of JSON content, which a merge patch needs")
    patched = dump_json(merge_patch(load_json(resource.content or b"null"), patch))
    return content_write(resource.path, patched, resource.media_type, resource.attributes)


def _as_document(value: object) -> Document:
    if not isinstance(value, dict):
        raise Malformed("body", value, "an object with named members")
    return value


__all__ = ["Decision", "ResourceRules", "attributes_only", "content_write", "written"]
