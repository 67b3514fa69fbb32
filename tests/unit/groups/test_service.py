"""The group server: group requests from the door to the record, its limits, its start and stop."""

from __future__ import annotations

import json

from zope.interface.verify import verifyObject

from m2mapp.formats.documents import RESULTS_CBOR, load_cbor
from m2mapp.groups.drivers.requests import MAX_UNDER_WAY, ONE_DATAGRAM_BYTES
from m2mapp.groups.group import Join
from m2mapp.groups.service import GroupService
from m2mapp.groups.settings import GroupSettings
from m2mapp.model.errors import (
    DeadlinePassed,
    LoopDetected,
    MethodNotAllowed,
    NoSuchResource,
    NotAcceptable,
    Overloaded,
    PeerFailed,
    StorageFailed,
)
from m2mapp.model.interfaces import IGroupSender, IHandle, IRequester
from m2mapp.model.messages import Answer, Method, Status
from m2mapp.model.metrics import Counter, Metrics
from m2mapp.model.principal import NODE
from m2mapp.tree.unit import Unit, Write
from tests.unit.groups.parts import FIRST_ADDRESS, GroupCase, Groups, answer, uri_at

CONTENT = "/groups/g/membersContent"


class ServiceCase(GroupCase):
    def build_joined(self, devices: int = 2, settings: GroupSettings | None = None) -> Groups:
        """A group of so many, all joined; what was sent for that is forgotten."""
        groups = self.build(devices, settings)
        groups.make([uri_at(number) for number in range(1, devices + 1)])
        while groups.requester.waiting:
            groups.join_all()
        groups.requester.sent.clear()
        return groups

    def answer_all(self, groups: Groups, devices: int = 2) -> None:
        """Every device answers the last group request."""
        for number in range(1, devices + 1):
            groups.sender.gatherings[-1].answer(answer(source=f"fd00::d{number}"))


