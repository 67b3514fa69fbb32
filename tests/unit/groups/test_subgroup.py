"""Groups at other servers: what their servers are told, and how their answers stand among the others."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import RESULTS_CBOR, RESULTS_JSON, dump_cbor, dump_json, load_json
from m2mapp.groups.group import AddressType
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.groups.subgroup import (
    Subgroup,
    content_uri,
    end_request,
    expanded,
    group_of,
    make_request,
    name_elsewhere,
)
from m2mapp.model.messages import Method
from tests.unit.groups.parts import build_set, uri_at

THERE = Subgroup("http://g2.example.org/groups/g1-g/membersContent", (uri_at(3), uri_at(4)))
OWN = MemberResult("2.05", b"20", "text/plain", "multicast", 3.0)


def results(there: MemberResult | None, **more: object) -> GroupResults:
    """A read of a member here and a group there; None: that gave no answer."""
    members = {uri_at(1): OWN, **({THERE.uri: there} if there is not None else {})}
    silent = (THERE.uri,) if there is None else ()
    return GroupResults(group="g", request_id=b"x" * 8, trace="", members=members, silent=silent, sent=2, received=2, ms=9.0, **more)  # type: ignore[arg-type]


def joined(members: object, *, media_type: str = RESULTS_JSON, **more: object) -> MemberResult:
    """The joined answer of the group there."""
    dump = dump_cbor if media_type == RESULTS_CBOR else dump_json
    return MemberResult("200", dump({"members": members, **more}), media_type, "unicast", 8.0)


class RequestTests(SynchronousTestCase):
    def test_made(self) -> None:
        """PUT of the group with its members, and for whom it is; DELETE of it, or of a lease."""
        one = build_set([uri_at(3)], address_type=AddressType.GROUP, group="http://g2.example.org/groups/g1-g")
        made = make_request(one, "http://g1.example.org/groups/g")
        self.assertEqual((made.method, made.uri), (Method.PUT, one.group))
        self.assertEqual(load_json(made.payload), {"members": [uri_at(3)], "for": "http://g1.example.org/groups/g"})
        self.assertEqual((end_request(one.group).method, end_request(one.group).uri), (Method.DELETE, one.group))

    def test_names(self) -> None:
        """The name there bears this node's and fits a segment; its members are asked at `membersContent`."""
        self.assertEqual(name_elsewhere("g1.example.org", "grp7"), "g1.example.org-grp7")
        long = {name_elsewhere("g1.example.org", "g" * 255), name_elsewhere("g1.example.org", "g" * 254)}
        self.assertEqual((len(long), max(map(len, long)) <= 255), (2, True))
        self.assertEqual((content_uri(group_of(THERE)), group_of(THERE)), (THERE.uri, "http://g2.example.org/groups/g1-g"))


class ExpandedTests(SynchronousTestCase):
    def test_in_its_place(self) -> None:
        """Each member of the group there has its own status and content; the group itself is no member."""
        for media_type in (RESULTS_JSON, RESULTS_CBOR):
            entries = {uri_at(3): {"status": "2.05", "contentType": "text/plain", "content": "21"}, uri_at(4): {"status": "4.04"}}
            whole, lost = expanded(results(joined(entries, media_type=media_type, loops=1)), [THERE])
            self.assertEqual(list(whole.members), [uri_at(1), uri_at(3), uri_at(4)])
            self.assertEqual(whole.members[uri_at(3)], MemberResult("2.05", b"21", "text/plain", "subgroup", 8.0))
            self.assertEqual((whole.members[uri_at(4)].status, whole.complete, whole.loops, lost), ("4.04", True, 1, []))

    def test_no_answer(self) -> None:
        """Without an answer all its members are silent, and each by its own name."""
        whole, lost = expanded(results(None), [THERE])
        self.assertEqual((whole.silent, list(whole.members), lost), (THERE.members, [uri_at(1)], []))

    def test_partly(self) -> None:
        """Who is silent there is silent here; what is unknown there is unknown here; strangers do not count."""
        entries = {uri_at(3): {"status": "unknown"}, uri_at(9): {"status": "2.05"}}
        whole, _ = expanded(results(joined(entries)), [THERE])
        self.assertEqual((whole.silent, whole.unknown, list(whole.members)), (THERE.members, (uri_at(3),), [uri_at(1)]))
        whole, _ = expanded(results(None, unknown=(THERE.uri,)), [THERE])
        self.assertEqual(whole.unknown, THERE.members)

    def test_not_there(self) -> None:
        """A server that does not have the group any more says so with its status; the group is named, its members are silent."""
        for status in ("404", "4.04"):
            whole, lost = expanded(results(MemberResult(status, b"", None, "unicast", 1.0)), [THERE])
            self.assertEqual((whole.silent, lost), (THERE.members, [THERE]))

    def test_malformed(self) -> None:
        """An answer that is no joined one, or a wrong one, is no answer of any member."""
        for bad in (
            MemberResult("200", b"{", RESULTS_JSON, "unicast", 1.0),
            MemberResult("200", b"21.5", "text/plain", "unicast", 1.0),
            MemberResult("503", b"", None, "unicast", 1.0),
            joined([1]),
            joined({uri_at(3): "2.05"}),
            MemberResult("200", b"[]", RESULTS_JSON, "unicast", 1.0),
        ):
            whole, lost = expanded(results(bad), [THERE])
            self.assertEqual((whole.silent, whole.loops, lost), (THERE.members, 0, []), bad)
        whole, _ = expanded(results(joined({uri_at(3): {"status": "2.05", "content": {"base64": "!"}}}, loops="x")), [THERE])
        self.assertEqual((whole.members[uri_at(3)].status, whole.members[uri_at(3)].content), ("2.05", b""))
