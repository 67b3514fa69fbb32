"""Dynamic and temporary groups, through the service that answers for them: what they are made of, followed, changed and ended by."""

from __future__ import annotations

import json
from typing import Any

from m2mapp.formats.documents import MERGE_PATCH, rfc3339
from m2mapp.groups.drivers.ending import LOOK_S, RETRY_S
from m2mapp.groups.drivers.replan import AFTER_S
from m2mapp.groups.service import GroupService
from m2mapp.model.errors import Malformed, MethodNotAllowed, StorageFailed
from m2mapp.model.messages import Answer, Method
from m2mapp.model.metrics import Metrics
from tests.unit.groups.parts import GroupCase, Groups, answer, uri_at

TEMPERATURE, LAMP = {"href": "/t", "rt": "temperature", "ct": "0"}, {"href": "/lamp", "rt": "lamp x.switch"}


class TypesCase(GroupCase):
    def read(self, groups: Groups, path: str = "/groups/g") -> dict[str, Any]:
        """The document at a path."""
        found = json.loads(self.successResultOf(groups.send(Method.GET, path)).payload)
        assert isinstance(found, dict)
        return found

    def patched(self, groups: Groups, document: dict[str, object]) -> None:
        """A merge patch of the group, which is taken."""
        payload = json.dumps(document).encode()
        self.successResultOf(groups.send(Method.PATCH, "/groups/g", None, payload=payload, content_type=MERGE_PATCH))

    def soon(self, groups: Groups) -> None:
        """What is gathered is done."""
        groups.clock.pump([AFTER_S, 1.0, 1.0])


