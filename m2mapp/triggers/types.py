"""The types of resources that operations bring to the tree, and what their representations show (spec section 12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from m2mapp.model.messages import Method
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ANY, ANYWHERE, ResourceType
from m2mapp.tree.unit import Document, Resource
from m2mapp.triggers.author import WRITTEN_BY, author_in
from m2mapp.triggers.dependency import check_dependency
from m2mapp.triggers.operation import check_operation, check_result
from m2mapp.triggers.places import DEPENDENCIES, DEPENDENCY_TYPE, OPERATION_TYPE, OPERATIONS, RESULT, RESULT_TYPE
from m2mapp.triggers.ties import dependencies_of

More = Callable[[Resource], Mapping[str, object]]
"""What is shown of an operation beside what stands in the tree: its runs, warnings."""


def operation_types(more: More) -> tuple[ResourceType, ...]:
    """The types: an operation, a dependency, the result of an operation."""

    def describe(resource: Resource, tree: Tree) -> Document:
        return {**operation_document(resource, tree), **more(resource)}

    at_operation = (ANYWHERE, OPERATIONS, ANY)
    return (
        ResourceType(OPERATION_TYPE, at_operation, check_operation, describe, derived=True),
        ResourceType(DEPENDENCY_TYPE, (*at_operation, DEPENDENCIES, ANY), check_dependency, _describe_dependency),
        ResourceType(RESULT_TYPE, (*at_operation, RESULT), check_result, methods=frozenset({Method.GET, Method.PUT, Method.DELETE})),
    )


def operation_document(resource: Resource, tree: Tree) -> dict[str, object]:
    """An operation with its dependencies and its result."""
    kept = {name: value for name, value in resource.attributes.items() if name != WRITTEN_BY}
    shown: dict[str, object] = {"name": resource.path[-1], **kept}
    dependencies = dependencies_of(tree, resource.path)
    if dependencies:
        shown["dependencies"] = dependencies
    shown["writtenBy"] = author_in(resource.attributes).name
    result = tree.find((*resource.path, RESULT))
    shown["result"] = dict(result.attributes) if result is not None else None
    return shown


def _describe_dependency(resource: Resource, _: Tree) -> Document:
    return {"name": resource.path[-1], **resource.attributes}
