"""Groups at other servers: what their servers are told, and how their answers stand among the others."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.formats.documents import RESULTS_CBOR, RESULTS_JSON, dump_cbor, dump_json, load_json
from m2mapp.groups.group import AddressType
from m2mapp.groups.results import GroupResults, MemberResult
from m2mapp.groups.subgroup import (
    MAX_JOINED,
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
GIVEN = "http://g2.example.org/groups/g1-g"
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


class GivenTests(SynchronousTestCase):
    """Groups that were given as members."""

    def whole(self, there: MemberResult | None, known: tuple[str, ...] = (), **more: object) -> GroupResults:
        """What comes of a read of a member here and of the group there."""
        whole, lost = expanded(results(there, **more), [replace(THERE, members=known, given=GIVEN)])
        self.assertEqual(lost, [])
        return whole

    def test_has_the_members_that_its_server_says(self) -> None:
        """All its members count, each once: what this node heard itself goes first. The group itself and what is no URI do not."""
        entry = {"status": "2.05", "contentType": "text/plain", "content": "21"}
        given = dict.fromkeys((uri_at(1), uri_at(3), GIVEN, THERE.uri, "nothing"), entry)
        found = self.whole(
            joined({**given, uri_at(4): {"status": "unknown"}}, silent=[uri_at(4), "x", 5], looped=[uri_at(5), uri_at(1)], loops=2)
        )
        self.assertEqual({uri: one.via for uri, one in found.members.items()}, {uri_at(1): "multicast", uri_at(3): "subgroup"})
        self.assertEqual((found.silent, found.unknown, found.looped, found.loops), ((uri_at(4),), (uri_at(4),), (uri_at(5),), 2))
        self.assertFalse(found.complete)
        self.assertEqual(found.summary()["looped"], [uri_at(5)])

    def test_no_answer(self) -> None:
        """A server that is away, or that says that nobody answered: its members are silent as far as they are known, else the group."""
        for there in (None, MemberResult("504", b"", None, "unicast", 1.0)):
            self.assertEqual(self.whole(there).silent, (GIVEN,))
            self.assertEqual(self.whole(there, (uri_at(1), uri_at(3))).silent, (uri_at(3),))
        self.assertEqual(self.whole(None, (uri_at(3),), unknown=(THERE.uri,)).unknown, (uri_at(3),))

    def test_an_error_is_listed(self) -> None:
        """An error answer stands by the member's URI; where it is the server's, the members that are known are silent."""
        for status, silent in (("404", ()), ("4.03", ()), ("503", (uri_at(3),))):
            found = self.whole(MemberResult(status, b"why", "text/plain", "unicast", 1.0), (uri_at(3),))
            self.assertEqual((found.members[GIVEN].status, found.members[GIVEN].via, found.silent), (status, "subgroup", silent))

    def test_a_loop(self) -> None:
        """A group that had the request by another way is no member; where answers were lost, its members have it and did not answer."""
        for silent, looped in (((), ()), ((uri_at(9),), (uri_at(3),))):
            before = replace(results(None), silent=silent, looped=(THERE.uri,), loops=1)
            whole, _ = expanded(before, [replace(THERE, members=(uri_at(1), uri_at(3)), given=GIVEN)])
            self.assertEqual((list(whole.members), whole.silent, whole.looped, whole.loops), ([uri_at(1)], silent, looped, 1))

    def test_too_many(self) -> None:
        """Of a joined answer so many members are taken and no more."""
        many = [f"coap://h{number}/t" for number in range(MAX_JOINED + 1)]
        found = self.whole(joined({}, silent=many, loops=10**9))
        self.assertEqual((len(found.silent), found.loops), (MAX_JOINED, MAX_JOINED))