class DynamicTests(TypesCase):
    def build_dynamic(self, query: str = "rt=temperature") -> Groups:
        """Devices d1 and d2 with a thermometer, d3 with a lamp; a dynamic group."""
        groups = self.build()
        for number, link in ((1, TEMPERATURE), (2, TEMPERATURE), (3, LAMP)):
            groups.register(number, links=[link])
        self.successResultOf(groups.send(Method.POST, "/groups", {"name": "g", "type": "dynamic", "query": query}))
        return groups

    def test_made(self) -> None:
        """Its members are the registered links that pass the query; each is asked one by one, and no device is told anything."""
        groups = self.build_dynamic()
        shown = self.read(groups)
        self.assertEqual((shown["type"], shown["query"], shown["members"]), ("dynamic", "rt=temperature", [uri_at(1), uri_at(2)]))
        self.assertEqual({one.is_multicast for one in groups.sets()}, {False})
        self.assertEqual(groups.sets()[0].why[uri_at(1)], "every member of a dynamic group is asked one by one")
        self.assertEqual(groups.told(), [])
        self.assertEqual(self.read(groups, "/groups/g/members"), {"members": [uri_at(1), uri_at(2)]})

    def test_queries(self) -> None:
        """Attributes of links, by word and by beginning; of registrations; all pairs have to hold; links of one device apart."""
        groups = self.build()
        groups.register(1, links=[TEMPERATURE, LAMP], attributes={"d": "floor1", "et": "board"})
        groups.register(2, links=[TEMPERATURE, {"href": "coap://other.example.org/x", "rt": "far"}], attributes={"d": "floor2"}, port=5700)
        groups.register(3, links=[{"href": "/%C3%BC", "if": "core.s"}, {"href": "//", "if": "core.s"}], hosts=[])
        second = "coap://d2.example.org:5700/t"
        for query, members in (
            ("rt=temperature", [uri_at(1), second]),
            ("rt=lamp", [uri_at(1, "/lamp")]),
            ("rt=x.switch", [uri_at(1, "/lamp")]),
            ("rt=x.*", [uri_at(1, "/lamp")]),
            ("rt=x", []),
            ("ct=0&rt=temperature&d=floor2", [second]),
            ("ep=d1", [uri_at(1, "/lamp"), uri_at(1)]),
            ("host=d2.*&href=/t", [second]),
            ("et=board&rt=lamp", [uri_at(1, "/lamp")]),
            ("rt=far", ["coap://other.example.org/x"]),
            ("if=core.s", ["coap://[fd00::d3]/%C3%BC"]),
            ("none=1", []),
        ):
            self.successResultOf(groups.send(Method.PUT, "/groups/g", {"type": "dynamic", "query": query}))
            self.assertEqual(self.read(groups)["members"], members, query)

    def test_followed(self) -> None:
        """Devices that come, go and say something else of themselves are followed; other registrations change nothing."""
        groups = self.build_dynamic()
        groups.register(4, links=[TEMPERATURE])
        groups.deregister(1)
        self.soon(groups)
        self.assertEqual(self.read(groups)["members"], [uri_at(2), uri_at(4)])
        self.assertEqual(sorted(one.members for one in groups.sets()), [(uri_at(2),), (uri_at(4),)])
        groups.register(2, links=[LAMP])
        self.soon(groups)
        self.assertEqual(self.read(groups)["members"], [uri_at(4)])
        before = len(groups.built.committer.units)
        groups.register(3, links=[LAMP], lifetime=60)
        groups.register(4, links=[TEMPERATURE], lifetime=60)
        self.soon(groups)
        self.assertEqual(len(groups.built.committer.units), before + 2)

    def test_nobody(self) -> None:
        """A group that nobody is in is there, is asked, and answers at once with nobody; who comes is in it."""
        groups = self.build_dynamic("rt=none")
        results = json.loads(self.successResultOf(groups.send(Method.GET, "/groups/g/membersContent")).payload)
        self.assertEqual((results["members"], results["complete"]), ({}, True))
        groups.register(5, links=[{"href": "/n", "rt": "none"}])
        self.soon(groups)
        done = groups.send(Method.GET, "/groups/g/membersContent")
        groups.requester.answer(groups.requester.waiting[0], answer(source="fd00::d5"))
        self.assertEqual(list(json.loads(self.successResultOf(done).payload)["members"]), [uri_at(5, "/n")])

    def test_members_cannot_be_set(self) -> None:
        """Its members follow from the query; what was read can be written back."""
        groups = self.build_dynamic()
        for method, more in ((Method.PUT, {}), (Method.POST, {}), (Method.DELETE, {"query": (("uri", uri_at(1)),)})):
            self.failureResultOf(groups.send(method, "/groups/g/members", {"members": [uri_at(9)]}, **more), MethodNotAllowed)
        shown = self.read(groups)
        self.successResultOf(groups.send(Method.PUT, "/groups/g", shown))
        self.assertEqual(self.read(groups)["members"], shown["members"])
        self.failureResultOf(groups.send(Method.PUT, "/groups/g", {**shown, "members": [uri_at(9)]}), Malformed)

    def test_changed(self) -> None:
        """The query can be changed; a static group becomes dynamic, leaving its addresses, and static again with the members it has."""
        groups = self.build_dynamic()
        self.patched(groups, {"query": "rt=lamp"})
        self.assertEqual(self.read(groups)["members"], [uri_at(3, "/lamp")])
        self.patched(groups, {"query": "rt=temperature"})
        self.patched(groups, {"type": "static", "query": None})
        self.assertEqual([one.members for one in groups.sets()], [(uri_at(1), uri_at(2))])
        groups.join_all()
        groups.register(4, links=[TEMPERATURE])
        self.soon(groups)
        self.assertEqual(self.read(groups)["members"], [uri_at(1), uri_at(2)])
        groups.requester.sent.clear()
        self.patched(groups, {"type": "dynamic", "query": "rt=temperature"})
        self.assertEqual(
            sorted(told.partition("/mcGroups")[0] for told in groups.told()), ["DELETE coap://[fd00::d1]", "DELETE coap://[fd00::d2]"]
        )
        self.assertEqual(self.read(groups)["members"], [uri_at(1), uri_at(2), uri_at(4)])

    def test_what_changed_before_the_start(self) -> None:
        """Registrations that changed when no service followed them count when one starts, a new one or the same."""
        groups = self.build_dynamic()
        groups.service.stopService()
        groups.deregister(1)
        groups.service.startService()
        self.soon(groups)
        self.assertEqual(self.read(groups)["members"], [uri_at(2)])
        groups.service.stopService()
        groups.register(4, links=[TEMPERATURE])
        groups.service = GroupService(groups.clock, groups.service._node, Metrics())
        groups.service.startService()
        self.soon(groups)
        self.assertEqual(self.read(groups)["members"], [uri_at(2), uri_at(4)])


