"""What requests to plain resources mean: from a request and the tree to a response, or to a unit and the response it will have.

Pure: nothing is committed here. Capabilities use the same functions for the writes to their own types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from m2mapp.formats.documents import (
    MERGE_PATCH,
    OCTETS,
    RESOURCE_CBOR,
    RESOURCE_JSON,
    TEXT,
    bare,
    check_media_type,
    content_bytes,
    content_value,
    dump_json,
    is_cbor,
    is_json,
    is_text,
    load_cbor,
    load_document,
    load_json,
)
from m2mapp.formats.link_format import is_attribute_name
from m2mapp.formats.merge_patch import merge_patch
from m2mapp.formats.shapes import Field, Shape, Wrong, text
from m2mapp.model.errors import Malformed, MethodNotAllowed, NoSuchResource, TooLarge, UnsupportedMediaType
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Conditions, Method, Request, Response, Status
from m2mapp.tree.etags import CONTENT_TAG, JSON_TAG, etag, of_whole
from m2mapp.tree.paths import RESERVED, check_path, check_segment, starts_with
from m2mapp.tree.representation import render
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ResourceType, Types, named_as
from m2mapp.tree.unit import COLLECTION, CONTENT, EMPTY, Change, Document, Remove, Requirement, Resource, Unit, Write

MAX_CONTENT_BYTES = 1 << 20
MAX_ATTRIBUTE_CHARACTERS = 1024


MAX_LINK_ATTRIBUTES = 32
_RENDERED = 1024
_LARGEST_RENDERED_BYTES = 1024
"""So many responses are kept with so large payloads: for what is read again and again, as small contents are."""


def _link_attributes(value: object) -> Document:
    if not isinstance(value, dict) or len(value) > MAX_LINK_ATTRIBUTES:
        raise Wrong(value, f'an object of at most {MAX_LINK_ATTRIBUTES} link attributes such as {{"rt": "temperature"}}')
    for name, given in value.items():
        if not is_attribute_name(name) or name == "href":
            raise Wrong(name, "the name of a link attribute: at most 64 letters, digits and signs, not 'href' (RFC 6690, section 2)")
        if isinstance(given, str):
            if len(given) > MAX_ATTRIBUTE_CHARACTERS or not given.isprintable():
                raise Wrong(given, f"printable text of at most {MAX_ATTRIBUTE_CHARACTERS} characters", f".{name}")
        elif not isinstance(given, int | float):
            raise Wrong(given, "text, a number, true or false", f".{name}")
    return value


def _media_type(value: object) -> str | None:
    if value is None:
        return None
    try:
        return _check_stored(text(value), "")
    except Malformed as fault:
        raise Wrong(value, fault.expected) from fault


def _check_stored(media_type: str, field: str) -> str:
    """The media type, if content can be stored with it; raises `Malformed`."""
    if bare(check_media_type(media_type, field)) in (RESOURCE_JSON, RESOURCE_CBOR):
        raise Malformed(field, media_type, "the media type of the content itself")
    return media_type


_WHOLE = Shape(
    {
        "content": Field(lambda value: value),
        "contentType": Field(_media_type, None),
        "attributes": Field(_link_attributes, None),
    }
)
_READ_ONLY = ("path", "type", "created", "modified")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be committed, and the response once that is done."""

    unit: Unit
    answer: Callable[[tuple[Change, ...]], Response]


Writes = tuple[Write | Remove, ...]
"""What one request writes; the first is of the resource that it names."""


