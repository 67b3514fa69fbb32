"""Timers: time as a subject. What there is, when each fires next, making, changing and deleting them (spec section 7)."""

from __future__ import annotations

from m2mapp.admin.operation_form import SCHEDULES, timer_document, timer_fields
from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.views.operations import OPERATION, operation_uri
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import JSON, dump_json
from m2mapp.model.errors import Malformed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.messages import ANY_ETAG, Conditions, Method, Request
from m2mapp.tree.paths import check_path

TIMERS: Path = ("timers",)
_AT = "/admin/timers"
_SHOWN = 200
_MISSED = (("run", "is made up for, once"), ("skip", "is left out"))


def timers_page() -> Page:
    """The page of timers; `/admin/timers/<name>` is where one is changed."""
    return Page("timers", "Timers", _show, {"make": _make, "change": _change, "delete": _delete}, listed=False)


async def _show(visit: Visit) -> Answer:
    timers, following = visit.part(TIMERS, _SHOWN)
    chosen: dict[str, object] = {}
    if visit.rest:
        chosen = await visit.document(_path(visit))
    values = {
        "timers": [(one.path[-1], await visit.document(one.path), _operations(visit, one.path)) for one in timers],
        "next": following,
        "name": visit.rest[0] if visit.rest else "",
        "fields": timer_fields(chosen),
        "schedules": SCHEDULES,
        "missed": _MISSED,
        "mayWrite": visit.may_write((*TIMERS, "x")),
    }
    return Shown("timers.html", values, f"Timer {visit.rest[0]}" if visit.rest else "")


def _path(visit: Visit) -> Path:
    if len(visit.rest) != 1:
        raise NoSuchResource(path_text((*TIMERS, *visit.rest)))
    return (*TIMERS, *visit.rest)


def _operations(visit: Visit, timer: Path) -> list[tuple[str, str]]:
    """The operations that a timer sets off: name and page."""
    return [(one.path[-1], operation_uri(one.path)) for one in visit.node.tree.children((*timer, "Operations")) if one.type == OPERATION]


async def _make(visit: Visit) -> Answer:
    name = visit.field("name").strip()
    if not name:
        raise Malformed("name", name, "a name, such as night")
    await _write(visit, check_path((*TIMERS, name)), Conditions(if_none_match=(ANY_ETAG,)))
    return Redirect(_AT)


async def _change(visit: Visit) -> Answer:
    await _write(visit, _path(visit), Conditions(if_match=(ANY_ETAG,)))
    return Redirect(_AT)


async def _write(visit: Visit, path: Path, conditions: Conditions) -> None:
    payload = dump_json(timer_document(visit.field))
    await visit.send(Request(Method.PUT, path, payload=payload, content_type=JSON, conditions=conditions))
    following = (await visit.document(path)).get("next")
    visit.done(f"the timer {path[-1]} is set", f"it fires at {following}" if following else "it does not fire any more")


async def _delete(visit: Visit) -> Answer:
    path = check_path((*TIMERS, visit.field("timer")))
    await visit.send(Request(Method.DELETE, path))
    visit.done(f"the timer {path[-1]} is deleted, with its operations")
    return Redirect(_AT)
