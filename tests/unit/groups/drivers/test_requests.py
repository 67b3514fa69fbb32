"""Group requests from the door to the record: who is told what and when, whoever goes away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import fail

from m2mapp.formats.documents import JSON, NDJSON, RESULTS_JSON, SENML_JSON
from m2mapp.groups.drivers.requests import MAX_UNDER_WAY
from m2mapp.groups.results import GroupResults
from m2mapp.groups.service import GroupService
from m2mapp.groups.settings import GroupSettings
from m2mapp.groups.subgroup import Subgroup
from m2mapp.model.errors import Conflict, DeadlinePassed, LoopDetected, Malformed, NotAcceptable, NotSupported, Overloaded, StorageFailed
from m2mapp.model.messages import Answer, Method, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal, Right
from tests.unit.groups.parts import NODE_NAME, GroupCase, Groups, answer, uri_at

CONTENT = "/groups/g/membersContent"
TEXT: dict[str, object] = {"content_type": "text/plain"}


class RequestCase(GroupCase):
    def build_joined(self, devices: int = 2, settings: GroupSettings | None = None) -> Groups:
        """A group of so many, all joined; what was sent for that is forgotten."""
        groups = self.build(devices, settings)
        groups.make([uri_at(number) for number in range(1, devices + 1)])
        groups.join_all()
        groups.requester.sent.clear()
        return groups

    def answer(self, groups: Groups, *numbers: int, code: str = "2.05", payload: bytes = b"21.5") -> None:
        """These devices answer the last group request."""
        for number in numbers:
            groups.sender.gatherings[-1].answer(answer(code, payload, f"fd00::d{number}"))

    def records(self, groups: Groups) -> list[dict[str, object]]:
        """The records of the group."""
        return [dict(entry.body) for entry in groups.built.committer.journals.get("groups/g", [])]


class FormTests(RequestCase):
    def test_own_keys_stay_here(self) -> None:
        """The figure is asked of the group server alone; the rest of the query goes to every member, by multicast and alone."""
        groups = self.build_joined()
        groups.register(3, multicastEnabled=False)
        groups.send(Method.POST, "/groups/g/members", {"members": [uri_at(3)]})
        done = groups.send(Method.GET, CONTENT, query=(("u", "C"), ("aggregate", "avg")))
        self.assertEqual(groups.sender.gatherings[0].outgoing.query, (("u", "C"),))
        self.assertEqual(groups.requester.sent[-1].uri, uri_at(3) + "?u=C")
        self.answer(groups, 1, 2)
        groups.requester.answer(groups.requester.waiting[-1], answer(payload=b"off"))
        shown = json.loads(self.successResultOf(done).payload)
        self.assertEqual(shown["aggregate"], {"function": "avg", "value": 21.5, "of": 2, "without": [uri_at(3)]})

    def test_refused_before_anything_is_sent(self) -> None:
        """No such figure, a rule that is none, a form that a write cannot have, a block that is kept no longer: nobody is asked."""
        groups = self.build_joined()
        for query in ((("aggregate", "mean"),), (("aggregate", "every"), ("rule", "value = 1")), (("aggregate", "any"),)):
            self.failureResultOf(groups.send(Method.GET, CONTENT, query=query), Malformed)
        self.failureResultOf(groups.send(Method.PUT, CONTENT, b"on", accept=(SENML_JSON,)), NotAcceptable)
        self.failureResultOf(groups.send(Method.GET, CONTENT, later_block=True), Conflict)
        self.assertEqual((groups.sender.gatherings, groups.requester.sent, self.records(groups)), ([], [], []))

    def test_senml(self) -> None:
        """Where not all gave numbers, SenML alone is 406 after all: the operation was done, and is recorded."""
        groups = self.build_joined()
        for payload in (b"21.5", b"on"):
            groups.send(Method.GET, CONTENT, accept=(SENML_JSON,))
            self.answer(groups, 1, 2, payload=payload)
        self.assertEqual([record["v"] for record in json.loads(self.successResultOf(groups.asked[-2]).payload)], [21.5, 21.5])
        self.failureResultOf(groups.asked[-1], NotAcceptable)
        self.assertEqual(len(self.records(groups)), 2)


class LineTests(RequestCase):
    def read(self, response: Response) -> list[dict[str, object]]:
        """The lines that are there by now."""
        assert response.stream is not None
        return [json.loads(line) for line in (response.stream.read() or b"").splitlines()]

    def test_as_they_come(self) -> None:
        """The first answer begins the response, each answer is a line when it is there, the last line is the summary."""
        groups = self.build_joined(3)
        done = groups.send(Method.GET, CONTENT, accept=(NDJSON,), takes_stream=True, query=(("aggregate", "sum"),))
        self.assertNoResult(done)
        self.answer(groups, 2)
        response = self.successResultOf(done)
        self.assertEqual((response.status, response.content_type), (Status.CONTENT, NDJSON))
        self.assertEqual([line["member"] for line in self.read(response)], [uri_at(2)])
        self.assertEqual(self.read(response), [])
        self.answer(groups, 1)
        self.assertEqual([line["member"] for line in self.read(response)], [uri_at(1)])
        groups.clock.pump([0.1] * 5)
        groups.requester.answer(groups.requester.waiting[0], answer())
        (line,) = self.read(response)
        self.assertEqual((line["member"], line["via"]), (uri_at(3), "repair"))
        (summary,) = self.read(response)
        self.assertEqual((summary["complete"], summary["aggregate"]), (True, {"function": "sum", "value": 64.5, "of": 3, "without": []}))
        assert response.stream is not None
        self.assertIsNone(response.stream.read())

    def test_nobody(self) -> None:
        """Where nobody answers there is no stream: 504."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT, accept=(NDJSON,), takes_stream=True)
        groups.clock.pump([1.0] * 31)
        self.failureResultOf(done, DeadlinePassed)

    def test_unknown(self) -> None:
        """Of a POST the last line names the members of which it is not known whether they acted."""
        groups = self.build(2)
        for number in (1, 2):
            groups.register(number, fixedGroups=["ff15::1"])
        groups.make([uri_at(1), uri_at(2)])
        done = groups.send(Method.POST, CONTENT, b"on", accept=(NDJSON,), takes_stream=True, **TEXT)
        self.answer(groups, 1, code="2.04", payload=b"")
        groups.clock.pump([1.0] * 31)
        response = self.successResultOf(done)
        self.assertEqual(len(self.read(response)), 1)
        (summary,) = self.read(response)
        self.assertEqual((summary["silent"], summary["unknown"], summary["complete"]), ([uri_at(2)], [uri_at(2)], False))

    def test_a_reader_that_goes(self) -> None:
        """A reader of lines that goes ends a read; a write goes on."""
        for method, ended in ((Method.GET, True), (Method.PUT, False)):
            groups = self.build_joined()
            done = groups.send(method, CONTENT, b"on", accept=(NDJSON,), takes_stream=True, **TEXT)
            self.answer(groups, 1)
            stream = self.successResultOf(done).stream
            assert stream is not None
            stream.close()
            self.assertEqual(groups.sender.gatherings[-1].closed, ended)
            self.answer(groups, 2)
            [record] = self.records(groups)
            self.assertEqual((record["cut"], record["silent"]), (ended, []))

    def test_a_stop(self) -> None:
        """A stopping gateway ends the lines with the summary of what came so far."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT, accept=(NDJSON,), takes_stream=True)
        self.answer(groups, 1)
        groups.service.stopService()
        response = self.successResultOf(done)
        self.assertEqual(len(self.read(response)), 1)
        self.assertEqual([line["silent"] for line in self.read(response)], [[uri_at(2)]])
        groups.service.startService()


class CallerTests(RequestCase):
    def test_a_write_goes_on(self) -> None:
        """A caller that does not wait for a write gets what came so far; the write goes on to its end, with repairs, and its record."""
        groups = self.build_joined()
        done = groups.send(Method.PUT, CONTENT, b"on", **TEXT)
        self.answer(groups, 1, code="2.04", payload=b"")
        done.cancel()
        self.assertEqual(json.loads(self.successResultOf(done).payload)["silent"], [uri_at(2)])
        self.assertEqual(self.records(groups), [])
        groups.clock.pump([0.1] * 5)
        groups.requester.answer(groups.requester.waiting[0], answer("2.04", b""))
        [record] = self.records(groups)
        self.assertEqual((record["silent"], record["statuses"]), ([], {uri_at(1): "2.04", uri_at(2): "2.04"}))

    def test_a_write_that_nobody_has_answered(self) -> None:
        """The same before any answer: 504 for the caller, and the write goes on."""
        groups = self.build_joined()
        done = groups.send(Method.PUT, CONTENT, b"on", **TEXT)
        done.cancel()
        self.failureResultOf(done, DeadlinePassed)
        self.answer(groups, 1, 2, code="2.04", payload=b"")
        self.assertEqual(self.records(groups)[0]["silent"], [])

    def test_a_read_ends(self) -> None:
        """A read that nobody waits for ends at once, and says in its record what came; who had no time to answer is not called silent."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT)
        self.answer(groups, 1)
        done.cancel()
        self.successResultOf(done)
        self.assertTrue(groups.sender.gatherings[0].closed)
        [record] = self.records(groups)
        self.assertEqual((record["cut"], record["silent"], record["statuses"]), (True, [], {uri_at(1): "2.05"}))

    def test_repeated_posts(self) -> None:
        """A POST is repeated for members that have taken an mcGroup: they keep the identifier, and do it once."""
        groups = self.build_joined()
        groups.send(Method.POST, CONTENT, b"on", request_id=b"12345678", **TEXT)
        self.answer(groups, 1, code="2.04", payload=b"")
        groups.clock.pump([0.1] * 5)
        [sent] = groups.requester.sent
        self.assertEqual((sent.method, sent.uri, sent.request_id), (Method.POST, uri_at(2), b"12345678"))
        groups.requester.answer(0, answer("2.04", b""))
        self.assertTrue(json.loads(self.successResultOf(groups.asked[-1]).payload)["complete"])

    def test_many_at_once(self) -> None:
        """As many as may be under way, each with other answers in another order: none is mixed with another's; one more is 503."""
        groups = self.build_joined()
        asked = [groups.send(Method.GET, CONTENT) for _ in range(MAX_UNDER_WAY)]
        fault = self.failureResultOf(groups.send(Method.GET, CONTENT), Overloaded).value
        self.assertEqual(fault.retry_after_s, 1)
        for place, gathering in reversed(list(enumerate(groups.sender.gatherings))):
            for number in (1, 2) if place % 2 else (2, 1):
                gathering.answer(answer(payload=f"{place} of {number}".encode(), source=f"fd00::d{number}"))
        for place, done in enumerate(asked):
            members = json.loads(self.successResultOf(done).payload)["members"]
            self.assertEqual({uri: entry["content"] for uri, entry in members.items()}, {uri_at(n): f"{place} of {n}" for n in (1, 2)})