class ResourceRules:
    """How the tree's resources take requests."""

    def __init__(self, tree: Tree, types: Types) -> None:
        self._tree = tree
        self._types = types
        self._fixed = types.owned_collections()
        self._rendered: dict[tuple[Path, tuple[str, ...]], tuple[Resource, Response]] = {}

    def decide(self, request: Request) -> Response | Decision:
        """Answer a read, or decide a write. Raises the `Fault` that says why not."""
        method = request.method
        if method is Method.GET:
            resource = self._tree.find(request.path) or self._standing(request.path)
            return self._content(resource, request) if resource.type == CONTENT else self._render(resource, request)
        if method is Method.DELETE:
            return self._delete(request)
        if method is Method.POST:
            return self._post(request)
        return self._put(request) if method is Method.PUT else self._patch(request)

    def _render(self, resource: Resource, request: Request) -> Response:
        return render(resource, self._types.named(resource.type), self._tree, request, self._types.members)

    def _content(self, resource: Resource, request: Request) -> Response:
        """The response of a content resource: the one given before, as long as the resource is the same."""
        key = (request.path, request.accept)
        kept = self._rendered.get(key)
        if kept is not None and kept[0] is resource:
            return kept[1]
        response = self._render(resource, request)
        # A whole representation may show what stands below the resource, and that may change without it.
        of_itself = self._types.members is None or response.content_type not in (RESOURCE_JSON, RESOURCE_CBOR)
        if of_itself and len(response.payload) <= _LARGEST_RENDERED_BYTES:
            if len(self._rendered) >= _RENDERED:
                self._rendered.clear()
            self._rendered[key] = (resource, response)
        return response

    def _delete(self, request: Request) -> Decision:
        path = request.path
        self._not_fixed(request)
        if len(path) == 1 and path[0] in RESERVED:
            raise MethodNotAllowed("DELETE", path_text(path), ("GET",))
        resource = self._expected(path)
        kind = self._types.named(resource.type)
        self._check_method(request, kind)
        if kind is None and path[0] in RESERVED:  # What stands there belongs to whoever owns the name.
            raise MethodNotAllowed("DELETE", path_text(path), ("GET",))
        requires = (Requirement(path, self._conditions(request), exists=True),)
        return Decision(unit_of(request, (Remove(path),), requires), lambda _: Response(Status.DELETED))

    def _put(self, request: Request) -> Decision:
        path = check_path(request.path)
        self._not_fixed(request)
        kind = self._types.at(path)
        self._check_method(request, kind)
        given = load_document(request.payload, request.content_type) if _is_document(kind, request) else None
        return self._write(request, self._drafts(path, kind, request, given), Requirement(path, self._conditions(request)))

    def _post(self, request: Request) -> Decision:
        path = request.path
        resource = self._expected(path)
        if resource.type == CONTENT:
            given = load_document(request.payload, request.content_type) if _is_document(None, request) else None
            drafts = self._drafts(path, None, request, given)
            return self._write(request, drafts, Requirement(path, self._conditions(request), exists=True))
        kind = self._types.named(resource.type)
        if kind is not None:
            raise MethodNotAllowed("POST", path_text(path), _names(kind.methods - {Method.POST}))
        kind = self._types.at((*path, "-")) if path else None
        self._check_method(request, kind)
        given = load_document(request.payload, request.content_type) if _is_document(kind, request) else None
        name = request.query_value("name")
        child = check_path((*path, child_name(self._tree, path, (given or {}).get("name") if name is None else name)), "name")
        kind = self._types.at(child)
        requires = (Requirement(path, request.conditions), Requirement(child, exists=False))
        return self._write(request, self._drafts(child, kind, request, given), *requires)

    def _patch(self, request: Request) -> Decision:
        path = request.path
        resource = self._expected(path)
        kind = self._types.named(resource.type)
        self._check_method(request, kind)
        if resource.type == COLLECTION:
            raise MethodNotAllowed("PATCH", path_text(path), ("GET", "POST", "DELETE"))
        # Decided and staged in one turn of the reactor: nobody writes between what the patch was laid upon and the patch.
        requirement = Requirement(path, self._conditions(request), exists=True)
        media_type = bare(request.content_type)
        if media_type not in (MERGE_PATCH, RESOURCE_JSON, RESOURCE_CBOR):
            raise UnsupportedMediaType(request.content_type, (MERGE_PATCH, RESOURCE_JSON, RESOURCE_CBOR))
        if kind is None and media_type == MERGE_PATCH:
            return self._write(request, (_patched_content(resource, request),), requirement)
        given = named_as(path[-1], load_document(request.payload, request.content_type))
        if kind is None:
            return self._write(request, self._whole_writes(path, merge_patch(self._settable(resource), given), request), requirement)
        kept = kind.check(path[-1], merge_patch(resource.attributes, given))
        return self._write(request, (Write(path, kind.name, kept),), requirement)

    def _standing(self, path: Path) -> Resource:
        """A collection that stands without having been written: the root, and those of the types. Raises `NoSuchResource` for others."""
        if path and path not in self._fixed:
            raise NoSuchResource(path_text(path))
        return Resource(path, COLLECTION, EMPTY, None, None, 0, 0, 0)

    def _expected(self, path: Path) -> Resource:
        """What will stand at the path once all that is pending is done; raises `NoSuchResource`."""
        return self._tree.expected(path) or self._standing(path)

    def _not_fixed(self, request: Request) -> None:
        if not request.path or request.path in self._fixed:
            raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET", "POST"))

    def _drafts(self, path: Path, kind: ResourceType | None, request: Request, given: Document | None) -> Writes:
        """What shall stand at the path: `given`, where the payload is a document, else the payload as content; and what goes with it."""
        if given is not None:
            document = named_as(path[-1], given)
            if kind is None:
                return self._whole_writes(path, document, request)
            return (Write(path, kind.name, kind.check(path[-1], document)),)
        before = self._tree.expected(path)
        kept = before.attributes if before is not None and before.type == CONTENT else EMPTY
        return (content_write(path, request.payload, request.content_type, kept),)

    def _whole_writes(self, path: Path, given: Document, request: Request) -> Writes:
        """The writes of a whole representation: of the content, and of what others bring to it."""
        members = self._types.members
        if members is None:
            return (_whole_write(path, given),)
        write = _whole_write(path, {name: value for name, value in given.items() if name not in members.names})
        kept, more = members.keep(path, {name: given[name] for name in members.names & given.keys()}, request)
        if kept is not None:
            write = replace(write, attributes={**write.attributes, members.attribute: kept})
        return (write, *more)

    def _settable(self, resource: Resource) -> Document:
        """What a merge patch of a whole representation is laid upon."""
        members, attributes = self._types.members, resource.attributes
        more = EMPTY
        if members is not None and members.attribute in attributes:
            more = members.settable(attributes[members.attribute])
            attributes = {name: value for name, value in attributes.items() if name != members.attribute}
        content = content_value(resource.content or b"", resource.media_type)
        return {"content": content, "contentType": resource.media_type, **attributes, **more}

    def _conditions(self, request: Request) -> Conditions:
        """The conditions of a request, as they are held against the resource itself."""
        members, conditions = self._types.members, request.conditions
        resource = self._tree.expected(request.path) if members is not None and conditions.if_match else None
        if resource is None or members is None or resource.type != CONTENT:
            return conditions
        shown = members.version(resource, self._tree)
        if shown == resource.version:
            return conditions
        return replace(conditions, if_match=of_whole(conditions.if_match, resource.version, shown))

    def _write(self, request: Request, writes: Writes, *requires: Requirement) -> Decision:
        path = writes[0].path
        owner = self._types.owner(path)
        if owner is not None:
            requires = (Requirement(owner, exists=True), *requires)
        return Decision(unit_of(request, writes, requires), written(path))

    @staticmethod
    def _check_method(request: Request, kind: ResourceType | None) -> None:
        if kind is not None and request.method not in kind.methods:
            raise MethodNotAllowed(request.method.value, path_text(request.path), _names(kind.methods))


