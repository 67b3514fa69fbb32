"""What requests at and below `Operations` mean: from a request and the tree to a response, or to a unit and its response. Pure.

The tree's own rules do most of it. Here is what they do not know: that only subjects have operations, that the collections stand
without having been made, that an operation keeps who wrote it, and that dependencies may be written inside their operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from m2mapp.formats.documents import JSON, dump_json, load_document
from m2mapp.model.errors import Conflict, MethodNotAllowed, NoSuchResource, TooLarge
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.paths import check_path
from m2mapp.tree.representation import render
from m2mapp.tree.resources import Decision, ResourceRules, child_name
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import COLLECTION, CONTENT, EMPTY, Change, Remove, Requirement, Resource, Unit, Write
from m2mapp.triggers.author import WRITTEN_BY, kept_author
from m2mapp.triggers.operation import MAX_DEPENDENCIES, checked_operation
from m2mapp.triggers.places import DEPENDENCIES, DEPENDENCY_TYPE, OPERATION_TYPE, OPERATIONS, RESULT, subject_of

MAX_OPERATIONS = 4096
"""So many operations has one subject at most: each is looked at when it changes."""
SUBJECT_TYPES = frozenset({CONTENT, "timer"})
_OPERATION, _DEPENDENCY = 2, 2
"""So many names lead from a subject to an operation, and from an operation to a dependency."""

Warn = Callable[[Path, Mapping[str, object]], Sequence[str]]
"""From where an operation is to stand and its document to what its writer should know."""


def decide(rules: ResourceRules, tree: Tree, request: Request, warn: Warn) -> Response | Decision:
    """Answer a read, or decide a write, at or below a subject's operations. Raises the `Fault` that says why not."""
    path = request.path
    subject = subject_of(path) or ()
    _check_subject(tree, subject)
    operation, beside = path[len(subject) + 1 : len(subject) + 2], path[len(subject) + 2 :]
    if not operation or beside == (DEPENDENCIES,):
        return _collection(rules, tree, request, warn)
    if beside not in ((), (RESULT,)) and (len(beside) != _DEPENDENCY or beside[0] != DEPENDENCIES):
        raise NoSuchResource(path_text(path))
    if request.method is Method.GET or (request.method is Method.DELETE and not beside):
        return rules.decide(request)
    return _write(rules, tree, request, warn)


def _check_subject(tree: Tree, subject: Path) -> None:
    there = tree.expected(subject)
    if there is None:
        raise NoSuchResource(path_text(subject))
    if there.type not in SUBJECT_TYPES:
        raise Conflict(f"{path_text(subject)} is a {there.type}: only content resources and timers have operations")


def _collection(rules: ResourceRules, tree: Tree, request: Request, warn: Warn) -> Response | Decision:
    """`Operations`, or `Dependencies`: it stands wherever what it belongs to does, whether something is in it or not."""
    path = request.path
    if path[-1] == DEPENDENCIES and tree.expected(path[:-1]) is None:
        raise NoSuchResource(path_text(path[:-1]))
    if request.method is Method.POST:
        return _create(rules, tree, request, warn)
    there = tree.find(path)
    if request.method is Method.GET and there is None:
        return render(Resource(path, COLLECTION, EMPTY, None, None, 0, 0, 0), None, tree, request)
    if request.method is Method.GET or (request.method is Method.DELETE and path[-1] == OPERATIONS):
        return rules.decide(request)
    if request.method is Method.DELETE:
        return _write(rules, tree, request, warn)
    raise MethodNotAllowed(request.method.value, path_text(path), ("GET", "POST", "DELETE"))


def _create(rules: ResourceRules, tree: Tree, request: Request, warn: Warn) -> Response | Decision:
    """A POST to a collection: a PUT of a child that must not be there."""
    path = request.path
    given = load_document(request.payload, request.content_type)
    name = request.query_value("name")
    child = (*path, child_name(tree, path, given.get("name") if name is None else name))
    decided = _write(rules, tree, request._replace(method=Method.PUT, path=child), warn)
    if isinstance(decided, Response):
        return decided
    unit = decided.unit
    return replace(decided, unit=replace(unit, requires=(*unit.requires, Requirement(child, exists=False))))


