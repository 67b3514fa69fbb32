"""Making, changing and ending groups: from a request to the unit that does it. Pure; addresses are taken by what the caller hands in.

What a plan would have needed to know, and does not, stands in `Taking.needs`: the caller may find it out and decide again. The caller
sees to it that of one group one edit at a time is decided and committed: each is planned from the sets that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from m2mapp.formats.documents import JSON, MERGE_PATCH, bare, dump_json, load_document, load_json
from m2mapp.formats.merge_patch import merge_patch
from m2mapp.formats.shapes import Field, Shape
from m2mapp.formats.uris import DEFAULT_PORTS, Uri, parse_uri, path_uri
from m2mapp.groups.elsewhere import Elsewhere
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
from m2mapp.groups.ledger import Taking
from m2mapp.groups.lending import address_changes, held_changes
from m2mapp.groups.nested import GroupGraph, KnownGroups, group_at, group_name
from m2mapp.groups.plan import GroupServer, Member, Policy, plan
from m2mapp.groups.query import members_now, with_members
from m2mapp.groups.settings import GroupSettings
from m2mapp.groups.subgroup import name_elsewhere
from m2mapp.model.errors import Malformed, MethodNotAllowed, NoSuchResource, UnsupportedMediaType
from m2mapp.model.identifiers import new_trace, path_text
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.tree.paths import check_segment, parse_path
from m2mapp.tree.registrations import Device, Registrations
from m2mapp.tree.resources import Decision, child_name, written
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import named_as
from m2mapp.tree.unit import Change, Document, Remove, Requirement, Unit, Write

_MEMBERS = Shape({"members": Field(check_members)})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What planning looks at besides the group: the tree, who is registered here and elsewhere, which URIs are this node's, the settings.

    `node_name` and `node_uri` name this node at others. `known_groups`: what is known of groups there.
    """

    tree: Tree
    registrations: Registrations
    is_own: Callable[[Uri], bool]
    settings: GroupSettings
    elsewhere: Elsewhere
    node_name: str
    node_uri: str
    known_groups: KnownGroups = field(default_factory=KnownGroups)

    @property
    def graph(self) -> GroupGraph:
        """The groups here and elsewhere."""
        return GroupGraph(self.tree, self.is_own, self.group_uri, self.known_groups)

    def group_uri(self, group: str) -> str:
        """The URI of a group of this node."""
        return f"{self.node_uri}{path_uri((*GROUPS, group))}"


def new_name(around: Surroundings, request: Request) -> str:
    """The name of the group that POST /groups makes: as the request says (`?name=`, or in the document), else a free number.

    Raises `Malformed`, `TooLarge` or `UnsupportedMediaType`.
    """
    asked: object = request.query_value("name")
    if asked is None:
        asked = load_document(request.payload, request.content_type).get("name")
    return child_name(around.tree, GROUPS, asked)


def created(around: Surroundings, name: str, request: Request, take: Taking) -> Decision:
    """POST /groups: a new group of that name. Raises `Malformed`, `Conflict`..."""
    kept = _checked(around, name, load_document(request.payload, request.content_type))
    return _described(around, name, kept, request, take, Requirement((*GROUPS, name), exists=False))


def put(around: Surroundings, request: Request, take: Taking) -> Decision:
    """PUT /groups/<name>: what the group is from now on."""
    name = check_segment(request.path[1])
    kept = _checked(around, name, named_as(name, load_document(request.payload, request.content_type)))
    return _described(around, name, kept, request, take, Requirement(request.path, request.conditions))


def patched(around: Surroundings, request: Request, take: Taking) -> Decision:
    """PATCH /groups/<name>: a merge patch of the group's document (RFC 7396)."""
    if bare(request.content_type) != MERGE_PATCH:
        raise UnsupportedMediaType(request.content_type, (MERGE_PATCH,))
    name = request.path[1]
    whole = merge_patch(_group(around.tree, name), load_json(request.payload))
    if not isinstance(whole, dict):
        raise Malformed("body", whole, "an object with named members")
    kept = _checked(around, name, named_as(name, whole))
    return _described(around, name, kept, request, take, Requirement(request.path, request.conditions, exists=True))


def removed(around: Surroundings, request: Request, take: Taking) -> Decision:
    """DELETE /groups/<name>. Its addresses rest."""
    name = request.path[1]
    requires = (Requirement(request.path, request.conditions, exists=True),)
    addresses = address_changes(around.group_uri(name), expected_sets(around.tree, name), (), take.ledger)
    unit = Unit((*_end(around, name), *addresses), requires=requires, trace=request.trace)
    return Decision(unit, lambda _: Response(Status.DELETED))


def ended(around: Surroundings, name: str, now_ms: int) -> Unit | None:
    """The end of a temporary group, which has no multicast address; None: it is none (any more), or its time has not come."""
    resource = around.tree.expected((*GROUPS, name))
    at_ms = expires_ms(resource) if resource is not None else None
    if at_ms is None or at_ms > now_ms:
        return None
    return Unit(_end(around, name), requires=(Requirement((*GROUPS, name), exists=True),), trace=new_trace())


def members_changed(around: Surroundings, request: Request, take: Taking) -> Decision:
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
    return replace(decision, answer=lambda changes: decision.answer(changes)._replace(status=status, etag=None))


def planned_again(around: Surroundings, name: str, take: Taking, members: Sequence[str] | None = None) -> Unit | None:
    """What has to change in a group because its members' devices changed; None: nothing, or there is no such group.

    `members` are those that a dynamic group's query gives now.
    """
    resource = around.tree.expected((*GROUPS, name))
    if resource is None:
        return None
    kept = resource.attributes
    if members is not None and kept["type"] == DYNAMIC:
        kept = with_members(kept, members)
    kept = _with_circles(around, name, kept, take)
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


