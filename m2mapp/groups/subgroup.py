"""Groups that this node has at other group servers: their names, what their servers are told, and what becomes of their answers.

Pure (US 9,450,772, steps 203-6 and 604 to 606; spec sections 3 and 4). Who tells the servers is `drivers.held`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Subgroup:
    """A group at another server as it is asked: the URI of its `membersContent`, and the members that it answers for."""

    uri: str
    members: tuple[str, ...]


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
    member is not known here.
    """
    members = dict(results.members)
    silent = list(results.silent)
    unknown = list(results.unknown)
    loops, lost = results.loops, []
    for one in subgroups:
        answer = members.pop(one.uri, None)
        found, its_loops = _members_in(answer)
        loops += its_loops
        members.update({uri: found[uri] for uri in one.members if uri in found and found[uri].status != UNKNOWN})
        missing = [uri for uri in one.members if uri not in members]
        silent = [uri for uri in silent if uri != one.uri] + missing
        all_unknown = one.uri in unknown
        unknown = [uri for uri in unknown if uri != one.uri] + [uri for uri in missing if all_unknown or uri in found]
        if answer is not None and answer.status in _NOT_THERE:
            lost.append(one)
    whole = replace(results, members=members, silent=tuple(silent), unknown=tuple(unknown), loops=loops)
    return whole, lost


def _members_in(answer: MemberResult | None) -> tuple[dict[str, MemberResult], int]:
    """What the members answered, by URI, and the loops, in a joined answer; nothing where it is none, or malformed."""
    if answer is None or bare(answer.content_type) not in (RESULTS_JSON, RESULTS_CBOR):
        return {}, 0
    load = load_json if bare(answer.content_type) == RESULTS_JSON else load_cbor
    try:
        document = load(answer.content)
    except Fault:
        return {}, 0
    given = document.get("members") if isinstance(document, Mapping) else None
    loops = document.get("loops") if isinstance(document, Mapping) else None
    entries = given.items() if isinstance(given, Mapping) else ()
    found = {str(uri): _member(entry, answer.ms) for uri, entry in entries if isinstance(entry, Mapping)}
    return found, loops if isinstance(loops, int) and loops > 0 else 0


def _member(entry: Mapping[str, object], ms: float) -> MemberResult:
    media_type = entry.get("contentType")
    kind = media_type if isinstance(media_type, str) else None
    try:
        content = content_bytes(entry["content"], kind)[0] if "content" in entry else b""
    except Fault:
        content = b""
    return MemberResult(str(entry.get("status", UNKNOWN)), content, kind, VIA, ms)
