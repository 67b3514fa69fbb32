"""The member role: joining and leaving with `/mcGroups`, and answering group requests."""

from __future__ import annotations

import json
from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from m2mapp.formats.documents import CBOR, RESULTS_CBOR, load_cbor
from m2mapp.member.mc_group import MC_GROUP_TYPE, MC_GROUPS
from m2mapp.member.service import JOIN_AGAIN_S, MAX_MC_GROUPS, MemberService
from m2mapp.model.errors import (
    Forbidden,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    Overloaded,
    PeerFailed,
    PreconditionFailed,
    StorageFailed,
    TooLarge,
    Unauthenticated,
)
from m2mapp.model.interfaces import IHandle, IMembership
from m2mapp.model.messages import ANY_ETAG, Answer, Conditions, Method, Multicast, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal, Right
from m2mapp.tree.paths import parse_path
from m2mapp.tree.unit import Unit, Write
from tests.unit.fakes import RecordingRequester, ask, build_tree
from tests.unit.groups.parts import soon

ONE, TWO = "ff35::1", "ff35::2"
READER = Principal("coap:fd00::1", frozenset({Right.READ}))
WRITER = Principal("coap:fd00::2", frozenset({Right.READ, Right.WRITE}))


@implementer(IMembership)
class FakeMembership:
    """Records joins and leaves; `refuse` says which addresses the system does not take."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.joined: set[str] = set()
        self.refuse: set[str] = set()

    def join(self, group: str) -> None:
        self.calls.append(f"join {group}")
        if group in self.refuse:
            raise OSError(105, "No buffer space available")
        self.joined.add(group)

    def leave(self, group: str) -> None:
        self.calls.append(f"leave {group}")
        self.joined.discard(group)


class Member:
    """A member service on fakes, with resources /a and /b."""

    def __init__(self) -> None:
        self.built, self.clock = build_tree((MC_GROUP_TYPE,)), Clock()
        self.membership, self.requester = FakeMembership(), RecordingRequester()
        self.service = self.new_service()
        for path, content in (("a", b"1"), ("b", b"2")):
            self.built.committer.commit(Unit((Write((path,), "content", {}, content, "text/plain"),)))
        self.service.startService()

    def new_service(self) -> MemberService:
        """One more service on the same tree."""
        service = MemberService(self.clock, self.built.tree, self.built.rules, self.built.committer, self.membership, Metrics())
        service.connect(self.built.dispatcher.handle_unicast, self.requester)
        return service

    def send(self, method: Method, path: str, document: object = None, **more: object) -> Deferred[Response]:
        """A request to /mcGroups or below."""
        payload = json.dumps(document).encode() if document is not None else b""
        request = ask(method, path, payload, "application/json" if document is not None else None, **more)
        return soon(lambda: self.service.handle(request))

    def join(
        self, name: str, address: str = ONE, fanout: str | None = "/v", members: Iterable[str] = ("/a",), **more: object
    ) -> Deferred[Response]:
        """PUT of an mcGroup."""
        document: dict[str, object] = {"mcAddress": address, "memberList": list(members), "leisure": 0.25}
        if fanout is not None:
            document["fanoutURI"] = fanout
        return self.send(Method.PUT, f"/mcGroups/{name}", document, **more)

    def hear(self, path: str = "/v", method: Method = Method.GET, address: str = ONE, **more: object) -> Deferred[Response | None]:
        """A request to a group's address."""
        given: dict[str, object] = {"principal": WRITER, "multicast": Multicast(address, 2), **more}
        request = Request(method, parse_path(path), **given)  # type: ignore[arg-type]
        return soon(lambda: self.service.handle_multicast(request))  # type: ignore[arg-type, return-value]  # a Deferred of one of both


class MemberCase(SynchronousTestCase):
    def build(self) -> Member:
        """See `Member`; it is stopped at the end, and nothing is pending then."""
        member = Member()
        self.addCleanup(self._end, member)
        return member

    def _end(self, member: Member) -> None:
        if member.service.running:
            member.service.stopService()
        self.assertEqual((member.clock.getDelayedCalls(), member.membership.joined, member.built.errors), ([], set(), []))


