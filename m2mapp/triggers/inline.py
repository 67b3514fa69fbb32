"""Operations in the whole representation of their subject: `operations` and `operationURIs` (spec section 12).

`operations` are what stands in the subject's `Operations`: given, they are written there, these and no others; shown, they are read from
there. So there is one place where an operation stands. `operationURIs` are kept with the subject, and who wrote them: whose rights the
operations that stand elsewhere have here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from m2mapp.formats.shapes import Field, Shape, list_of
from m2mapp.model.errors import Malformed
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Request
from m2mapp.tree.paths import check_path
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Members
from m2mapp.tree.unit import Document, Remove, Resource, Write
from m2mapp.triggers.author import WRITTEN_BY, kept_author
from m2mapp.triggers.edit import dependency_writes
from m2mapp.triggers.links import check_link
from m2mapp.triggers.operation import checked_operation
from m2mapp.triggers.places import OPERATION_TYPE, OPERATIONS
from m2mapp.triggers.ties import TIES
from m2mapp.triggers.types import operation_document

MOST_INLINE = 100
MOST_URIS = 16
_URIS = "operationURIs"


def members() -> Members:
    """What operations bring to the whole representation of content resources."""
    return Members(frozenset({"operations", _URIS}), OPERATIONS, TIES, _keep, _settable, _show)


def _keep(path: Path, given: Document, request: Request) -> tuple[object, tuple[Write | Remove, ...]]:
    values = _SHAPE.check(given)
    kept = {_URIS: values[_URIS], WRITTEN_BY: kept_author(request.principal)} if values[_URIS] else None
    if values["operations"] is None:
        return kept, ()
    below = (*path, OPERATIONS)
    writes: list[Write | Remove] = [Remove(below)]
    for index, one in enumerate(cast("list[object]", values["operations"])):
        writes += _operation_writes(below, one, f"operations[{index}]", request)
    return kept, tuple(writes)


def _operation_writes(below: Path, one: object, where: str, request: Request) -> list[Write | Remove]:
    if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
        raise Malformed(where, one, 'an operation with its name: {"name": "TurnOnAC", "rule": ..., "objectResource": ..., "method": ...}')
    path = check_path((*below, one["name"]), f"{where}.name")
    kept = checked_operation({name: value for name, value in one.items() if name != "name"}, f"{where}.")
    dependencies = cast("list[Mapping[str, object]]", kept.pop("dependencies", []))
    write = Write(path, OPERATION_TYPE, {**kept, WRITTEN_BY: kept_author(request.principal)})
    return [write, *dependency_writes(path, dependencies)]


def _settable(kept: object) -> Document:
    return {_URIS: kept[_URIS]} if isinstance(kept, Mapping) else {}


def _show(resource: Resource, tree: Tree) -> Document:
    below = tree.children((*resource.path, OPERATIONS), limit=MOST_INLINE)
    shown: dict[str, object] = {}
    operations = [operation_document(child, tree) for child in below if child.type == OPERATION_TYPE]
    if operations:
        shown["operations"] = operations
    return {**shown, **_settable(resource.attributes.get(TIES))}


_SHAPE = Shape(
    {"operations": Field(list_of(lambda value: value, most=MOST_INLINE), None), _URIS: Field(list_of(check_link, most=MOST_URIS), None)}
)