def _names(methods: frozenset[Method]) -> tuple[str, ...]:
    return tuple(sorted(method.value for method in methods))


def _is_document(kind: ResourceType | None, request: Request) -> bool:
    """Whether the payload is a document that describes the resource, and not content."""
    return kind is not None or bare(request.content_type) in (RESOURCE_JSON, RESOURCE_CBOR)


def child_name(tree: Tree, path: Path, asked: object) -> str:
    """The name of a new child: the one that is asked for, else the number of its change, or one that is free above that.

    Raises `Malformed` or `TooLarge`, naming `name`.
    """
    if asked is not None:
        if not isinstance(asked, str):
            raise Malformed("name", asked, "a path segment")
        return check_segment(asked, "name")
    number, step = tree.next_number, 1
    while tree.expected((*path, str(number))) is not None:
        number, step = number + step, step * 2
    return str(number)


def unit_of(request: Request, changes: tuple[Write | Remove, ...], requires: tuple[Requirement, ...]) -> Unit:
    """What a request is to change, with all that it says of where it comes from."""
    return Unit(changes, requires=requires, trace=request.trace, cause=request.cause, principal=request.principal.name)


def written(path: Path) -> Callable[[tuple[Change, ...]], Response]:
    """The answer to a write of one resource, made from the changes that came of it: created with its Location, or changed.

    What is written below it in the same unit counts for its ETag, as it does in the representation of derived types.
    """

    def answer(changes: tuple[Change, ...]) -> Response:
        change = next(change for change in changes if change.path == path)
        status, location = (Status.CREATED, path) if change.before is None else (Status.CHANGED, None)
        if change.after is not None and change.after.type == CONTENT:
            return Response(status, etag=etag(CONTENT_TAG, change.number), location=location)
        number = max(other.number for other in changes if starts_with(other.path, path))
        return Response(status, etag=etag(JSON_TAG, number), location=location)

    return answer


def content_write(path: Path, payload: bytes, media_type: str | None, attributes: Document = EMPTY) -> Write:
    """The write of content, checked to be what its media type says. Raises `TooLarge` or `Malformed`."""
    if len(payload) > MAX_CONTENT_BYTES:
        raise TooLarge("body", MAX_CONTENT_BYTES)
    if media_type is None:
        return Write(path, CONTENT, attributes, payload, TEXT if _is_plain(payload) else OCTETS)
    if is_json(_check_stored(media_type, "Content-Type")):
        load_json(payload)
    elif is_cbor(media_type):
        load_cbor(payload)
    elif is_text(media_type) and _utf8(payload) is None:
        raise Malformed("body", payload[:16].hex(), "text in UTF-8")
    return Write(path, CONTENT, attributes, payload, media_type)


def _utf8(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _is_plain(payload: bytes) -> bool:
    found = _utf8(payload)
    return found is not None and found.replace("\n", "").replace("\r", "").replace("\t", "").isprintable()


def _whole_write(path: Path, given: Document) -> Write:
    values = _WHOLE.check({name: value for name, value in given.items() if name not in _READ_ONLY})
    media_type = values["contentType"]
    content, kind = content_bytes(values["content"], media_type if isinstance(media_type, str) else None)
    attributes = {"attributes": values["attributes"]} if values["attributes"] else EMPTY
    return content_write(path, content, kind, attributes)


def _patched_content(resource: Resource, request: Request) -> Write:
    if not is_json(resource.media_type):
        raise UnsupportedMediaType(request.content_type, (RESOURCE_JSON, RESOURCE_CBOR))
    patched = dump_json(merge_patch(load_json(resource.content or b"null", "content"), load_json(request.payload)))
    return content_write(resource.path, patched, resource.media_type, resource.attributes)