class FanOutTests(ServiceCase):
    def test_a_read(self) -> None:
        """GET of `membersContent` and a suffix: one datagram to the set's address, the joined answer of spec section 12."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT + "/data", query=(("u", "C"),), trace="ab" * 16)
        [gathering] = groups.sender.gatherings
        self.assertEqual((gathering.outgoing.address, gathering.outgoing.path), (FIRST_ADDRESS, ("t", "data")))
        self.assertEqual(gathering.outgoing.lifetime_s, 30.0)
        groups.clock.advance(0.01)
        self.answer_all(groups)
        response = self.successResultOf(done)
        shown = json.loads(response.payload)
        self.assertEqual((response.status, response.content_type), (Status.CONTENT, "application/vnd.m2m.group-results+json"))
        self.assertEqual((shown["group"], shown["complete"], shown["silent"], shown["trace"]), ("/groups/g", True, [], "ab" * 16))
        self.assertEqual(shown["datagrams"], {"sent": 1, "received": 2})
        self.assertEqual(
            shown["members"][uri_at(1)], {"status": "2.05", "contentType": "text/plain", "content": "21.5", "via": "multicast", "ms": 10.0}
        )
        self.assertEqual(groups.requester.sent, [])

    def test_a_write_in_cbor(self) -> None:
        """PUT goes with payload and content type, for whoever asks; the answer is as accepted."""
        groups = self.build(3)
        groups.register(3, multicastEnabled=False)
        groups.make([uri_at(number) for number in (1, 2, 3)])
        groups.join_all()
        done = groups.send(Method.PUT, CONTENT, b"on", content_type="text/plain", accept=(RESULTS_CBOR,))
        self.assertEqual(groups.sender.gatherings[0].outgoing.payload, b"on")
        alone = groups.requester.sent[-1]
        self.assertEqual((alone.method, alone.uri, alone.payload, alone.principal), (Method.PUT, uri_at(3), b"on", NODE))
        self.answer_all(groups)
        groups.requester.answer(groups.requester.waiting[0], answer("2.04", b""))
        response = self.successResultOf(done)
        found = load_cbor(response.payload)
        assert isinstance(found, dict)
        self.assertEqual((response.status, response.content_type, found["complete"]), (Status.CHANGED, RESULTS_CBOR, True))

    def test_before_anybody_has_joined(self) -> None:
        """A group is whole from its first second: members that have not confirmed are asked one by one."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        done = groups.send(Method.GET, CONTENT)
        self.assertEqual(groups.sender.gatherings, [])
        for place in (2, 3):
            groups.requester.answer(place, answer())
        self.assertTrue(json.loads(self.successResultOf(done).payload)["complete"])

    def test_one_that_has_joined(self) -> None:
        """A single joined member is asked by unicast: a multicast request to one is none the better."""
        groups = self.build(2)
        groups.make([uri_at(1), uri_at(2)])
        groups.requester.answer(0, Answer("2.04"))
        groups.requester.answer(1, Answer("4.04"))
        groups.clock.advance(1.0)
        groups.send(Method.GET, CONTENT)
        self.assertEqual((groups.sender.gatherings, sorted(sent.uri for sent in groups.requester.sent[2:])), ([], [uri_at(1), uri_at(2)]))

    def test_what_changes_counts_at_once(self) -> None:
        """A device that moves, a member that is new and one that goes: the next request is made for the group as it is then."""
        groups = self.build_joined(2)
        groups.send(Method.GET, CONTENT)
        groups.register(1, addresses=["fd00::e1"])
        groups.send(Method.GET, CONTENT)
        for source in ("fd00::e1", "fd00::d2"):
            groups.sender.gatherings[1].answer(answer(source=source))
        self.assertTrue(json.loads(self.successResultOf(groups.asked[-1]).payload)["complete"])
        groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(9)]})
        groups.send(Method.GET, CONTENT)
        self.assertEqual(groups.requester.sent[-1].uri, uri_at(9))
        groups.deregister(2)
        groups.clock.advance(1.0)
        before = len(groups.sender.gatherings)
        groups.send(Method.GET, CONTENT)
        self.assertEqual(len(groups.sender.gatherings), before)

    def test_a_large_payload(self) -> None:
        """What does not fit one datagram goes to each member alone."""
        groups = self.build_joined()
        groups.send(Method.PUT, CONTENT, b"x" * (ONE_DATAGRAM_BYTES + 1), content_type="text/plain")
        self.assertEqual((groups.sender.gatherings, len(groups.requester.sent)), ([], 2))

    def test_proven(self) -> None:
        """Who answers a multicast request is `proven`, once; it stays so."""
        groups = self.build_joined()
        for _ in range(2):
            groups.send(Method.GET, CONTENT)
            groups.sender.gatherings[-1].answer(answer(source="fd00::d1"))
            groups.clock.advance(30.0)
            groups.clock.advance(1.0)
        self.assertEqual(groups.sets()[0].joins, {uri_at(1): Join.PROVEN, uri_at(2): Join.JOINED})

    def test_several_sets(self) -> None:
        """Each set gets its own request, at its own path."""
        groups = self.build(2)
        groups.make([uri_at(number, path) for path in ("/a", "/b") for number in (1, 2)])
        groups.join_all()
        done = groups.send(Method.GET, CONTENT)
        self.assertEqual([gathering.outgoing.path for gathering in groups.sender.gatherings], [("a",), ("b",)])
        for gathering in groups.sender.gatherings:
            for number in (1, 2):
                gathering.answer(answer(source=f"fd00::d{number}"))
        self.assertEqual(json.loads(self.successResultOf(done).payload)["datagrams"], {"sent": 2, "received": 4})

    def test_the_record(self) -> None:
        """Every group request leaves a record: who, what, what came of whom, how many datagrams."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT, trace="cd" * 16)
        groups.sender.gatherings[0].answer(answer(source="fd00::d1"))
        groups.clock.advance(31.0)
        self.successResultOf(done)
        [entry] = groups.built.committer.journals["groups/g"]
        self.assertEqual((entry.body["who"], entry.body["method"], entry.body["path"]), ("node", "GET", CONTENT))
        self.assertEqual((entry.body["statuses"], entry.body["silent"]), ({uri_at(1): "2.05"}, [uri_at(2)]))
        self.assertEqual((entry.body["trace"], entry.body["datagrams"]), ("cd" * 16, {"sent": 2, "received": 1}))

    def test_a_record_that_cannot_be_kept(self) -> None:
        """A disk that fails costs the record and not the answer."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT)
        groups.built.committer.fault = StorageFailed("broken")
        self.answer_all(groups)
        self.assertTrue(json.loads(self.successResultOf(done).payload)["complete"])
        groups.built.committer.fault = None


