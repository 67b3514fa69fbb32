"""The pages of groups: what they show, what is done there, and that it is told as done only when the effect was seen."""

from __future__ import annotations

from m2mapp.model.messages import Answer, Method
from tests.unit.admin.house_of_groups import GroupsCase, text_of, words
from tests.unit.groups.parts import FIRST_ADDRESS, answer, uri_at
from tests.unit.http.harness import SCOPED, VIEWER

ALL = [uri_at(number) for number in (1, 2, 3)]
AT = "/admin/groups/g"


class ListTests(GroupsCase):
    def test_the_list(self) -> None:
        """Each group with its members and how they stand; found by a part of its name."""
        self.assertIn("There is no group", self.page("/admin/groups"))
        self.groups.make(ALL)
        self.groups.make(["http://x.example.org/t"], "other")
        shown = self.part("/admin/groups", "groups")
        self.assertIn("g joining static 3 3 being told to join", shown)
        self.assertIn("other ready static 1 1 asked one by one", shown)
        self.assertNotIn("other", self.part("/admin/groups?find=G", "groups"))
        self.groups.join_all()
        self.assertIn("g ready static 3 3 joined", self.part("/admin/groups", "groups"))

    def test_many(self) -> None:
        """A long list is shown in parts, each of which names the next."""
        for number in range(120):
            self.groups.make(["http://x.example.org/t"], f"n{number:03}")
        first = self.page("/admin/groups")
        self.assertEqual(first.count('<th scope="row">'), 100)
        self.assertIn("after=n099", first)
        self.assertEqual(self.page("/admin/groups?find=&after=n099").count('<th scope="row">'), 20)

    def test_rights(self) -> None:
        """A viewer is offered nothing that writes, and cannot do it; one with another scope sees no group."""
        self.groups.make(ALL)
        viewer = self.house.signed_in(VIEWER)
        page = self.page(AT, viewer)
        self.assertNotIn("Take out", page)
        self.assertNotIn('value="delete"', page)
        for form in ({"do": "delete"}, {"do": "take-out", "uri": ALL[0]}, {"do": "ask", "method": "PUT"}):
            self.assertEqual(viewer.post(AT, **form).code, 403, form)
        self.assertEqual(viewer.post("/admin/new-group", do="save", type="static", members=ALL[0]).code, 403)
        self.assertEqual(len(self.groups.sets()), 1)
        scoped = self.house.signed_in(SCOPED)
        self.assertEqual((scoped.get("/admin/groups").code, scoped.get(AT).code), (403, 403))


