"""Groups: the list; one group with its members as they are now, its ways to them, its record; asking it, taking members out, ending it.

Making and changing a group is `group_form`; an answer as it comes in `asked`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from m2mapp.admin.asking import Askings, asked_topic
from m2mapp.admin.effects import tell_leaves
from m2mapp.admin.groupings import (
    CONTENT,
    GROUP,
    GROUPS,
    MEMBERS,
    Joins,
    joins_of,
    members_in,
    owed_in,
    pairs,
    places_of,
    sets_in,
    texts,
    ways_of,
)
from m2mapp.admin.natural import natural
from m2mapp.admin.pages import Answer, Page, Redirect, Shown
from m2mapp.admin.views import asked as asked_view
from m2mapp.admin.views.group_members import ONLY, members_page
from m2mapp.admin.visit import Visit
from m2mapp.model.errors import Malformed, NoSuchResource
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method, Request
from m2mapp.model.principal import Right
from m2mapp.tree.access import check_access
from m2mapp.tree.paths import parse_path
from m2mapp.tree.unit import Entry, Resource

_AT = "/admin/groups"
_LISTED, _CHUNK, _LOOKED_AT = 100, 500, 20_000
_RECORDS, _RECORDS_OF_LARGE, _LARGE, _NAMED = 20, 5, 1000, 500
_NUMBER = re.compile("[0-9]{1,18}")
_METHODS = {"GET": "read", "PUT": "write", "POST": "post"}


@dataclass(frozen=True, slots=True)
class Row:
    """One group in the list."""

    name: str
    kind: str
    size: int
    joins: Joins


@dataclass(frozen=True, slots=True)
class Record:
    """One group request of the past: how many answered well, refused and stayed silent."""

    entry: Entry
    ok: int
    refused: int
    silent: int


def groups(askings: Askings) -> Page:
    """The page of all groups, and of each: `/admin/groups/<name>`, and of one entry of its record, `/admin/groups/<name>/past/<number>`."""

    async def ask(visit: Visit) -> Answer:
        return await _ask(visit, askings)

    return Page("groups", "Groups", _show, {"ask": ask, "take-out": _take_out, "delete": _delete})


async def _show(visit: Visit) -> Answer:
    if not visit.rest:
        return _list(visit)
    resource = _group(visit, visit.rest[:1])
    name = resource.path[-1]
    if len(visit.rest) == 1:
        return await _one(visit, name, resource)
    if len(visit.rest) == 3 and visit.rest[1] == "past" and _NUMBER.fullmatch(visit.rest[2]):  # noqa: PLR2004 - past and its number
        return await _past(visit, name, int(visit.rest[2]))
    raise NoSuchResource(_AT + "/" + "/".join(visit.rest))


# The list.


def _list(visit: Visit) -> Answer:
    text, after = visit.query("find").strip(), visit.query("after") or None
    rows: list[Row] = []
    following = ""
    for resource in _found(visit, text.lower(), after):
        if len(rows) == _LISTED:
            following = rows[-1].name
            break
        rows.append(_row(visit, resource))
    if not following and after is None:
        rows.sort(key=lambda row: natural(row.name))
    roles = visit.node.describe().get("roles")
    values = {
        "rows": rows,
        "find": text,
        "next": following,
        "may_make": visit.may(Right.WRITE, GROUPS),
        "serves": isinstance(roles, list | tuple) and "groups" in roles,
    }
    return Shown("groups.html", values)


def _found(visit: Visit, text: str, after: str | None) -> Iterator[Resource]:
    """The groups whose name has the text, by name; of so many at most."""
    looked_at = 0
    while looked_at < _LOOKED_AT:
        part = visit.children(GROUPS, after, _CHUNK)
        for resource in part:
            if resource.type == GROUP and text in resource.path[-1].lower() and visit.may_read(resource.path):
                yield resource
        if len(part) < _CHUNK:
            return
        looked_at, after = looked_at + len(part), part[-1].path[-1]


def _row(visit: Visit, resource: Resource) -> Row:
    name, members = resource.path[-1], resource.attributes.get("members")
    size = len(members) if isinstance(members, list | tuple) else 0
    return Row(name, str(resource.attributes["type"]), size, joins_of(sets_in(visit.node.tree, name)))


# One group.


def _group(visit: Visit, name: Path) -> Resource:
    """The group of that name, which is what follows the page's in the path. Raises `NoSuchResource`."""
    path = (*GROUPS, *name)
    found = visit.find(path)
    if found is None or found.type != GROUP:
        raise NoSuchResource("/".join(("", *path)))
    return found