class LimitTests(ServiceCase):
    def test_refused(self) -> None:
        """What a group request cannot be: another method, another media type, a group that is not there."""
        groups = self.build_joined()
        self.failureResultOf(groups.send(Method.PATCH, CONTENT, {}), MethodNotAllowed)
        self.failureResultOf(groups.send(Method.GET, CONTENT, accept=("image/png",)), NotAcceptable)
        self.failureResultOf(groups.send(Method.GET, "/groups/none/membersContent"), NoSuchResource)
        self.assertEqual((groups.sender.gatherings, groups.requester.sent), ([], []))

    def test_seen_before(self) -> None:
        """A request that comes back by another way is a loop; one with another identifier is not."""
        groups = self.build_joined()
        groups.send(Method.GET, CONTENT, request_id=b"12345678")
        self.failureResultOf(groups.send(Method.GET, CONTENT, request_id=b"12345678", requester=b"another."), LoopDetected)
        self.assertNoResult(groups.send(Method.GET, CONTENT, request_id=b"abcdefgh"))
        self.assertNoResult(groups.send(Method.GET, CONTENT + "/x", request_id=b"12345678"))
        self.assertEqual(groups.sender.gatherings[0].outgoing.request_id, b"12345678")

    def test_deadlines(self) -> None:
        """The configured deadline holds, a caller may ask for less, and is answered a moment before; one that is over is refused."""
        groups = self.build_joined(settings=GroupSettings(deadline_s=5.0))
        now = groups.clock.seconds()
        for asked in (None, now + 100.0, now + 1.0):
            groups.send(Method.GET, CONTENT, deadline=asked)
        self.assertEqual([round(gathering.outgoing.lifetime_s, 6) for gathering in groups.sender.gatherings], [5.0, 5.0, 0.9])
        self.failureResultOf(groups.send(Method.GET, CONTENT, deadline=now), DeadlinePassed)
        groups.clock.pump([1.0] * 6)

    def test_too_many(self) -> None:
        """So many group requests are under way at a time; one that ends makes room for the next."""
        groups = self.build_joined()
        running = [groups.send(Method.GET, CONTENT) for _ in range(MAX_UNDER_WAY)]
        self.failureResultOf(groups.send(Method.GET, CONTENT), Overloaded)
        running[0].cancel()
        self.failureResultOf(running[0], DeadlinePassed)
        self.assertNoResult(groups.send(Method.GET, CONTENT))

    def test_nobody(self) -> None:
        """Nobody answers by the deadline: 504, and nothing is pending."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT)
        groups.clock.pump([1.0] * 31)
        self.failureResultOf(done, DeadlinePassed)


class LifeTests(ServiceCase):
    def test_a_deleted_group(self) -> None:
        """A group that is deleted while it is asked: the request ends with what comes, and is recorded; the group stays deleted."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT)
        groups.send(Method.DELETE, "/groups/g")
        self.answer_all(groups)
        self.assertTrue(json.loads(self.successResultOf(done).payload)["complete"])
        groups.clock.advance(1.0)
        self.assertIsNone(groups.built.tree.find(("groups", "g")))

    def test_stop(self) -> None:
        """A stop ends what is under way: callers get what came so far, nothing is pending; a start goes on."""
        groups = self.build_joined()
        some, none = groups.send(Method.GET, CONTENT), groups.send(Method.GET, CONTENT)
        groups.sender.gatherings[0].answer(answer(source="fd00::d1"))
        groups.service.stopService()
        self.assertEqual(json.loads(self.successResultOf(some).payload)["silent"], [uri_at(2)])
        self.failureResultOf(none, DeadlinePassed)
        self.assertEqual(groups.clock.getDelayedCalls(), [])
        groups.service.startService()
        done = groups.send(Method.GET, CONTENT)
        self.answer_all(groups)
        self.successResultOf(done)

    def test_a_group_sender_that_fails(self) -> None:
        """Where no interface can send, the members are asked one by one, and the request ends as any other."""
        groups = self.build_joined()
        groups.sender.fault = PeerFailed("no interface")
        done = groups.send(Method.GET, CONTENT)
        self.assertEqual(len(groups.requester.sent), 2)
        groups.service.stopService()
        self.failureResultOf(done, DeadlinePassed)
        groups.service.startService()

    def test_from_what_is_on_disk(self) -> None:
        """A service made of a tree with groups knows their members and their addresses, and asks them at once."""
        groups = self.build_joined()
        groups.service.stopService()
        groups.service = GroupService(groups.clock, groups.service._node, Metrics())
        groups.service.startService()
        groups.send(Method.GET, CONTENT)
        self.assertEqual(groups.sender.gatherings[-1].outgoing.address, FIRST_ADDRESS)
        self.assertEqual(groups.service.groups_of("d1"), ["/groups/g"])
        self.successResultOf(groups.make([uri_at(1), uri_at(2)], name="h"))
        self.assertNotEqual(groups.sets("h")[0].address, FIRST_ADDRESS)

    def test_other_things_in_the_collection(self) -> None:
        """Changes of other sorts below /groups are not taken for groups or sets."""
        groups = self.build()
        groups.built.committer.commit(Unit((Write(("groups", "g", "other"), "content", {}, b"x", "text/plain"),)))
        self.assertEqual((groups.built.errors, groups.service.groups_of("d1")), ([], []))

    def test_metrics(self) -> None:
        """Requests, silent members and what waits are counted."""
        groups = self.build(2)
        metrics = Metrics()
        groups.service.stopService()
        groups.service = GroupService(groups.clock, groups.service._node, metrics)
        groups.service.startService()
        groups.make([uri_at(1), uri_at(2)])
        read = {name: next(iter(found.values())) for name, _, found in metrics.collect()}
        waiting = read["m2mapp_group_advertisements_waiting"]
        assert callable(waiting)
        self.assertEqual(waiting(), 2)
        groups.join_all()
        done = groups.send(Method.GET, CONTENT)
        groups.sender.gatherings[0].answer(answer(source="fd00::d1"))
        groups.clock.pump([1.0] * 31)
        self.successResultOf(done)
        counts = [
            found.value for name in ("requests", "silent_members") if isinstance(found := read[f"m2mapp_group_{name}_total"], Counter)
        ]
        self.assertEqual((counts, waiting()), ([1, 1], 0))

    def test_interfaces(self) -> None:
        """The service, and the fakes that stand for its neighbours, are what the seams ask for."""
        groups = self.build()
        verifyObject(IHandle, groups.service)
        verifyObject(IRequester, groups.requester)
        verifyObject(IGroupSender, groups.sender)