class ExpandTests(RequestCase):
    def test_groups_at_other_servers(self) -> None:
        """The members of a group at another server stand in its place: in the document, the lines, the record and the state."""
        groups = self.build_joined()

        def expand(results: GroupResults, subgroups: Sequence[Subgroup]) -> GroupResults:
            self.assertEqual(tuple(subgroups), ())
            found = {uri.replace("/t", "/inner"): result for uri, result in results.members.items()}
            return replace(results, members=found)

        groups.service._requests.expand = expand
        for accept in ((), (NDJSON,)):
            done = groups.send(Method.GET, CONTENT, accept=accept, takes_stream=True)
            self.answer(groups, 1, 2)
            response = self.successResultOf(done)
            payload = response.payload if response.stream is None else response.stream.read() or b""
            self.assertEqual(payload.count(b'"2.05"'), payload.count(b"/inner"))
            self.assertEqual(payload.count(b"/inner"), 2)
        inner = [uri_at(number, "/inner") for number in (1, 2)]
        self.assertEqual([list(dict(record["statuses"])) for record in self.records(groups)], [inner, inner])  # type: ignore[call-overload]
        self.assertIsNotNone(groups.service._requests.latest.of(inner[0]).heard_ms)


class RecordTests(RequestCase):
    def test_nobody_answered(self) -> None:
        """An operation that nobody answered is recorded like any other."""
        groups = self.build_joined()
        done = groups.send(Method.GET, CONTENT)
        groups.clock.pump([1.0] * 31)
        self.assertEqual(str(self.failureResultOf(done, DeadlinePassed).value), "nobody of /groups/g answered within 30 s")
        [record] = self.records(groups)
        self.assertEqual((record["statuses"], record["silent"]), ({}, [uri_at(1), uri_at(2)]))

    def test_one_reason_for_all(self) -> None:
        """Where no member could be asked for one and the same reason, that is what the caller is told."""
        groups = self.build(1)
        groups.send(Method.POST, "/groups", {"name": "g", "members": ["coaps://x/t", "coaps://y/t"]})
        done = groups.send(Method.GET, CONTENT)
        for place in groups.requester.waiting:
            groups.requester.answer(place, NotSupported("no coaps"))
        self.failureResultOf(done, NotSupported)