class JoinTests(MemberCase):
    def test_joined_before_it_is_confirmed(self) -> None:
        """The address is joined before the write is committed; the answer comes when it is on disk."""
        member = self.build()
        member.built.committer.hold()
        done = member.join("g")
        self.assertEqual((member.membership.calls, member.built.tree.find((*MC_GROUPS, "g"))), ([f"join {ONE}"], None))
        self.assertNoResult(done)
        member.built.committer.release()
        self.assertEqual(self.successResultOf(done).status, Status.CREATED)

    def test_the_system_refuses(self) -> None:
        """An address that cannot be joined is a clear 503 with its name and the system's reason; nothing is written nor joined."""
        member = self.build()
        member.membership.refuse.add(ONE)
        fault = self.failureResultOf(member.join("g"), Overloaded).value
        self.assertEqual(fault.detail, f"mcAddress: {ONE} cannot be joined: No buffer space available")
        self.assertEqual((member.built.tree.find((*MC_GROUPS, "g")), member.membership.calls), (None, [f"join {ONE}", f"leave {ONE}"]))

    def test_the_commit_fails(self) -> None:
        """Where the write is not committed the address is left again."""
        member = self.build()
        member.built.committer.fault = StorageFailed("broken")
        self.failureResultOf(member.join("g"), StorageFailed)
        self.assertEqual(member.membership.calls, [f"join {ONE}", f"leave {ONE}"])
        member.built.committer.fault = None
        self.failureResultOf(member.join("g", conditions=Conditions(if_match=(ANY_ETAG,))), PreconditionFailed)
        self.assertEqual(member.membership.joined, set())

    def test_a_failed_write_beside_another(self) -> None:
        """Of two writes for one address under way the failing one does not leave it."""
        member = self.build()
        member.built.committer.hold()
        first = member.join("g")
        self.failureResultOf(member.join("h", conditions=Conditions(if_match=(ANY_ETAG,))), PreconditionFailed)
        self.assertEqual(member.membership.calls, [f"join {ONE}"])
        member.built.committer.release()
        self.successResultOf(first)

    def test_the_last_one_leaves(self) -> None:
        """An address is joined once however many groups have it, and left with the last."""
        member = self.build()
        for name in "gh":
            self.successResultOf(member.join(name))
        self.successResultOf(member.send(Method.DELETE, "/mcGroups/g"))
        self.assertEqual(member.membership.calls, [f"join {ONE}"])
        self.successResultOf(member.send(Method.DELETE, "/mcGroups/h"))
        self.assertEqual(member.membership.calls, [f"join {ONE}", f"leave {ONE}"])

    def test_another_address(self) -> None:
        """A group that moves to another address joins that first and then leaves the old one; failing, it stays where it was."""
        member = self.build()
        self.successResultOf(member.join("g"))
        self.successResultOf(member.join("g", TWO))
        self.assertEqual(member.membership.calls, [f"join {ONE}", f"join {TWO}", f"leave {ONE}"])
        member.built.committer.fault = StorageFailed("broken")
        self.failureResultOf(member.join("g", ONE), StorageFailed)
        self.assertEqual(member.membership.joined, {TWO})

    def test_the_same_again(self) -> None:
        """The same write again changes nothing about the joins."""
        member = self.build()
        for status in (Status.CREATED, Status.CHANGED):
            self.assertEqual(self.successResultOf(member.join("g")).status, status)
        self.assertEqual(member.membership.calls, [f"join {ONE}"])

    def test_post(self) -> None:
        """POST to the collection makes a group, named by the request or the node."""
        member = self.build()
        document = {"mcAddress": ONE, "memberList": ["/a"]}
        self.assertEqual(self.successResultOf(member.send(Method.POST, "/mcGroups", {**document, "name": "g"})).location, ("mcGroups", "g"))
        self.successResultOf(member.send(Method.POST, "/mcGroups", document))
        self.assertEqual((len(member.built.tree.children(MC_GROUPS)), member.membership.calls), (2, [f"join {ONE}"]))

    def test_bad_input(self) -> None:
        """A document that is none is refused before anything is joined."""
        member = self.build()
        self.failureResultOf(member.send(Method.PUT, "/mcGroups/g", {"mcAddress": "fd00::1", "memberList": ["/a"]}), Malformed)
        self.failureResultOf(member.send(Method.DELETE, "/mcGroups"), MethodNotAllowed)
        self.failureResultOf(member.send(Method.DELETE, "/mcGroups/none"), NoSuchResource)
        self.assertEqual(member.membership.calls, [])
        self.assertEqual(self.successResultOf(member.send(Method.GET, "/mcGroups")).status, Status.CONTENT)

    def test_bounded(self) -> None:
        """A device is in so many groups and no more; a group that is there already may be written."""
        member = self.build()
        changes = tuple(
            Write((*MC_GROUPS, f"g{number}"), "mcGroup", {"mcAddress": ONE, "memberList": ["/a"], "leisure": 0.0})
            for number in range(MAX_MC_GROUPS)
        )
        member.built.committer.commit(Unit(changes))
        self.failureResultOf(member.join("more"), TooLarge)
        self.successResultOf(member.join("g7"))


