"""Operations: all that there are, making and changing them, what one would do, what it did and why it did not (spec section 7).

All of it is read and written by the same requests that any program sends: nothing is known here that `Operations` does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from m2mapp.admin.natural import natural
from m2mapp.admin.operation_form import (
    INPUTS,
    METHODS,
    TWICE,
    dependency_document,
    operation_document,
    operation_fields,
    tried_value,
)
from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.rule_check import RuleCheck, check_rule
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import load_json
from m2mapp.formats.uris import path_uri
from m2mapp.model.errors import Conflict, Fault, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import Method
from m2mapp.tree.paths import check_path, parse_path
from m2mapp.tree.unit import CONTENT, Resource

OPERATION = "operation"
"""The resource type."""
TIMER = "timer"
_OPERATIONS, _DEPENDENCIES = "Operations", "Dependencies"
_AT = "/admin/operations"
_SHOWN = 100
_EVALUATIONS = 30
_MOST = 20_000
"""So many resources are looked through for operations at most."""
_GRADES = {
    "ran": "good",
    "failed": "bad",
    "interrupted": "bad",
    "expired": "bad",
    "circle": "bad",
    "away": "warning",
    "replaced": "warning",
}
_CHOICES = {"inputs": INPUTS, "methods": METHODS, "twice": TWICE, "grades": _GRADES}


def operation_pages() -> tuple[Page, Page]:
    """The page of operations, and the rule that is checked while it is typed."""
    acts = {
        "make": _make,
        "change": _change,
        "delete": _delete,
        "try": _try,
        "add-dependency": _add_dependency,
        "remove-dependency": _remove_dependency,
    }
    return Page("operations", "Operations", _show, acts), Page("rule", "Rule", _check, listed=False)


async def _show(visit: Visit) -> Answer:
    return await _one(visit, None) if visit.rest else await _all(visit)


# The list.


async def _all(visit: Visit) -> Answer:
    """The operations that the visitor may read, by their paths, those that a search finds."""
    wanted, after = visit.query("q").strip().lower(), natural(visit.query("after"))
    found = (one for one in _operations(visit) if wanted in _searched(one) and _order(one) > after)
    shown = list(islice(found, _SHOWN + 1))
    more = len(shown) > _SHOWN
    del shown[_SHOWN:]
    fields = {**operation_fields({}), "subject": visit.query("subject")}
    values: Mapping[str, object] = {
        "operations": [(one, await visit.document(one.path), operation_uri(one.path)) for one in shown],
        "next": path_text(shown[-1].path) if more else None,
        "wanted": visit.query("q"),
        "fields": fields,
        "check": check_rule(visit.field("rule"), _subject_typed(visit)),
        "mayMake": visit.may_write(("temperature", _OPERATIONS, "x")),
        **_CHOICES,
    }
    return Shown("operations.html", values)


def _operations(visit: Visit) -> Iterator[Resource]:
    walked = islice(visit.node.tree.walk(), _MOST)
    found = [one for one in walked if one.type == OPERATION and visit.may_read(one.path)]
    return iter(sorted(found, key=_order))


def _order(operation: Resource) -> tuple[str, str]:
    return natural(path_text(operation.path))


def _searched(operation: Resource) -> str:
    given = operation.attributes
    return " ".join((path_text(operation.path), str(given.get("rule")), str(given.get("objectResource")))).lower()


def _subject_typed(visit: Visit) -> Resource | None:
    """The resource that the form for a new operation names, where the visitor may read it."""
    try:
        return visit.find(parse_path(visit.field("subject")))
    except Fault:
        return None


# One operation.


async def _one(visit: Visit, tried: Mapping[str, object] | None) -> Answer:
    """An operation with its trace. `tried`: what it would do, as was just asked."""
    path, subject = _operation_path(visit.rest), visit.rest[:-2]
    document = await visit.document(path)
    evaluations = await visit.document((*path, "evaluations"), (("limit", str(_EVALUATIONS)),))
    chosen = visit.query("evaluation")
    resource = visit.find(path)
    there = _readable(visit, subject)
    fields = operation_fields(document)
    values: Mapping[str, object] = {
        "path": path,
        "subject": subject,
        "standing": there,
        "value": _in_short(there),
        "document": document,
        "fields": fields,
        "check": _check_of_form(visit, fields["rule"], there),
        "version": resource.version if resource is not None else 0,
        "evaluations": evaluations.get("evaluations", []),
        "chosen": await visit.document((*path, "evaluations", chosen)) if chosen else document.get("lastEvaluation"),
        "asked": bool(chosen),
        "tried": tried,
        "at": operation_uri(path),
        "mayChange": visit.may_write(path),
        **_CHOICES,
    }
    return Shown("operation.html", values, path[-1])


def _check_of_form(visit: Visit, kept: str, subject: Resource | None) -> RuleCheck | None:
    """What is told of the rule in the form that was sent, else of the one that is kept; a dependency's is not on the subject's content."""
    if visit.field("do") == "add-dependency":
        return check_rule(visit.field("rule"))
    return check_rule(visit.field("rule", kept), subject)


def _operation_path(path: Path) -> Path:
    """The path, if an operation may stand there. Raises `NoSuchResource`."""
    if len(path) < 3 or path[-2] != _OPERATIONS:  # noqa: PLR2004 - subject, collection, operation
        raise NoSuchResource(path_text(path))
    return path


def operation_uri(path: Path) -> str:
    """Where the page of an operation is."""
    return _AT + path_uri(path)


def _readable(visit: Visit, path: Path) -> Resource | None:
    return visit.find(path) if visit.may_read(path) else None


def _in_short(resource: Resource | None) -> str:
    """The content of a subject, to begin with what is tried."""
    if resource is None or resource.content is None or len(resource.content) > 4096:  # noqa: PLR2004 - what is typed is short
        return ""
    return resource.content.decode(errors="replace")


# What can be done.


async def _make(visit: Visit) -> Answer:
    subject = check_path(parse_path(visit.field("subject").strip() or "/"))
    resource = visit.find(subject)
    if resource is None or resource.type not in (CONTENT, TIMER):
        raise NoSuchResource(f"{path_text(subject)} with a content: operations are set off by the changes of one")
    document = operation_document(visit.field)
    name = visit.field("name").strip()
    response = await visit.write_document(Method.POST, (*subject, _OPERATIONS), {**document, **({"name": name} if name else {})})
    made = response.location or (*subject, _OPERATIONS, name)
    _warned(visit, f"{path_text(made)} is made: it is asked at each change of {path_text(subject)} from now on", response.payload)
    return Redirect(operation_uri(made))


async def _change(visit: Visit) -> Answer:
    """The operation as the form has it; its dependencies stay. A run in between is no change of it, and so there is no ETag to ask for."""
    path = _operation_path(visit.rest)
    document = operation_document(visit.field)
    resource = visit.find(path)
    if resource is None:
        raise NoSuchResource(path_text(path))
    if visit.field("version") != str(resource.version):
        raise Conflict(f"{path_text(path)} was changed by somebody else since you opened it: look at it as it is now, below what you typed")
    response = await visit.write_document(Method.PUT, path, document)
    _warned(visit, f"{path_text(path)} is changed", response.payload)
    return Redirect(operation_uri(path))


def _warned(visit: Visit, text: str, payload: bytes) -> None:
    """Tell that it is done, and of what its writer should know."""
    told = load_json(payload) if payload else {}
    warnings = told.get("warnings") if isinstance(told, dict) else None
    visit.done(text, "; ".join(str(one) for one in warnings) if isinstance(warnings, list) else "")


async def _delete(visit: Visit) -> Answer:
    path = _operation_path(visit.rest)
    await visit.write_document(Method.DELETE, path, {})
    visit.done(f"{path_text(path)} is deleted, with what it depended on and what it did")
    return Redirect(_AT)


async def _try(visit: Visit) -> Answer:
    """What would happen. Nothing is sent, and so the answer is the page itself."""
    path = _operation_path(visit.rest)
    response = await visit.write_document(Method.POST, (*path, "evaluate"), tried_value(visit.field))
    told = load_json(response.payload)
    return await _one(visit, told if isinstance(told, dict) else {})


async def _add_dependency(visit: Visit) -> Answer:
    path = _operation_path(visit.rest)
    document = dependency_document(visit.field)
    await visit.write_document(Method.POST, (*path, _DEPENDENCIES), document)
    visit.done(f"{path[-1]} depends on {document.get('uri')}")
    return Redirect(operation_uri(path))


async def _remove_dependency(visit: Visit) -> Answer:
    path, name = _operation_path(visit.rest), visit.field("dependency")
    await visit.write_document(Method.DELETE, check_path((*path, _DEPENDENCIES, name)), {})
    visit.done(f"{path[-1]} does not depend on {name} any more")
    return Redirect(operation_uri(path))


# The rule, while it is typed.


async def _check(visit: Visit) -> Answer:
    """What is told of `?rule=`, with what comes of it for the content at `?subject=`, where the visitor may read that."""
    subject = visit.query("subject")
    there = None
    if subject:
        try:
            there = visit.find(parse_path(subject))
        except Fault:
            there = None
    return Shown("rule-check.html", {"check": check_rule(visit.query("rule"), there)})