async def _one(visit: Visit, name: str, resource: Resource) -> Answer:
    sets, size = sets_in(visit.node.tree, name), len(members_in(resource))
    only = visit.query("only") if visit.query("only") in ONLY else ""
    members = await members_page(visit, name, places_of(sets), only)
    values: Mapping[str, object] = {
        "name": name,
        "group": resource,
        "size": size,
        "joins": joins_of(sets),
        "ways": ways_of(sets),
        "members": members,
        "only": only,
        "choices": ONLY,
        "find": visit.query("find").strip(),
        "records": [_record(entry) for entry in await _entries(visit, name, _RECORDS if size <= _LARGE else _RECORDS_OF_LARGE)],
        "owed": len(owed_in(visit.node.tree, name)),
        "circles": resource.attributes.get("circles"),
        "may_change": visit.may_write(resource.path),
        "may_ask": visit.may_read((*resource.path, CONTENT)),
        "methods": [(key, words) for key, words in _METHODS.items() if key == "GET" or visit.may_write((*resource.path, CONTENT))],
        "asked_topic": asked_topic(name),
    }
    return Shown("group.html", values, f"Group {name}")


async def _entries(visit: Visit, name: str, limit: int) -> list[Entry]:
    """The last entries of the group's record, the newest first."""
    return (await visit.journal(_journal(name), (*GROUPS, name, CONTENT), limit))[::-1]


def _journal(name: str) -> str:
    """The journal in which the group server keeps what came of the requests to a group."""
    return f"groups/{name}"


def _record(entry: Entry) -> Record:
    statuses = pairs(entry.body.get("statuses"))
    ok = sum(1 for status in statuses.values() if status.startswith("2"))
    return Record(entry, ok, len(statuses) - ok, len(texts(entry.body.get("silent"))))


async def _past(visit: Visit, name: str, number: int) -> Answer:
    check_access(visit.principal, Method.GET, (*GROUPS, name, CONTENT))
    entries: list[Entry] = await visit.node.journals.read_journal(_journal(name), after=number - 1, limit=1)
    if not entries or entries[0].number != number:
        raise NoSuchResource(f"{_AT}/{name}/past/{number}")
    [found] = entries
    statuses, contents = pairs(found.body.get("statuses")), found.body.get("values")
    known = contents if isinstance(contents, Mapping) else {}
    answers = [(uri, status, _text(known.get(uri))) for uri, status in statuses.items()]
    # Those that refused first: they are what one looks for.
    answers.sort(key=lambda answer: (answer[1].startswith("2"), answer[0]))
    silent = texts(found.body.get("silent"))
    values = {
        "name": name,
        "record": _record(found),
        "answers": answers[:_NAMED],
        "count": len(answers),
        "silent": silent[:_NAMED],
    }
    return Shown("group-past.html", values, f"Group {name}: a request of the past")


def _text(content: object) -> str:
    return content if isinstance(content, str) else f"{len(content)} bytes" if isinstance(content, bytes) else ""


# What can be done.


async def _ask(visit: Visit, askings: Askings) -> Answer:
    resource = _group(visit, visit.rest)
    name = resource.path[-1]
    method = visit.field("method", "GET")
    if method not in _METHODS:
        raise Malformed("method", method, f"one of {', '.join(_METHODS)}")
    path = (*resource.path, CONTENT, *_suffix(visit.field("suffix").strip()))
    request = Request(Method(method), path)
    if request.method is not Method.GET:
        payload, media_type = visit.field("content").encode(), visit.field("type").strip() or "text/plain"
        request = request._replace(payload=payload, content_type=media_type)
    one = askings.begin(visit, name, request, members_in(resource))
    return Redirect(f"/admin/{asked_view.NAME}/{one.id}")


def _suffix(text: str) -> Path:
    """What follows the members' own path. Raises `Malformed`."""
    return parse_path("/" + text.lstrip("/"), "suffix")


async def _take_out(visit: Visit) -> Answer:
    resource, uri = _group(visit, visit.rest), visit.field("uri")
    await visit.send(Request(Method.DELETE, (*resource.path, MEMBERS), query=(("uri", uri),)))
    name = resource.path[-1]
    tell_leaves(visit, resource, f"{uri} is taken out of {name}")
    return Redirect(f"{_AT}/{quote(name, safe='')}")


async def _delete(visit: Visit) -> Answer:
    resource = _group(visit, visit.rest)
    await visit.send(Request(Method.DELETE, resource.path))
    tell_leaves(visit, resource, f"the group {resource.path[-1]} is ended")
    return Redirect(_AT)