def _write(rules: ResourceRules, tree: Tree, request: Request, warn: Warn) -> Response | Decision:
    _check_room(tree, request.path)
    decided = rules.decide(request)
    if isinstance(decided, Response):
        return decided
    subject = subject_of(request.path) or ()
    unit = replace(decided.unit, requires=(*decided.unit.requires, Requirement(subject, exists=True)))
    if len(request.path) > len(subject) + _OPERATION:
        return replace(decided, unit=_taken_over(unit, tree, request, request.path[: len(subject) + _OPERATION]))
    given = load_document(request.payload, request.content_type)
    changes = operation_writes(unit.changes, given, request)
    kept = next(part.attributes for part in changes if isinstance(part, Write) and part.path == request.path)
    told = warn(request.path, kept)
    answer = _with_warnings(decided.answer, told) if told else decided.answer
    return Decision(replace(unit, changes=changes), answer)


def _check_room(tree: Tree, path: Path) -> None:
    """Raise `TooLarge` where a collection that is full would get one more."""
    most = {OPERATIONS: MAX_OPERATIONS, DEPENDENCIES: MAX_DEPENDENCIES}.get(path[-2])
    if most is not None and tree.expected(path) is None and len(tree.children(path[:-1], limit=most)) >= most:
        raise TooLarge(path_text(path[:-1]), most, path[-2].lower())


def _taken_over(unit: Unit, tree: Tree, request: Request, operation: Path) -> Unit:
    """Who changes an operation's dependencies has written the operation: they are fetched with its rights."""
    there = tree.expected(operation)
    author = kept_author(request.principal)
    if request.path == (*operation, RESULT) or there is None or there.attributes.get(WRITTEN_BY) == author:
        return unit
    return replace(unit, changes=(*unit.changes, Write(operation, there.type, {**there.attributes, WRITTEN_BY: author})))


def operation_writes(changes: Iterable[Write | Remove], given: Mapping[str, object], request: Request) -> tuple[Write | Remove, ...]:
    """The writes of operations with who wrote them, and with the dependencies that were given inside the document of the one."""
    author = kept_author(request.principal)
    done: list[Write | Remove] = []
    for part in changes:
        if not isinstance(part, Write) or part.type != OPERATION_TYPE:
            done.append(part)
            continue
        done.append(replace(part, attributes={**part.attributes, WRITTEN_BY: author}))
        if given.get("dependencies") is not None:
            checked = checked_operation(_whole(part, given))
            done += dependency_writes(part.path, cast("list[Mapping[str, object]]", checked["dependencies"]))
    return tuple(done)


def dependency_writes(operation: Path, dependencies: Sequence[Mapping[str, object]]) -> list[Write | Remove]:
    """These dependencies and no others stand below the operation."""
    below = (*operation, DEPENDENCIES)
    writes: list[Write | Remove] = [Remove(below)]
    for one in dependencies:
        path = check_path((*below, str(one["name"])), "dependencies")
        writes.append(Write(path, DEPENDENCY_TYPE, {name: value for name, value in one.items() if name != "name"}))
    return writes


def _whole(part: Write, given: Mapping[str, object]) -> dict[str, object]:
    """What is kept of an operation together with the dependencies that came with it."""
    return {**part.attributes, "dependencies": given["dependencies"]}


def _with_warnings(answer: Callable[[tuple[Change, ...]], Response], told: Sequence[str]) -> Callable[[tuple[Change, ...]], Response]:
    def warned(changes: tuple[Change, ...]) -> Response:
        return answer(changes)._replace(payload=dump_json({"warnings": list(told)}), content_type=JSON)

    return warned