class LifeTests(MemberCase):
    def test_over_a_restart(self) -> None:
        """A stop leaves all addresses, a start joins them again; so does a new service on the same tree."""
        member = self.build()
        member.join("g")
        member.join("h", TWO)
        member.service.stopService()
        self.assertEqual(member.membership.joined, set())
        member.service.startService()
        self.assertEqual(member.membership.joined, {ONE, TWO})
        member.service.stopService()
        member.service = member.new_service()
        member.service.startService()
        self.assertEqual(member.membership.joined, {ONE, TWO})
        self.assertEqual(self.successResultOf(member.hear()).payload, b"1")  # type: ignore[union-attr]

    def test_an_interface_that_comes_late(self) -> None:
        """What cannot be joined at the start is tried again until it can; the others are joined meanwhile."""
        member = self.build()
        member.join("g")
        member.join("h", TWO)
        member.service.stopService()
        member.membership.refuse.add(ONE)
        member.service.startService()
        self.assertEqual(member.membership.joined, {TWO})
        member.clock.advance(JOIN_AGAIN_S)
        self.assertEqual(member.membership.joined, {TWO})
        member.membership.refuse.clear()
        member.clock.advance(JOIN_AGAIN_S)
        self.assertEqual((member.membership.joined, member.clock.getDelayedCalls()), ({ONE, TWO}, []))

    def test_stopped_while_it_waits(self) -> None:
        """A stop ends the attempts."""
        member = self.build()
        member.join("g")
        member.service.stopService()
        member.membership.refuse.add(ONE)
        member.service.startService()
        member.service.stopService()
        self.assertEqual(member.clock.getDelayedCalls(), [])

    def test_interfaces(self) -> None:
        """The service and the fake are what the seams ask for."""
        member = self.build()
        verifyObject(IHandle, member.service)
        verifyObject(IMembership, member.membership)