def _described(around: Surroundings, name: str, kept: Document, request: Request, take: Taking, requirement: Requirement) -> Decision:
    path = (*GROUPS, name)
    if kept["type"] == DYNAMIC:
        kept = with_members(kept, members_now(around.tree, str(kept["query"])))
    take.needs.fresh = True
    kept = _with_circles(around, name, kept, take)
    changes: list[Write | Remove] = [Write(path, GROUP, kept)]
    changes += _set_changes(around, name, kept, take)
    before = around.tree.expected(path)
    answer = _told_of_circles(written(path), before.attributes if before is not None else {}, kept)
    return Decision(Unit(tuple(changes), requires=(requirement,), trace=request.trace), answer)


def _with_circles(around: Surroundings, name: str, kept: Document, take: Taking) -> Document:
    """The group with the circles through it, which are allowed and told; what other servers say of the groups on the way is needed."""
    graph, uri, members = around.graph, around.group_uri(name), _texts(kept["members"])
    take.needs.groups.update(dict.fromkeys((*graph.elsewhere(members), *graph.groups_in(members))))
    circles = graph.circles(uri, members)
    rest = {key: value for key, value in kept.items() if key != "circles"}
    return {**rest, "circles": circles} if circles else rest


_Told = Callable[[tuple[Change, ...]], Response]


def _told_of_circles(answer: _Told, before: Document, kept: Document) -> _Told:
    """An answer that says in which circles the group is, where one of them is new; they are shown, too, when it is read."""
    circles, known = kept.get("circles"), before.get("circles", [])
    if not isinstance(circles, list) or not isinstance(known, list) or all(circle in known for circle in circles):
        return answer
    return lambda changes: answer(changes)._replace(payload=dump_json({"circles": circles}), content_type=JSON)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _set_changes(around: Surroundings, name: str, kept: Document, take: Taking) -> list[Write | Remove]:
    uris = _texts(kept["members"])
    before = expected_sets(around.tree, name)
    found = _Finder(around, take)
    after = plan([found.member(uri) for uri in uris], _policy(around, name, kept), before, take, take.wide)
    known = {one.name: one for one in before}
    changes: list[Write | Remove] = [
        Write((*GROUPS, name, SETS, one.name), FANOUT_SET, one.document()) for one in after if known.get(one.name) != one
    ]
    wanted = {one.name for one in after}
    changes += [Remove((*GROUPS, name, SETS, old)) for old in known if old not in wanted]
    changes += owed(around.tree, around.registrations, name, before, after)
    changes += address_changes(around.group_uri(name), before, after, take.ledger)
    return changes + held_changes(around.tree, name, before, after, take.lent)


def _policy(around: Surroundings, name: str, kept: Document) -> Policy:
    settings = around.settings
    leisure = kept.get("leisure")
    there = path_uri((*GROUPS, name_elsewhere(around.node_name, name)))
    return Policy(
        multicast_threshold=settings.multicast_threshold,
        address_per_set=settings.address_per_set,
        reliable=kept["reliable"] is True,
        leisure_s=leisure if isinstance(leisure, float) else None,
        kind=str(kept["type"]),
        subgroup_threshold=settings.subgroup_threshold,
        virtual_path=parse_path(settings.virtual_uri.replace("{group}", name)),
        # A group that another server made here makes none elsewhere: two servers that take a device for each other's would never end.
        group_at=None if kept.get("for") else lambda server: server + there,
    )


class _Finder:
    """Finds whose the members of one group are. What is not known yet is noted among the needs of the plan."""

    def __init__(self, around: Surroundings, take: Taking) -> None:
        self._around, self._take = around, take
        self._through: dict[str, GroupServer] = {}

    def member(self, text: str) -> Member:
        """The member of that URI, which has been checked and is in its one form."""
        uri = parse_uri(text)
        own = self._around.is_own(uri)
        if self._is_group(uri, text, own=own):
            return Member(uri, None, local=own, given=text, is_group=True)
        if own:
            return Member(uri, None, local=True, given=text)
        device = _device(self._around.registrations.here(uri.host, uri.port), uri)
        if device is not None:
            return Member(uri, device, given=text)
        elsewhere = self._around.elsewhere
        outsider = elsewhere.of(uri.host)
        if outsider is not None:
            return Member(uri, _device(outsider.device, uri), given=text, through=self._server(outsider.server))
        if not elsewhere.is_known(uri.host):
            self._take.needs.hosts[uri.host] = None
        return Member(uri, None, given=text, unknown=elsewhere.why_unknown(uri.host))

    def _server(self, server: GroupServer) -> GroupServer:
        """The group server, with its device where it is registered here itself."""
        found = self._through.get(server.uri)
        if found is None:
            place = parse_uri(server.uri)
            found = self._through[server.uri] = replace(
                server, device=_device(self._around.registrations.here(place.host, place.port), place)
            )
        return found

    def _is_group(self, uri: Uri, text: str, *, own: bool) -> bool:
        """Whether a member is a group: by its form, until its server has said that there is something else."""
        group = group_at(text)
        if group is None:
            return False
        return group_name(uri.path) is not None if own else not self._around.known_groups.is_ordinary(group.text())


def _device(device: Device | None, uri: Uri) -> Device | None:
    """The device at the URI's host, if the URI means it: where a port other than the scheme's is named, it has to be the device's."""
    if device is None or uri.scheme != device.scheme or uri.port not in (device.port, DEFAULT_PORTS[uri.scheme]):
        return None
    return device


def _group(tree: Tree, name: str) -> Document:
    resource = tree.expected((*GROUPS, name))
    if resource is None:
        raise NoSuchResource(path_text((*GROUPS, name)))
    return {**resource.attributes, "members": list(members_of(resource))}
