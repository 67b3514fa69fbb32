"""Groups that this node has at other group servers: their names, what their servers are told, and what becomes of their answers.

Pure (US 9,450,772, steps 203-6 and 604 to 606; spec sections 3 and 4). Who tells the servers is `drivers.held`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from m2mapp.formats.documents import JSON, RESULTS_CBOR, RESULTS_JSON, bare, content_bytes, dump_json, load_cbor, load_json
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.dialogue import TIMEOUT_S
from m2mapp.groups.group import MEMBERS_CONTENT, FanoutSet
from m2mapp.groups.naming import fitting
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.model.errors import Fault
from m2mapp.model.messages import Method, Outgoing

VIA, UNKNOWN = "subgroup", "unknown"
_NOT_THERE = frozenset({"404", "4.04"})
_NO_ANSWER = frozenset({"504", "5.04"})
"""What a server says where nobody of its group answered in time."""
MAX_JOINED = 20_000
"""So many members are taken from one joined answer, as many as one request of this node has."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """A group at another server as it is asked: the URI of its `membersContent`, and the members that it answers for.

    `given`: the member's URI, where it is a member that somebody gave, and no group that this node made there. Then `members` are those
    that are known, and the group may have others.
    """

    uri: str
    members: tuple[str, ...]
    given: str = ""


def name_elsewhere(node_name: str, group: str) -> str:
    """The name of this node's group at other servers: it bears the node's name, so that two group servers do not collide."""
    return fitting(f"{node_name}-{group}")


def content_uri(group_uri: str) -> str:
    """The URI by which all members of a group are asked."""
    uri = parse_uri(group_uri)
    return Uri(uri.scheme, uri.host, uri.port, (*uri.path, MEMBERS_CONTENT)).text()


def group_of(subgroup: Subgroup) -> str:
    """The URI of the group itself."""
    uri = parse_uri(subgroup.uri)
    return Uri(uri.scheme, uri.host, uri.port, uri.path[:-1]).text()


def make_request(one: FanoutSet, group_uri: str) -> Outgoing:
    """The request that makes the group of a set at its server, or gives it other members. It says for which group it is."""
    document = {"members": list(one.members), "for": group_uri}
    return Outgoing(Method.PUT, one.group, dump_json(document), JSON, timeout_s=TIMEOUT_S)


def end_request(uri: str) -> Outgoing:
    """The request that ends what another node keeps for this one: a group, or the lease of an address."""
    return Outgoing(Method.DELETE, uri, timeout_s=TIMEOUT_S)


def expanded(results: GroupResults, subgroups: Iterable[Subgroup]) -> tuple[GroupResults, list[Subgroup]]:
    """The results with those of each group at another server in that group's place, and the groups that are not there any more.

    A server's own loops count here, too. Members of a group that gave no usable answer are silent; what its server does not know of a
    member is not known here. Who answered by another way is not silent, and stands once: what a member told this node itself goes first.
    """
    whole = _Whole(results)
    asked = list(subgroups)
    lost = [one for one in asked if not one.given and whole.take_made(one)]
    for one in asked:
        if one.given:
            whole.take_given(one)
    return whole.results(), lost


class _Whole:
    """Results in which groups at other servers are replaced by their members, one by one."""

    def __init__(self, results: GroupResults) -> None:
        self._before = results
        self._members = dict(results.members)
        self._silent = dict.fromkeys(results.silent)
        self._unknown = dict.fromkeys(results.unknown)
        self._looped = dict.fromkeys(results.looped)
        self._loops = results.loops
        self._passed: list[Subgroup] = []

    def take_made(self, one: Subgroup) -> bool:
        """A group that this node made there: it has exactly these members. Whether it is not there any more."""
        answer = self._members.pop(one.uri, None)
        joined = joined_in(answer)
        members, unknown_to_it = (joined.members, joined.unknown) if joined is not None else ({}, frozenset())
        self._loops += joined.loops if joined is not None else 0
        self._members.update({uri: members[uri] for uri in one.members if uri in members})
        had_it = frozenset(joined.looped if joined is not None else ())
        self._looped.update((uri, None) for uri in one.members if uri in had_it)
        missing = [uri for uri in one.members if uri not in self._members and uri not in had_it]
        all_unknown, all_looped = one.uri in self._unknown, one.uri in self._looped
        self._leave(one.uri)
        (self._looped if all_looped else self._silent).update(dict.fromkeys(missing))
        self._unknown.update((uri, None) for uri in missing if all_unknown or uri in unknown_to_it)
        return answer is not None and answer.status in _NOT_THERE

    def take_given(self, one: Subgroup) -> None:
        """A group that was given as a member: it has the members that its server says. An error answer stands for itself."""
        answer = self._members.pop(one.uri, None)
        joined = joined_in(answer)
        was_unknown, was_looped = one.uri in self._unknown, one.uri in self._looped
        self._leave(one.uri)
        if joined is not None:
            self._loops += joined.loops
            for uri, result in joined.members.items():
                if uri not in (one.given, one.uri):  # It does not answer for itself.
                    self._members.setdefault(uri, result)
            self._silent.update(dict.fromkeys(joined.silent))
            self._unknown.update(dict.fromkeys(joined.unknown))
            self._looped.update(dict.fromkeys(joined.looped))
        elif was_looped:
            self._passed.append(one)
        elif answer is None or answer.status in _NO_ANSWER:
            missing = one.members or (one.given,)
            self._silent.update(dict.fromkeys(missing))
            self._unknown.update(dict.fromkeys(missing if was_unknown else ()))
        else:
            self._members[one.given] = answer._replace(via=VIA)
            self._silent.update(dict.fromkeys(one.members if answer.status[:1] == "5" else ()))

    def results(self) -> GroupResults:
        """All of them. Members of a group that got the request by a way on which the answers were lost have it, and did not answer."""
        if self._silent:
            self._looped.update((uri, None) for one in self._passed for uri in one.members)
        members = self._members
        silent = tuple(uri for uri in self._silent if uri not in members)
        looped = tuple(uri for uri in self._looped if uri not in members and uri not in self._silent)
        unknown = tuple(uri for uri in self._unknown if uri not in members)
        return replace(self._before, members=members, silent=silent, unknown=unknown, looped=looped, loops=self._loops)

    def _leave(self, uri: str) -> None:
        """A group is no member itself."""
        for names in (self._silent, self._unknown, self._looped):
            names.pop(uri, None)


@dataclass(frozen=True, slots=True)
class Joined:
    """What a joined answer of another server says. What it says of more than `MAX_JOINED` members is left out."""

    members: Mapping[str, MemberResult]
    silent: tuple[str, ...]
    unknown: frozenset[str]
    looped: tuple[str, ...]
    loops: int


def joined_in(answer: MemberResult | None) -> Joined | None:
    """The joined answer in what a server answered; None where it is none, or malformed."""
    if answer is None or bare(answer.content_type) not in (RESULTS_JSON, RESULTS_CBOR):
        return None
    load = load_json if bare(answer.content_type) == RESULTS_JSON else load_cbor
    try:
        document = load(answer.content)
    except Fault:
        return None
    if not isinstance(document, Mapping):
        return None
    given, loops = document.get("members"), document.get("loops")
    entries = given.items() if isinstance(given, Mapping) else ()
    found = {uri: _member(entry, answer.ms) for uri, entry in islice(entries, MAX_JOINED) if _is_uri(uri) and isinstance(entry, Mapping)}
    unknown = frozenset(uri for uri, one in found.items() if one.status == UNKNOWN)
    members = {uri: one for uri, one in found.items() if uri not in unknown}
    count = min(loops, MAX_JOINED) if isinstance(loops, int) and loops > 0 else 0
    return Joined(members, _uris(document.get("silent")), unknown, _uris(document.get("looped")), count)


def _uris(value: object) -> tuple[str, ...]:
    return tuple(str(uri) for uri in value[:MAX_JOINED] if _is_uri(uri)) if isinstance(value, list) else ()


def _is_uri(value: object) -> bool:
    try:
        parse_uri(value)
    except Fault:
        return False
    return True


def _member(entry: Mapping[str, object], ms: float) -> MemberResult:
    media_type = entry.get("contentType")
    kind = media_type if isinstance(media_type, str) else None
    try:
        content = content_bytes(entry["content"], kind)[0] if "content" in entry else b""
    except Fault:
        content = b""
    return MemberResult(str(entry.get("status", UNKNOWN)), content, kind, VIA, ms)