class AnswerTests(MemberCase):
    def test_one_member(self) -> None:
        """A request to the group's address is answered with what the member's own path gives, within the group's leisure."""
        member = self.build()
        member.join("g")
        response = self.successResultOf(member.hear())
        assert response is not None
        self.assertEqual((response.payload, response.content_type, response.leisure_s), (b"1", "text/plain", 0.25))

    def test_a_write(self) -> None:
        """A write is done at the member's own path and suffix; its answer waits for the disk and has the leisure, too."""
        member = self.build()
        member.join("g")
        member.built.committer.hold()
        done = member.hear("/v/x", Method.PUT, payload=b"9", content_type="text/plain")
        self.assertNoResult(done)
        member.built.committer.release()
        response = self.successResultOf(done)
        assert response is not None
        self.assertEqual((response.status, response.leisure_s), (Status.CREATED, 0.25))
        self.assertEqual(member.built.tree.get(("a", "x")).content, b"9")

    def test_silence(self) -> None:
        """No group for that address, or for that path: silence."""
        member = self.build()
        member.join("g")
        for path, address in (("/v", TWO), ("/w", ONE), ("/", ONE), ("/a", ONE)):
            self.assertIsNone(self.successResultOf(member.hear(path, address=address)))
        member.send(Method.DELETE, "/mcGroups/g")
        self.assertIsNone(self.successResultOf(member.hear()))

    def test_faults_are_answers(self) -> None:
        """What is not there, or fails with the disk, reaches the edge as the fault that it is, with the group's leisure."""
        member = self.build()
        member.join("g")
        found = self.failureResultOf(member.hear("/v/none"), NoSuchResource).value
        member.built.committer.fault = StorageFailed("broken")
        failed = self.failureResultOf(member.hear("/v", Method.PUT, payload=b"9"), StorageFailed).value
        self.assertEqual((found.leisure_s, failed.leisure_s), (0.25, 0.25))

    def test_whose_right(self) -> None:
        """The right is that of whoever sent the datagram, at the member's own path: a group gives nobody more."""
        member = self.build()
        member.join("g")
        self.assertEqual(self.successResultOf(member.hear(principal=READER)).payload, b"1")  # type: ignore[union-attr]
        self.failureResultOf(member.hear("/v", Method.PUT, payload=b"9", principal=READER), Forbidden)
        narrow = Principal("token", frozenset({Right.READ}), scopes=(("v",),))
        self.failureResultOf(member.hear(principal=narrow), Forbidden)
        anonymous = Request(Method.GET, ("v",), multicast=Multicast(ONE, 2))
        self.failureResultOf(soon(lambda: member.service.handle_multicast(anonymous)), Unauthenticated)
        self.assertEqual(member.built.tree.get(("a",)).content, b"1")

    def test_several_members(self) -> None:
        """Several members here are done each, and answered once, keyed by their entries; a fault of one is its own."""
        member = self.build()
        member.service.code_of_fault = {"not-found": "4.04"}.__getitem__
        member.join("g", members=["/a", "/b", "/none"])
        response = self.successResultOf(member.hear())
        assert response is not None
        self.assertEqual((response.status, response.content_type, response.leisure_s), (Status.CONTENT, RESULTS_CBOR, 0.25))
        self.assertEqual(
            load_cbor(response.payload),
            {
                "members": {
                    "/a": {"status": "2.05", "contentType": "text/plain", "content": "1"},
                    "/b": {"status": "2.05", "contentType": "text/plain", "content": "2"},
                    "/none": {"status": "4.04", "contentType": "text/plain", "content": "there is no resource at /none"},
                }
            },
        )

    def test_several_writes(self) -> None:
        """Writes of several members: each is done, also where one is refused."""
        member = self.build()
        member.join("g", members=["/a", "/node", "/b"])
        response = self.successResultOf(member.hear(method=Method.PUT, payload=b"9", content_type="text/plain"))
        assert response is not None
        found = load_cbor(response.payload)
        assert isinstance(found, dict)
        self.assertEqual(found["members"]["/a"], {"status": "2.04"})
        self.assertEqual(found["members"]["/node"]["status"], "5.00")
        self.assertEqual([member.built.tree.get((path,)).content for path in "ab"], [b"9", b"9"])
        self.assertEqual(response.status, Status.CHANGED)

    def test_a_bug_of_one_member(self) -> None:
        """What nobody foresaw is logged, is that member's internal error, and leaves the others."""
        member = self.build()
        member.join("g", members=["/a", "/b"])

        def answer_here(request: Request) -> Deferred[Response]:
            done: Deferred[Response] = Deferred()
            if request.path == ("a",):
                done.errback(ValueError("a bug"))
            else:
                done.callback(Response(Status.CONTENT, b"2", "text/plain"))
            return done

        member.service.connect(answer_here, member.requester)
        response = self.successResultOf(member.hear())
        assert response is not None
        found = load_cbor(response.payload)
        assert isinstance(found, dict)
        self.assertEqual((found["members"]["/a"]["status"], found["members"]["/b"]["content"]), ("5.00", "2"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ElsewhereTests(MemberCase):
    def test_asked_there(self) -> None:
        """A member elsewhere is asked there, with everything the request has and in the time that is left; its answer is ours."""
        member = self.build()
        member.join("g", members=["http://n1.example.com/xxx/temp1"])
        done = member.hear(
            "/v/s", Method.PUT, payload=b"9", content_type="text/plain", trace="ab" * 16, request_id=b"12345678", deadline=4.0
        )
        [sent] = member.requester.sent
        self.assertEqual((sent.method, sent.uri, sent.payload), (Method.PUT, "http://n1.example.com/xxx/temp1/s", b"9"))
        self.assertEqual((sent.content_type, sent.trace, sent.request_id, sent.timeout_s), ("text/plain", "ab" * 16, b"12345678", 4.0))
        self.assertEqual(sent.principal, WRITER)
        member.requester.answer(0, Answer("204", b""))
        response = self.successResultOf(done)
        assert response is not None
        self.assertEqual((response.status, response.leisure_s), (Status.CHANGED, 0.25))

    def test_as_it_was_asked(self) -> None:
        """What the caller's query and Accept say goes there too; what was created or deleted there was created or deleted."""
        member = self.build()
        member.join("g", members=["http://n1.example.com/t?unit=C"])
        for method, code, status in ((Method.PUT, "201", Status.CREATED), (Method.DELETE, "2.02", Status.DELETED)):
            done = member.hear(method=method, query=(("last", "5"),), accept=("text/plain",))
            sent = member.requester.sent[-1]
            self.assertEqual((sent.uri, sent.accept), ("http://n1.example.com/t?unit=C&last=5", "text/plain"))
            member.requester.answer(member.requester.waiting[0], Answer(code, b""))
            self.assertEqual(self.successResultOf(done).status, status)  # type: ignore[union-attr]

    def test_not_elsewhere(self) -> None:
        """A whole URI of this node itself is one of its own paths: nobody else is asked, and a fault is this node's own."""
        member = self.build()
        member.service.connect(member.built.dispatcher.handle_unicast, member.requester, lambda uri: uri.host == "d1.example.org")
        member.join("g", members=["coap://d1.example.org/a"])
        self.assertEqual(self.successResultOf(member.hear()).payload, b"1")  # type: ignore[union-attr]
        self.failureResultOf(member.hear("/v/none"), NoSuchResource)
        self.assertEqual(member.requester.sent, [])

    def test_not_without_the_right(self) -> None:
        """Nobody is asked for somebody who had not the right to ask this node for such a path."""
        member = self.build()
        member.join("g", members=["http://n1.example.com/t"])
        self.failureResultOf(member.hear("/v", Method.PUT, payload=b"9", principal=READER), Forbidden)
        self.assertEqual(member.requester.sent, [])

    def test_it_says_no(self) -> None:
        """What goes wrong there is a failed peer here, with the code that it gave; silence there is what the sender says of it."""
        member = self.build()
        member.join("g", members=["http://n1.example.com/t"])
        for said, expected in ((Answer("404"), "the member elsewhere answered 404"), (PeerFailed("unreachable"), "unreachable")):
            done = member.hear()
            member.requester.answer(member.requester.waiting[0], said)
            self.assertEqual(self.failureResultOf(done, PeerFailed).value.detail, expected)

    def test_beside_one_here(self) -> None:
        """One here and one elsewhere are one answer, when both are there."""
        member = self.build()
        member.join("g", members=["/a", "http://n1.example.com/t"])
        done = member.hear()
        self.assertNoResult(done)
        member.requester.answer(0, Answer("200", b"3", "text/plain"))
        response = self.successResultOf(done)
        assert response is not None
        found = load_cbor(response.payload)
        assert isinstance(found, dict)
        self.assertEqual({name: entry["content"] for name, entry in found["members"].items()}, {"/a": "1", "http://n1.example.com/t": "3"})


class AdvertisedTests(MemberCase):
    """Advertisements that come to a multicast address."""

    NODE = "coap://d1.example.org"
    ADVERTISER = Principal("coap:fd00::3", frozenset({Right.READ, Right.ADVERTISE}))

    def advertise(self, member: Member, document: object, principal: Principal | None = None) -> Deferred[Response | None]:
        """An advertisement to All CoAP Nodes."""
        member.service.connect(member.built.dispatcher.handle_unicast, member.requester, lambda uri: uri.host == "d1.example.org")
        payload = json.dumps(document).encode()
        more: dict[str, object] = {"payload": payload, "content_type": "application/json", "principal": principal or self.ADVERTISER}
        return member.hear("/mcGroups", Method.POST, "ff02::fd", **more)

    def test_named(self) -> None:
        """Who is named joins, answers within the group's leisure time, and leaves when it is named again for that."""
        member = self.build()
        document = {"name": "g", "mcAddress": ONE, "fanoutURI": "/v", "leisure": 0.25, "members": [f"{self.NODE}/a", "coap://other/a"]}
        answer = self.successResultOf(self.advertise(member, document))
        self.assertEqual((answer and answer.status, answer and answer.leisure_s), (Status.CREATED, 0.25))
        self.assertEqual(member.built.tree.get((*MC_GROUPS, "g")).attributes["memberList"], ["/a"])
        self.assertEqual(member.membership.joined, {ONE})
        self.successResultOf(self.advertise(member, {"name": "g", "leave": [f"{self.NODE}/a"]}))
        self.assertEqual((member.built.tree.find((*MC_GROUPS, "g")), member.membership.joined), (None, set()))

    def test_silence(self) -> None:
        """Who is not named, whom an unknown source tells, and who does not understand is silent; nothing changes."""
        member = self.build()
        good = {"name": "g", "mcAddress": ONE, "members": [f"{self.NODE}/a"]}
        for document, principal in (
            ({**good, "members": ["coap://other/a"]}, None),
            (good, READER),
            ({"members": [f"{self.NODE}/a"]}, None),
            ([], None),
        ):
            self.assertIsNone(self.successResultOf(self.advertise(member, document, principal)))
        self.assertEqual((member.built.tree.children(MC_GROUPS), member.membership.calls), ([], []))

    def test_bad_ones(self) -> None:
        """An address outside multicast, and a part that no mcGroup has, are refused by who is named."""
        member = self.build()
        for more in ({"mcAddress": "fd00::1"}, {"mcAddress": ONE, "colour": "red"}):
            self.failureResultOf(self.advertise(member, {"name": "g", "members": [f"{self.NODE}/a"], **more}), Malformed)
        self.assertEqual(member.membership.calls, [])


class ListingTests(MemberCase):
    def test_whole(self) -> None:
        """A GET of the collection shows each mcGroup whole, in pages; as links where these are asked for."""
        member = self.build()
        for name in "gh":
            member.join(name)
        first = json.loads(self.successResultOf(member.send(Method.GET, "/mcGroups", query=(("limit", "1"),))).payload)
        [child] = first["children"]
        self.assertEqual((child["name"], child["mcAddress"], child["memberList"], first["next"]), ("g", ONE, ["/a"], "g"))
        response = self.successResultOf(member.send(Method.GET, "/mcGroups", query=(("after", "g"),), accept=(CBOR,)))
        self.assertEqual([child["name"] for child in load_cbor(response.payload)["children"]], ["h"])  # type: ignore[index]
        links = self.successResultOf(member.send(Method.GET, "/mcGroups", accept=("application/link-format",)))
        self.assertEqual(links.payload, b"</mcGroups/g>,</mcGroups/h>")