class MakeTests(GroupsCase):
    def setUp(self) -> None:
        super().setUp()
        for number in (1, 2, 3):
            links = [{"href": "/t", "rt": "temperature"}, {"href": "/lamp", "rt": "light"}, {"href": "/m", "rt": "m2m.mcgroups"}]
            self.groups.register(number, links=links)

    def form(self, **more: str) -> dict[str, str]:
        """The form of a static group."""
        return {"name": "g", "type": "static", "members": "\n".join(ALL), **more}

    def test_picked(self) -> None:
        """Resources of registered devices are found by words and added to what stands there, one by one or all that are found."""
        page = text_of(self.visitor.post("/admin/new-group", **self.form(do="find", find="temp", members="")))
        self.assertIn("Add all 3", page)
        self.assertNotIn("/lamp", page)
        self.assertNotIn('d1.example.org/m"', self.page("/admin/new-group"))
        page = text_of(self.visitor.post("/admin/new-group", **self.form(do="pick", find="temp", members="coap://x/y", pick=uri_at(2))))
        self.assertIn(f"coap://x/y\n{uri_at(2)}</textarea>", page)
        page = text_of(self.visitor.post("/admin/new-group", **self.form(do="pick-all", find="temp", members=uri_at(3))))
        self.assertIn("\n".join([uri_at(3), uri_at(1), uri_at(2)]) + "</textarea>", page)
        page = text_of(self.visitor.post("/admin/new-group", **self.form(do="pick-all", find="d2", path="x/y", members="")))
        self.assertIn("coap://d2.example.org/x/y</textarea>", page)

    def test_the_plan(self) -> None:
        """The plan has each member's reason; nothing is made, and it is in no audit list. What is wrong is told, and the form kept."""
        number = self.house.built.tree.committed_number
        members = "\n".join([*ALL[:2], "http://x.example.org/t"])
        page = text_of(self.visitor.post("/admin/new-group", **self.form(do="plan", members=members)))
        shown = words(page, "plan")
        self.assertIn(f"multicast (set 1) 2 2: same path, local domain {ALL[0]} {ALL[1]} {FIRST_ADDRESS} /t", shown)
        self.assertIn("1: http cannot be multicast", shown)
        self.assertEqual(self.house.built.tree.committed_number, number)
        refused = self.visitor.post("/admin/new-group", **self.form(do="plan", members="nonsense"))
        self.assertEqual(refused.code, 400)
        self.assertIn("nonsense</textarea>", text_of(refused))

    def test_made_and_joined(self) -> None:
        """A group is told as made when its devices have joined, not when it was asked."""
        self.assertEqual(self.done(self.visitor.post("/admin/new-group", **self.form(do="save"))), AT)
        self.assertIn("Asked: the group g is made; its effect is awaited", self.part(AT, "notices"))
        self.groups.join_all()
        self.assertIn("Done: the group g is made (3 joined)", self.part(AT, "notices"))

    def test_nobody_joins(self) -> None:
        """Where no device confirms in time, that is told, and nothing as done."""
        self.visitor.post("/admin/new-group", **self.form(do="save"))
        self.house.clock.advance(60)
        self.assertIn("Not done: the group g is made (it was asked, and its effect was not seen within 60 s)", self.part(AT, "notices"))

    def test_other_types(self) -> None:
        """A dynamic group takes its query, a temporary one its end; there nobody has to join."""
        self.done(self.visitor.post("/admin/new-group", do="save", name="hot", type="dynamic", query="rt=temperature", members="ignored"))
        self.assertIn("Done: the group hot is made (3 asked one by one)", self.part("/admin/groups/hot", "notices"))
        self.done(self.visitor.post("/admin/new-group", **self.form(do="save", name="t", type="temporary", expires="2099-01-01T00:00:00Z")))
        self.assertIn("2099-01-01 00:00:00", self.part("/admin/groups/t", "standing"))
        self.assertEqual(self.visitor.post("/admin/new-group", **self.form(do="save", type="other")).code, 400)

    def test_changed(self) -> None:
        """Members come and go: who would go is in the plan; two effects are awaited, the joins and the leaves."""
        self.groups.make(ALL[:2])
        self.groups.join_all()
        page = self.page("/admin/edit-group/g")
        version = page.partition('name="version" value="')[2].partition('"')[0]
        form = {"version": version, "type": "static", "members": "\n".join(ALL[1:])}
        planned = words(text_of(self.visitor.post("/admin/edit-group/g", do="plan", **form)), "plan")
        self.assertIn("1 would go, and their devices be told to leave coap://d1.example.org/t", planned)
        self.done(self.visitor.post("/admin/edit-group/g", do="save", **form))
        told = self.part(AT, "notices")
        self.assertIn("Asked: members are taken out of g", told)
        self.assertIn("Asked: the group g is changed", told)
        self.groups.join_all()
        told = self.part(AT, "notices")
        self.assertIn("Done: members are taken out of g (1 member has left, as their devices confirmed)", told)
        self.assertIn("Done: the group g is changed (2 joined)", told)

    def test_changed_by_two(self) -> None:
        """What somebody else has changed meanwhile is not written over."""
        self.groups.make(ALL[:2])
        version = self.page("/admin/edit-group/g").partition('name="version" value="')[2].partition('"')[0]
        self.groups.send(Method.POST, "/groups/g/members", {"members": [ALL[2]]})
        refused = self.visitor.post("/admin/edit-group/g", do="save", version=version, type="static", members=ALL[0])
        self.assertEqual(refused.code, 409)
        self.assertIn("somebody else has changed the group", text_of(refused))
        self.assertEqual(self.visitor.get("/admin/edit-group/none").code, 404)