class StateTests(RequestCase):
    def state(self, groups: Groups, *query: tuple[str, str]) -> dict[str, dict[str, object]]:
        """The members' state."""
        response = self.successResultOf(groups.send(Method.GET, "/groups/g/members", query=(("state", ""), *query)))
        self.assertEqual((response.etag, response.max_age_s), (None, 0))
        found: dict[str, dict[str, object]] = json.loads(response.payload)["state"]
        return found

    def test_told(self) -> None:
        """Before anything was asked nothing is known; then when each was heard, its value, that it is fresh, and who is silent."""
        groups = self.build_joined()
        nothing = {"lastHeard": None, "status": None, "via": None, "silentSince": None, "value": None}
        self.assertEqual(self.state(groups), {uri_at(1): {"join": "joined", **nothing}, uri_at(2): {"join": "joined", **nothing}})
        groups.send(Method.GET, CONTENT)
        self.answer(groups, 1)
        groups.clock.pump([1.0] * 31)
        found = self.state(groups)
        at = "2027-01-15T08:00:00.000Z"
        self.assertEqual(found[uri_at(1)]["value"], {"contentType": "text/plain", "content": "21.5", "at": at, "maxAge": 60, "fresh": True})
        self.assertEqual((found[uri_at(1)]["lastHeard"], found[uri_at(2)]["silentSince"]), (at, at))
        groups.clock.advance(60.0)
        self.assertIs(self.state(groups)[uri_at(1)]["value"]["fresh"], False)  # type: ignore[index]

    def test_no_write_comes_of_it(self) -> None:
        """A group read commits its record and nothing else; the members' list and its ETag are as they were."""
        groups = self.build_joined()
        groups.send(Method.GET, CONTENT)
        self.answer(groups, 1, 2)
        groups.clock.advance(1.0)
        before = self.successResultOf(groups.send(Method.GET, "/groups/g/members"))
        units = len(groups.built.committer.units)
        groups.send(Method.GET, CONTENT)
        self.answer(groups, 1, 2)
        groups.clock.advance(1.0)
        self.assertEqual([(unit.changes, len(unit.appends)) for unit in groups.built.committer.units[units:]], [((), 1)])
        self.assertEqual(self.successResultOf(groups.send(Method.GET, "/groups/g/members")), before)

    def test_after_a_restart(self) -> None:
        """A new process knows from the records when a member was heard last, and its value, which it does not call fresh."""
        groups = self.build_joined()
        groups.send(Method.GET, CONTENT)
        self.answer(groups, 1, 2)
        groups.service.stopService()
        groups.service = GroupService(groups.clock, groups.service._node, Metrics())
        groups.service.startService()
        for _ in range(2):
            value = self.state(groups)[uri_at(1)]["value"]
            assert isinstance(value, dict)
            self.assertEqual((value["content"], value["fresh"]), ("21.5", False))

    def test_records_that_cannot_be_read(self) -> None:
        """Where the records cannot be read that is told, and the next who asks has them read again."""
        groups = self.build_joined()
        committer, read = groups.built.committer, groups.built.committer.read_journal
        committer.read_journal = lambda *_, **__: fail(StorageFailed("broken"))  # type: ignore[method-assign]
        self.failureResultOf(groups.send(Method.GET, "/groups/g/members", query=(("state", ""),)), StorageFailed)
        committer.read_journal = read  # type: ignore[method-assign]
        self.assertEqual(len(self.state(groups)), 2)

    def test_pages(self) -> None:
        """In pages, each with the query of the next; what is no member, no number or no flag is refused."""
        groups = self.build(5)
        groups.make([uri_at(number) for number in range(1, 6)])
        self.assertEqual(list(self.state(groups, ("limit", "2"), ("after", uri_at(2)))), [uri_at(3), uri_at(4)])
        first = self.successResultOf(groups.send(Method.GET, "/groups/g/members", query=(("state", ""), ("limit", "4"))))
        self.assertEqual(first.next_query, (("state", ""), ("limit", "4"), ("after", uri_at(4))))
        self.assertEqual(json.loads(first.payload)["next"], uri_at(4))
        for query in ((("state", "x"),), (("state", ""), ("after", "coap://x/")), (("state", ""), ("limit", "0"))):
            self.failureResultOf(groups.send(Method.GET, "/groups/g/members", query=query), Malformed)

    def test_max_age(self) -> None:
        """A value is fresh as long as its member says."""
        groups = self.build_joined()
        groups.send(Method.GET, CONTENT)
        groups.sender.gatherings[0].answer(Answer("2.05", b"1", "text/plain", "fd00::d1", 5683, max_age_s=3600))
        self.answer(groups, 2)
        groups.clock.advance(600.0)
        fresh = [state["value"]["fresh"] for state in self.state(groups).values()]  # type: ignore[index]
        self.assertEqual(fresh, [True, False])


