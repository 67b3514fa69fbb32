"""Making, changing and ending groups: from a request to the unit that does it. Pure; addresses are taken by what the caller hands in.

The caller sees to it that of one group one edit at a time is decided and committed: each is planned from the sets that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m2mapp.formats.documents import MERGE_PATCH, bare, load_document, load_json
from m2mapp.formats.merge_patch import merge_patch
from m2mapp.formats.shapes import Field, Shape
from m2mapp.formats.uris import DEFAULT_PORTS, Uri, parse_uri
from m2mapp.groups.group import (
    DYNAMIC,
    FANOUT_SET,
    GROUP,
    GROUPS,
    MAX_MEMBERS,
    SETS,
    check_group,
    check_members,
    expected_sets,
    expires_ms,
    members_of,
)
from m2mapp.groups.leaves import owed
from m2mapp.groups.plan import Member, Policy, TakeAddress, plan
from m2mapp.groups.query import members_now, with_members
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import Malformed, MethodNotAllowed, NoSuchResource, NotSupported, UnsupportedMediaType
from m2mapp.model.identifiers import new_trace, path_text
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.tree.paths import check_segment
from m2mapp.tree.registrations import Device, Registrations
from m2mapp.tree.resources import Decision, child_name, written
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import named_as
from m2mapp.tree.unit import Change, Document, Remove, Requirement, Unit, Write

_MEMBERS = Shape({"members": Field(check_members)})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What planning looks at besides the group: the tree, who is registered, which URIs are this node's, the settings."""

    tree: Tree
    registrations: Registrations
    is_own: Callable[[Uri], bool]
    settings: GroupSettings


def new_name(around: Surroundings, request: Request) -> str:
    """The name of the group that POST /groups makes: as the request says (`?name=`, or in the document), else a free number.

    Raises `Malformed`, `TooLarge` or `UnsupportedMediaType`.
    """
    asked: object = request.query_value("name")
    if asked is None:
        asked = load_document(request.payload, request.content_type).get("name")
    return child_name(around.tree, GROUPS, asked)


def created(around: Surroundings, name: str, request: Request, take: TakeAddress) -> Decision:
    """POST /groups: a new group of that name. Raises `Malformed`, `Conflict`..."""
    kept = _checked(around, name, load_document(request.payload, request.content_type))
    return _described(around, name, kept, request, take, Requirement((*GROUPS, name), exists=False))


def put(around: Surroundings, request: Request, take: TakeAddress) -> Decision:
    """PUT /groups/<name>: what the group is from now on."""
    name = check_segment(request.path[1])
    kept = _checked(around, name, named_as(name, load_document(request.payload, request.content_type)))
    return _described(around, name, kept, request, take, Requirement(request.path, request.conditions))


def patched(around: Surroundings, request: Request, take: TakeAddress) -> Decision:
    """PATCH /groups/<name>: a merge patch of the group's document (RFC 7396)."""
    if bare(request.content_type) != MERGE_PATCH:
        raise UnsupportedMediaType(request.content_type, (MERGE_PATCH,))
    name = request.path[1]
    whole = merge_patch(_group(around.tree, name), load_json(request.payload))
    if not isinstance(whole, dict):
        raise Malformed("body", whole, "an object with named members")
    kept = _checked(around, name, named_as(name, whole))
    return _described(around, name, kept, request, take, Requirement(request.path, request.conditions, exists=True))


def removed(around: Surroundings, request: Request) -> Decision:
    """DELETE /groups/<name>."""
    requires = (Requirement(request.path, request.conditions, exists=True),)
    unit = Unit(_end(around, request.path[1]), requires=requires, trace=request.trace)
    return Decision(unit, lambda _: Response(Status.DELETED))


def ended(around: Surroundings, name: str, now_ms: int) -> Unit | None:
    """The end of a temporary group; None: it is none (any more), or its time has not come."""
    resource = around.tree.expected((*GROUPS, name))
    at_ms = expires_ms(resource) if resource is not None else None
    if at_ms is None or at_ms > now_ms:
        return None
    return Unit(_end(around, name), requires=(Requirement((*GROUPS, name), exists=True),), trace=new_trace())