class OneTests(GroupsCase):
    def setUp(self) -> None:
        super().setUp()
        self.groups.make(ALL)
        while self.groups.requester.waiting:
            self.groups.join_all()
        self.groups.requester.sent.clear()

    def ask(self, **form: str) -> str:
        """Ask the group by the page; where its answers are."""
        return self.done(self.visitor.post(AT, do="ask", **form))

    def answer_of(self, *numbers: int, code: str = "2.05") -> None:
        """Devices answer the last group request."""
        for number in numbers:
            self.groups.sender.gatherings[-1].answer(answer(code, source=f"fd00::d{number}"))

    def test_answers_one_by_one(self) -> None:
        """Each answer is on the page when it has come; who was asked again and who stayed silent is told."""
        at = self.ask(method="GET")
        self.assertIn("3 answers are awaited", self.part(at, "progress"))
        self.assertIn('http-equiv="refresh"', self.page(at))
        self.answer_of(2)
        self.assertIn(f"{uri_at(2)} 2.05 21.5 multicast", self.part(at, "answers"))
        self.assertIn("1 answer of 3 members", self.part(at, "progress"))
        while not self.groups.requester.waiting:
            self.groups.clock.advance(0.5)
        place = next(place for place in self.groups.requester.waiting if self.groups.requester.sent[place].uri == uri_at(1))
        self.groups.requester.answer(place, Answer("4.04"))
        self.assertIn("asked again, alone", self.part(at, "answers"))
        self.groups.clock.advance(31)
        page = self.page(at)
        self.assertIn("Over: 1 member did not answer", words(page, "progress"))
        self.assertIn(f"silent {uri_at(3)}", words(page, "missing"))
        self.assertNotIn('http-equiv="refresh"', page)
        self.assertNotIn(uri_at(2), words(self.page(at + "?only=failed"), "answers"))
        self.assertIn(uri_at(1), words(self.page(at + "?only=repair"), "answers"))

    def test_what_is_known_afterwards(self) -> None:
        """The group's page has who was heard and what they said, who is silent since when, and the record of the request."""
        self.ask(method="GET")
        self.answer_of(1, 2)
        self.groups.clock.advance(31)
        shown = self.part(AT, "members")
        self.assertIn(f"{uri_at(1)} joined 2027-01-15 08:00:00 2.05 21.5", shown)
        self.assertIn(f"{uri_at(3)} silent since 2027-01-15", shown)
        self.assertNotIn(uri_at(1), self.part(AT + "?only=silent", "members"))
        self.assertNotIn(uri_at(1), self.part(AT + "?find=D2", "members"))
        self.assertIn("admin GET /groups/g/membersContent 2 0 1", self.part(AT, "records"))
        self.assertIn("2 answered, 1 silent", self.part(AT, "standing"))
        number = self.house.built.committer.journals["groups/g"][-1].number
        past = self.page(f"{AT}/past/{number}")
        self.assertIn(uri_at(3), words(past, "silent-title"))
        self.assertIn(f"{uri_at(1)} 2.05 21.5", words(past, "answers-title"))
        self.assertEqual(self.visitor.get(f"{AT}/past/999").code, 404)

    def test_a_write(self) -> None:
        """A write goes to each member as it was typed, below the members' path if asked."""
        at = self.ask(method="PUT", suffix="set", content="on", type="text/plain")
        sent = self.groups.sender.gatherings[-1].outgoing
        self.assertEqual((sent.method, sent.path, sent.payload), (Method.PUT, ("t", "set"), b"on"))
        self.answer_of(1, 2, 3, code="2.04")
        self.assertIn("Done: every member has answered", self.part(at, "progress"))
        deed = self.house.built.committer.journals["audit"][-1].body
        self.assertEqual((deed["what"], deed["where"], deed["outcome"]), ("PUT", "/groups/g/membersContent/set", "done"))

    def test_no_group(self) -> None:
        """Nothing is done to a group that is not there, nor to all."""
        for target in ("/admin/groups", "/admin/groups/none", "/admin/groups/g/members"):
            for form in ({"do": "delete"}, {"do": "take-out", "uri": uri_at(1)}, {"do": "ask"}):
                self.assertEqual(self.visitor.post(target, **form).code, 404, (target, form))
        for target in ("/admin/groups/g/members", "/admin/groups/g/past/x", "/admin/groups/none"):
            self.assertEqual(self.visitor.get(target).code, 404, target)
        self.assertEqual(len(self.groups.sets()), 1)

    def test_refused(self) -> None:
        """What cannot be asked is told on the group's page; what is not kept any more is not there."""
        self.assertEqual(self.visitor.post(AT, do="ask", method="BREW").code, 400)
        self.assertEqual(self.visitor.get("/admin/asked/1234").code, 404)
        at = self.ask(method="GET")
        self.assertEqual(self.house.signed_in(SCOPED).get(at).code, 403)
        self.groups.clock.advance(31)
        self.assertIn("nobody of /groups/g answered", self.part(at, "progress"))
        self.assertIn(uri_at(3), self.part(at, "missing"))

    def test_taken_out(self) -> None:
        """A member is taken out at once, and told as gone when its device has confirmed that it left."""
        self.done(self.visitor.post(AT, do="take-out", uri=uri_at(3)))
        self.assertIn(f"Asked: {uri_at(3)} is taken out of g", self.part(AT, "notices"))
        self.assertIn("1 member that went has still to leave", self.part(AT, "standing"))
        self.groups.join_all()
        self.assertIn("1 member has left, as their devices confirmed", self.part(AT, "notices"))

    def test_one_that_never_leaves(self) -> None:
        """Who goes is told as gone whoever else has still to leave since before; where the device says nothing, it is not told as done."""
        self.visitor.post(AT, do="take-out", uri=uri_at(3))
        self.house.clock.advance(60)
        self.assertIn("Not done: coap://d3.example.org/t is taken out of g", self.part(AT, "notices"))
        self.visitor.post(AT, do="take-out", uri=uri_at(2))
        waiting = [place for place in self.groups.requester.waiting if "d2" in self.groups.requester.sent[place].uri]
        for place in waiting:
            self.groups.requester.answer(place, Answer("2.02"))
        self.groups.clock.advance(1)
        self.assertIn("Done: coap://d2.example.org/t is taken out of g (1 member has left", self.part(AT, "notices"))

    def test_ended(self) -> None:
        """A group is ended; its devices' leaves are awaited."""
        self.assertEqual(self.done(self.visitor.post(AT, do="delete")), "/admin/groups")
        self.assertIn("Asked: the group g is ended", self.part("/admin/groups", "notices"))
        self.groups.join_all()
        self.assertIn("Done: the group g is ended (3 members have left, as their devices confirmed)", self.part("/admin/groups", "notices"))
        self.assertEqual(self.visitor.get(AT).code, 404)

    def test_hostile(self) -> None:
        """Nothing that a device answers becomes part of a page."""
        at = self.ask(method="GET")
        for number in (1, 2, 3):
            self.groups.sender.gatherings[-1].answer(answer(payload=b"<script>alert(1)</script>", source=f"fd00::d{number}"))
        for target in (at, AT):
            self.assertNotIn(b"<script>alert", self.visitor.get(target).body)

    def test_many_members(self) -> None:
        """A large group is shown in parts, and what is looked for in it is found wherever it stands."""
        members = [f"http://x.example.org/{number:04}" for number in range(600)]
        self.groups.make(members, "large")
        page = self.page("/admin/groups/large")
        self.assertEqual(page.count("Take out http"), 100)
        self.assertIn("after=http%3A//x.example.org/0099", page)
        self.assertIn("/0577", self.page("/admin/groups/large?after=http%3A//x.example.org/0499"))
        client = self.visitor.start_get("/admin/groups/large?find=0577")
        while self.house.clock.getDelayedCalls() and not client.transport.value():
            self.house.clock.advance(0)
        page = text_of(self.visitor.answer_to(client))
        self.assertEqual((page.count("Take out http"), page.count("Take out http://x.example.org/0577")), (1, 1))