class NestedTests(RequestCase):
    THERE = "http://g2.example.org/groups/x"

    def build_nested(self) -> Groups:
        """The group g has device 1, the group h of this node, one that is not there, and one at another server; h has device 2 and g."""
        groups = self.build()
        own = f"http://{NODE_NAME}/groups/"
        groups.send(Method.POST, "/groups", {"name": "h", "members": [uri_at(2), f"{own}g"]})
        groups.send(Method.POST, "/groups", {"name": "g", "members": [uri_at(1), f"{own}h", f"{own}none", self.THERE]})
        self.told(groups, self.THERE, answer("200", b'{"type": "static", "members": ["coap://d3.example.org/t"]}', content_type=JSON))
        groups.clock.pump([1.0, 1.0])
        groups.requester.sent.clear()
        return groups

    def told(self, groups: Groups, uri: str, found: Answer) -> None:
        """The answer of whoever was asked at that URI."""
        [place] = [place for place in groups.requester.waiting if groups.requester.sent[place].uri == uri]
        groups.requester.answer(place, found)

    def answer_all(self, groups: Groups) -> None:
        """Both devices answer, and the other server, which says the same of device 2 that this node knows, and something of device 3."""
        entry = {"status": "2.05", "contentType": "text/plain", "content": "23"}
        joined = json.dumps({"members": {uri_at(2): entry, uri_at(3): entry}, "loops": 1}).encode()
        self.told(groups, uri_at(1), answer())
        self.told(groups, f"{self.THERE}/membersContent", answer("200", joined, content_type=RESULTS_JSON))
        self.told(groups, uri_at(2), answer(payload=b"22"))

    def test_one_request(self) -> None:
        """Groups here are gone through without a message, one elsewhere is asked once with the same identifier, a missing one shows it."""
        groups = self.build_nested()
        done = groups.send(Method.GET, CONTENT, request_id=b"12345678")
        self.assertEqual(sorted(one.uri for one in groups.requester.sent), [uri_at(1), uri_at(2), f"{self.THERE}/membersContent"])
        self.assertEqual({one.request_id for one in groups.requester.sent}, {b"12345678"})
        self.answer_all(groups)
        shown = json.loads(self.successResultOf(done).payload)
        self.assertEqual((shown["complete"], shown["loops"]), (True, 2))
        statuses = {uri: entry["status"] for uri, entry in shown["members"].items()}
        missing = f"http://{NODE_NAME}/groups/none"
        self.assertEqual(statuses, {missing: "4.04", **{uri_at(number): "2.05" for number in (1, 2, 3)}})

    def test_lines(self) -> None:
        """In lines each answer stands once, whoever told it first, and what could not be asked stands there too."""
        groups = self.build_nested()
        done = groups.send(Method.GET, CONTENT, accept=(NDJSON,), takes_stream=True)
        self.answer_all(groups)
        stream = self.successResultOf(done).stream
        assert stream is not None
        lines = [json.loads(line) for line in (stream.read() or b"").splitlines()]
        named = [line["member"] for line in lines if "member" in line]
        self.assertEqual(sorted(named), sorted([f"http://{NODE_NAME}/groups/none", *(uri_at(number) for number in (1, 2, 3))]))

    def test_the_inner_group_alone(self) -> None:
        """A group that a request went through is a loop for others who ask it with the same identifier, and not with another one."""
        groups = self.build_nested()
        groups.send(Method.PUT, CONTENT, b"1", content_type="text/plain", request_id=b"12345678")
        inner = CONTENT.replace("/g/", "/h/")
        again = groups.send(Method.PUT, inner, b"1", content_type="text/plain", request_id=b"12345678", requester=b"anybody0")
        self.failureResultOf(again, LoopDetected)
        sent = len(groups.requester.sent)
        groups.send(Method.PUT, inner, b"1", content_type="text/plain", request_id=b"87654321")
        self.assertGreater(len(groups.requester.sent), sent)

    def test_the_callers_right(self) -> None:
        """Whoever may not ask the inner group does not ask it through the outer one."""
        groups = self.build_nested()
        principal = Principal("one", frozenset({Right.READ}), (("groups", "g"),))
        done = groups.send(Method.GET, CONTENT, principal=principal)
        self.assertNotIn(uri_at(2), [one.uri for one in groups.requester.sent])
        self.told(groups, uri_at(1), answer())
        self.told(groups, f"{self.THERE}/membersContent", answer("404", b"", content_type="text/plain"))
        shown = json.loads(self.successResultOf(done).payload)["members"]
        self.assertEqual(shown[f"http://{NODE_NAME}/groups/h"]["status"], "4.03")