def members_changed(around: Surroundings, request: Request, take: TakeAddress) -> Decision:
    """PUT, POST or DELETE of /groups/<name>/members: exactly these, these too, not this one (`?uri=`)."""
    name = request.path[1]
    group = _group(around.tree, name)
    if group["type"] == DYNAMIC:
        # Its members follow from its query: that is what can be changed.
        raise MethodNotAllowed(request.method.value, path_text(request.path), ("GET",))
    old = group["members"]
    members = list(old) if isinstance(old, list) else []
    if request.method is Method.DELETE:
        gone = parse_uri(request.query_value("uri") or "nothing", "uri").text()
        if gone not in members:
            raise NoSuchResource(f"{path_text(request.path)}?uri={gone}")
        members.remove(gone)
    else:
        given = _MEMBERS.check(load_document(request.payload, request.content_type))["members"]
        new = given if isinstance(given, list) else []
        members = list(dict.fromkeys(new if request.method is Method.PUT else [*members, *new]))
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise Malformed("members", len(members), f"a list of 1 to {MAX_MEMBERS}; DELETE the group to end it")
    decision = _described(
        around, name, {**group, "members": members}, request, take, Requirement((*GROUPS, name), request.conditions, exists=True)
    )
    status = Status.DELETED if request.method is Method.DELETE else Status.CHANGED
    return Decision(decision.unit, lambda _: Response(status))


def planned_again(around: Surroundings, name: str, take: TakeAddress, members: Sequence[str] | None = None) -> Unit | None:
    """What has to change in a group because its members' devices changed; None: nothing, or there is no such group.

    `members` are those that a dynamic group's query gives now.
    """
    resource = around.tree.expected((*GROUPS, name))
    if resource is None:
        return None
    kept = resource.attributes
    if members is not None and kept["type"] == DYNAMIC:
        kept = with_members(kept, members)
    changes: list[Write | Remove] = [Write(resource.path, GROUP, kept)] if kept != resource.attributes else []
    changes += _set_changes(around, name, kept, take)
    return Unit(tuple(changes), requires=(Requirement(resource.path, exists=True),)) if changes else None


def _checked(around: Surroundings, name: str, given: Document) -> Document:
    """A group's document as it is kept. The members that a dynamic group is shown with may be written back; they follow from its query."""
    there = around.tree.expected((*GROUPS, name))
    if given.get("type") == DYNAMIC and there is not None and given.get("members") == there.attributes["members"]:
        given = {key: value for key, value in given.items() if key != "members"}
    return check_group(name, given)


def _end(around: Surroundings, name: str) -> tuple[Write | Remove, ...]:
    """A group goes; what its devices have to leave is owed."""
    return Remove((*GROUPS, name)), *owed(around.tree, around.registrations, name, expected_sets(around.tree, name))


def _described(around: Surroundings, name: str, kept: Document, request: Request, take: TakeAddress, requirement: Requirement) -> Decision:
    path = (*GROUPS, name)
    if kept["type"] == DYNAMIC:
        kept = with_members(kept, members_now(around.tree, str(kept["query"])))
    changes: list[Write | Remove] = [Write(path, GROUP, kept)]
    changes += _set_changes(around, name, kept, take)
    answer: Callable[[tuple[Change, ...]], Response] = written(path)
    return Decision(Unit(tuple(changes), requires=(requirement,), trace=request.trace), answer)


def _set_changes(around: Surroundings, name: str, kept: Document, take: TakeAddress) -> list[Write | Remove]:
    settings = around.settings
    leisure = kept.get("leisure")
    policy = Policy(
        multicast_threshold=settings.multicast_threshold,
        address_per_set=settings.address_per_set,
        reliable=kept["reliable"] is True,
        leisure_s=leisure if isinstance(leisure, float) else None,
        kind=str(kept["type"]),
    )
    members = kept["members"]
    uris: Sequence[object] = members if isinstance(members, list) else ()
    before = expected_sets(around.tree, name)
    after = plan([_member(around, index, str(uri)) for index, uri in enumerate(uris)], policy, before, take)
    known = {one.name: one for one in before}
    changes: list[Write | Remove] = [
        Write((*GROUPS, name, SETS, one.name), FANOUT_SET, one.document()) for one in after if known.get(one.name) != one
    ]
    wanted = {one.name for one in after}
    changes += [Remove((*GROUPS, name, SETS, old)) for old in known if old not in wanted]
    return changes + owed(around.tree, around.registrations, name, before, after)


def _member(around: Surroundings, index: int, text: str) -> Member:
    """The member of that URI, which has been checked and is in its one form."""
    uri = parse_uri(text)
    local = around.is_own(uri)
    if local and uri.path[:1] == GROUPS:
        raise NotSupported(f"members[{index}]: {uri.text()} is a group of this node; groups in groups are not made by this version")
    return Member(uri, None if local else _device(around.registrations, uri), local, text)


def _device(registrations: Registrations, uri: Uri) -> Device | None:
    """The device that the URI means. Where a port other than the scheme's is named, it has to be the device's."""
    device = registrations.at_host(uri.host, uri.port)
    if device is None or uri.scheme != device.scheme or uri.port not in (device.port, DEFAULT_PORTS[uri.scheme]):
        return None
    return device


def _group(tree: Tree, name: str) -> Document:
    resource = tree.expected((*GROUPS, name))
    if resource is None:
        raise NoSuchResource(path_text((*GROUPS, name)))
    return {**resource.attributes, "members": list(members_of(resource))}
