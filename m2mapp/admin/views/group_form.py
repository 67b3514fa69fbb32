"""New group, and a group's description and members changed: members picked or pasted, the plan shown before anything is done.

The plan is the group server's own (`?explain`). Without a script each step is a page of its own: what was picked stands in the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from m2mapp.admin.effects import tell_joins, tell_leaves
from m2mapp.admin.groupings import GROUP, GROUPS, members_in, texts, ways_of
from m2mapp.admin.pages import Answer, Page, Redirect, Shown, View
from m2mapp.admin.picking import MOST_PICKED, Found, find
from m2mapp.admin.visit import Visit
from m2mapp.formats.documents import JSON, MERGE_PATCH, dump_json, load_json
from m2mapp.model.errors import Conflict, Malformed, NoSuchResource
from m2mapp.model.messages import Method, Request
from m2mapp.model.principal import Right
from m2mapp.tree.registrations import SCLS
from m2mapp.tree.unit import Resource

_EXPLAIN = (("explain", ""),)
_KINDS = (
    ("static", "static: these members"),
    ("dynamic", "dynamic: whoever a query finds"),
    ("temporary", "temporary: these members, until a time"),
)
_TRUE = "yes"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a group would be: its document, and who would go."""

    document: Mapping[str, object]
    gone: tuple[str, ...]


def group_forms() -> tuple[Page, Page]:
    """The page that makes a group, and the one that changes a group: `/admin/edit-group/<name>`."""
    acts: dict[str, View] = {"find": _show, "more": _more, "pick": _pick, "pick-all": _pick_all, "plan": _plan}
    new = Page("new-group", "New group", _show, {**acts, "save": _make}, listed=False)
    return new, Page("edit-group", "Change a group", _show, {**acts, "save": _change}, listed=False)


async def _show(visit: Visit) -> Answer:
    return _shown(visit, _members(visit))


async def _more(visit: Visit) -> Answer:
    return _shown(visit, _members(visit), after=visit.field("after"))


async def _pick(visit: Visit) -> Answer:
    return _shown(visit, _joined(_members(visit), visit.fields("pick")))


async def _pick_all(visit: Visit) -> Answer:
    return _shown(visit, _joined(_members(visit), _found(visit).uris))


async def _plan(visit: Visit) -> Answer:
    """The plan; the page's form beneath it, as it was filled in."""
    members, group = _members(visit), _group(visit)
    response = await visit.try_out(_request(visit, group, members)._replace(query=_EXPLAIN))
    document = load_json(response.payload)
    found: Mapping[str, object] = document if isinstance(document, Mapping) else {}
    now = set(texts(found.get("members")))
    gone = tuple(uri for uri in members_in(group) if uri not in now) if group is not None else ()
    return _shown(visit, members, Plan(found, gone))


def _found(visit: Visit, after: str = "") -> Found:
    path = visit.field("path").strip()
    registrations = visit.children(SCLS, limit=MOST_PICKED) if visit.may_read(SCLS) else []
    return find(registrations, visit.node.registrations.of, visit.field("find"), f"/{path.lstrip('/')}" if path else "", after)


def _shown(visit: Visit, members: list[str], plan: Plan | None = None, after: str = "") -> Answer:
    group = _group(visit)
    attributes: Mapping[str, object] = group.attributes if group is not None else {}
    values: Mapping[str, object] = {
        "group": group,
        "name": group.path[-1] if group is not None else "",
        "attributes": attributes,
        "kinds": _KINDS,
        "members": members,
        "listed": frozenset(members),
        "reliable": visit.field("reliable") == _TRUE if visit.form else attributes.get("reliable") is True,
        "found": _found(visit, after),
        "plan": plan,
        "ways": ways_of(_sets(plan)) if plan is not None else [],
        "may_write": visit.may(Right.WRITE, GROUPS if group is None else group.path),
    }
    return Shown("group-form.html", values, f"Change group {group.path[-1]}" if group is not None else "")


async def _make(visit: Visit) -> Answer:
    response = await visit.send(_request(visit, None, _members(visit)))
    name = response.location[-1] if response.location else visit.field("name")
    tell_joins(visit, name, f"the group {name} is made")
    return Redirect(f"/admin/groups/{quote(name, safe='')}")


async def _change(visit: Visit) -> Answer:
    group = _group(visit)
    if group is None or visit.field("version") != str(group.version):
        raise Conflict("somebody else has changed the group since this page was opened: look at it again, and change it then")
    name = group.path[-1]
    await visit.send(_request(visit, group, _members(visit)))
    tell_joins(visit, name, f"the group {name} is changed")
    now = visit.node.tree.find(group.path)
    if now is None or set(members_in(group)) - set(members_in(now)):
        tell_leaves(visit, group, f"members are taken out of {name}")
    return Redirect(f"/admin/groups/{quote(name, safe='')}")


# What the form says.


def _group(visit: Visit) -> Resource | None:
    """The group that is changed; None where one is made. Raises `NoSuchResource`."""
    if visit.page == "new-group" and not visit.rest:
        return None
    path = (*GROUPS, *visit.rest)
    found = visit.find(path)
    if found is None or found.type != GROUP:
        raise NoSuchResource("/".join(("", *path)))
    return found


def _members(visit: Visit) -> list[str]:
    """The members in the list, one a line; where nothing was sent yet, those that the group has."""
    if visit.form:
        return visit.field("members").split()
    group = _group(visit)
    return list(members_in(group)) if group is not None and group.attributes["type"] != "dynamic" else []


def _joined(members: list[str], more: list[str] | tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys([*members, *more]))


def _request(visit: Visit, group: Resource | None, members: list[str]) -> Request:
    """POST of a new group, or a patch of the one there is: only what the form has. Raises `Malformed`."""
    kind = visit.field("type")
    if kind not in dict(_KINDS):
        raise Malformed("type", kind, f"one of {', '.join(dict(_KINDS))}")
    if len(members) > MOST_PICKED:
        raise Malformed("members", len(members), f"at most {MOST_PICKED}")
    document: dict[str, object] = {
        "type": kind,
        "reliable": visit.field("reliable") == _TRUE,
        "members": None if kind == "dynamic" else members,
        "query": visit.field("query").strip() if kind == "dynamic" else None,
        "expires": visit.field("expires").strip() if kind == "temporary" else None,
    }
    if group is not None:
        return Request(Method.PATCH, group.path, payload=dump_json(document), content_type=MERGE_PATCH)
    given = {key: value for key, value in document.items() if value is not None}
    name = visit.field("name").strip()
    return Request(Method.POST, GROUPS, payload=dump_json({**given, **({"name": name} if name else {})}), content_type=JSON)


def _sets(plan: Plan) -> list[Mapping[str, object]]:
    sets = plan.document.get("fanoutSets")
    return [one for one in sets if isinstance(one, Mapping)] if isinstance(sets, list) else []