class TemporaryTests(TypesCase):
    def build_temporary(self, ends_in_s: float) -> Groups:
        """A temporary group of two devices."""
        groups = self.build(2)
        at = rfc3339(groups.built.clock.now_ms() + int(ends_in_s * 1000))
        self.successResultOf(groups.make([uri_at(1), uri_at(2)], type="temporary", expires=at))
        return groups

    def advance(self, groups: Groups, seconds: float) -> None:
        """Both clocks go on."""
        while seconds > 0:
            step = min(seconds, 10.0)
            groups.built.clock.advance(int(step * 1000))
            groups.clock.advance(step)
            seconds -= step

    def is_there(self, groups: Groups) -> bool:
        """Whether the group is there."""
        return groups.built.tree.find(("groups", "g")) is not None

    def test_ends(self) -> None:
        """It is never multicast, is there until its time, and not after it."""
        groups = self.build_temporary(200.0)
        self.assertEqual(({one.is_multicast for one in groups.sets()}, groups.told()), ({False}, []))
        self.advance(groups, 199.0)
        self.assertTrue(self.is_there(groups))
        self.advance(groups, 1.0)
        self.assertFalse(self.is_there(groups))

    def test_a_clock_that_steps(self) -> None:
        """A wall clock that learns the time late ends the group within a minute; one that stood in the past has not ended it."""
        groups = self.build_temporary(3_000_000.0)
        groups.built.clock.advance(-20 * 365 * 86_400_000)
        self.advance(groups, 120.0)
        self.assertTrue(self.is_there(groups))
        groups.built.clock.advance(21 * 365 * 86_400_000)
        groups.clock.advance(LOOK_S)
        self.assertFalse(self.is_there(groups))

    def test_over_while_nobody_looked(self) -> None:
        """What was over when the program started is ended then."""
        groups = self.build_temporary(200.0)
        groups.service.stopService()
        groups.built.clock.advance(300_000)
        groups.service = GroupService(groups.clock, groups.service._node, Metrics())
        groups.service.startService()
        groups.clock.advance(0.0)
        self.assertFalse(self.is_there(groups))

    def test_a_disk_that_fails(self) -> None:
        """It is tried again until the end is on disk."""
        groups = self.build_temporary(10.0)
        groups.built.committer.fault = StorageFailed("broken")
        self.advance(groups, 10.0)
        self.assertTrue(self.is_there(groups))
        groups.built.committer.fault = None
        self.advance(groups, RETRY_S)
        self.assertFalse(self.is_there(groups))

    def test_changed(self) -> None:
        """The time can be moved; a static group that becomes temporary leaves its addresses; one that becomes static does not end."""
        groups = self.build_temporary(100.0)
        self.patched(groups, {"expires": rfc3339(groups.built.clock.now_ms() + 500_000)})
        self.advance(groups, 200.0)
        self.assertTrue(self.is_there(groups))
        self.patched(groups, {"type": "static", "expires": None})
        groups.join_all()
        groups.requester.sent.clear()
        self.patched(groups, {"type": "temporary", "expires": rfc3339(groups.built.clock.now_ms() + 10_000)})
        self.assertEqual([told.partition(" ")[0] for told in groups.told()], ["DELETE", "DELETE"])
        for place in groups.requester.waiting:
            groups.requester.answer(place, Answer("2.02"))
        self.patched(groups, {"type": "static", "expires": None})
        self.advance(groups, 600.0)
        self.assertTrue(self.is_there(groups))
