"""The pages of operations and timers: what they show and do, over the real service of operations."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from tests.unit.admin.operating import OperatingHouse
from tests.unit.fakes import answer_of, ask
from tests.unit.http.harness import SCOPED, VIEWER

AC = "/temperature/Operations/TurnOnAC"
AT = "/admin/operations" + AC
FORM = {
    "rule": "value > 30",
    "method": "update",
    "objectResource": "http://gscl2/airCondition",
    "inputKind": "text",
    "input": "ON",
    "priority": "1",
}


def text_of(body: bytes) -> str:
    """What a page says: its main part without tags, white space as single spaces, dashes as signs of minus."""
    main = body.decode().partition("<main")[2].replace("\u2013", "-")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main)).split())


class OperationsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.operating = OperatingHouse()
        self.house = self.operating.house
        self.put(("temperature",), b"20")
        self.visitor = self.house.signed_in()

    def tearDown(self) -> None:
        self.operating.stop()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.assertEqual(self.house.built.errors, [])

    def put(self, path: Path, content: bytes) -> None:
        """A write past the pages, and what it sets off."""
        answer_of(self.house.built, ask(Method.PUT, "/" + "/".join(path), content, "text/plain"))
        self.house.clock.advance(0)

    def read(self, path: str) -> dict[str, object]:
        """The document at a path."""
        found = json.loads(answer_of(self.house.built, ask(Method.GET, path)).payload)
        assert isinstance(found, dict)
        return found

    def make(self, **more: str) -> None:
        """The operation of the document, made on the page."""
        answer = self.visitor.post("/admin/operations", do="make", subject="/temperature", name="TurnOnAC", **{**FORM, **more})
        self.assertEqual((answer.code, answer.headers.get("location")), (303, AT), answer.body)

    def page(self, target: str) -> str:
        """What a page says that is there."""
        answer = self.visitor.get(target)
        self.assertEqual(answer.code, 200, target)
        return text_of(answer.body)


class MakeTests(OperationsCase):
    def test_make_and_list(self) -> None:
        """An operation is made as the form says, listed, found by a search, and runs at the next change."""
        self.make(holdoff="1h", **{"for": ""})
        kept = self.read(AC)
        self.assertEqual(
            {name: kept[name] for name in ("rule", "method", "objectResource", "input", "priority", "holdoff")},
            {
                "rule": "value > 30",
                "method": "update",
                "objectResource": "http://gscl2/airCondition",
                "input": "ON",
                "priority": 1,
                "holdoff": "1h",
            },
        )
        self.assertIn("TurnOnAC value > 30 update http://gscl2/airCondition 1 0 nothing changed since", self.page("/admin/operations"))
        self.assertIn("TurnOnAC", self.page("/admin/operations?q=aircond"))
        self.assertIn("None that is like that", self.page("/admin/operations?q=heating"))
        self.put(("temperature",), b"31")
        self.assertEqual([sent.uri for sent in self.operating.requester.sent], ["http://gscl2/airCondition"])
        self.assertIn("1 1 ran", self.page("/admin/operations"))

    def test_a_rule_that_is_none(self) -> None:
        """It is refused with the column, and what was typed stands there again with the mark below the column."""
        answer = self.visitor.post("/admin/operations", do="make", subject="/temperature", name="x", **{**FORM, "rule": "value = 30"})
        self.assertEqual(answer.code, 400)
        self.assertIn("column 7: two signs compare: ==", text_of(answer.body))
        self.assertIn("value = 30\n      ^</pre>", answer.body.decode())
        self.assertIn('value="value = 30"', answer.body.decode())
        self.assertIsNone(self.house.built.tree.find(("temperature", "Operations", "x")))

    def test_other_mistakes(self) -> None:
        """A subject that is not there, a priority that is no number, an input that is no JSON: each is named, and nothing is made."""
        cases = {
            "there is no resource at /none": {"subject": "/none"},
            "priority: much": {"priority": "much"},
            "input:": {"inputKind": "json", "input": "{"},
            "inputKind: magic": {"inputKind": "magic"},
            "idempotent: maybe": {"idempotent": "maybe"},
            "for: soon": {"for": "soon"},
        }
        for said, wrong in cases.items():
            answer = self.visitor.post("/admin/operations", do="make", **{"subject": "/temperature", "name": "x", **FORM, **wrong})
            self.assertIn(answer.code, (400, 404), said)
            self.assertIn(said, text_of(answer.body))
        self.assertEqual(self.house.built.tree.children(("temperature", "Operations")), [])

    def test_rights(self) -> None:
        """Who may not write is offered no form, and refused; who may not read a subject does not see its operations."""
        self.make()
        viewer = self.house.signed_in(VIEWER)
        page = viewer.get(AT).body
        self.assertNotIn(b'value="change"', page)
        self.assertEqual(viewer.post(AT, do="delete").code, 403)
        scoped = self.house.signed_in(SCOPED)
        self.assertNotIn(b"TurnOnAC", scoped.get("/admin/operations").body)
        self.assertEqual(scoped.get(AT).code, 403)

    def test_many(self) -> None:
        """A long list of operations is shown in parts, each of which leads to the next."""
        document = {"rule": "value > 30", "objectResource": "/x", "method": "delete"}
        for number in range(250):
            whole = {"name": f"o{number:03}", **document}
            answer_of(self.house.built, ask(Method.POST, "/temperature/Operations", json.dumps(whole).encode(), "application/json"))
        first = self.visitor.get("/admin/operations").body.decode()
        self.assertEqual(first.count("/admin/operations/temperature/Operations/o"), 100)
        following = html.unescape(re.findall(r'rel="next" href="([^"]+)"', first)[0])
        self.assertIn("o100", self.page("/admin/operations" + following))


class OneTests(OperationsCase):
    def test_trace_of_a_run(self) -> None:
        """A run is drawn step by step: the change, the rule with what it saw, the dependency, the request and its answer."""
        self.make()
        self.put(("home",), b"at home")
        answer = self.visitor.post(AT, do="add-dependency", name="MemberAtHome", uri="/home", rule="value == 'at home'", logic="AND")
        self.assertEqual(answer.code, 303)
        self.put(("temperature",), b"31")
        page = self.page(AT)
        for said in (
            "/temperature changed to 31 from 20",
            "Rule holds value > 30 holds saw value = 31",
            "Depends on MemberAtHome holds",
            "sent PUT http://gscl2/airCondition with ON",
            "got 2.04",
            "ran",
        ):
            self.assertIn(said, page)

    def test_why_it_did_not_run(self) -> None:
        """The last evaluation says why nothing was done; past ones have pages of their own."""
        self.make()
        self.put(("temperature",), b"29")
        self.assertIn("Rule does not hold value > 30 does not hold", self.page(AT))
        number = re.findall(r"evaluation=(\d+)", self.visitor.get(AT).body.decode())[0]
        self.assertIn(f"Evaluation {number} /temperature changed to 29 from 20", self.page(f"{AT}?evaluation={number}"))
        self.assertEqual(self.visitor.get(f"{AT}?evaluation=999999").code, 404)

    def test_try(self) -> None:
        """What would happen at 31 is told with all steps and the request, and nothing is sent."""
        self.make()
        answer = self.visitor.post(AT, do="try", value="31", contentType="text/plain")
        self.assertEqual(answer.code, 200)
        said = text_of(answer.body)
        self.assertIn("It would run:", said)
        self.assertIn("It would send PUT http://gscl2/airCondition with ON", said)
        self.assertIn("It would do nothing: value > 30 does not hold", text_of(self.visitor.post(AT, do="try", value="29").body))
        self.assertEqual(self.operating.requester.sent, [])
        self.assertEqual(self.visitor.post(AT, do="try", value="{", contentType="application/json").code, 400)

    def test_change(self) -> None:
        """What is changed is changed, dependencies stay, and a form of before somebody else's change is refused."""
        self.make()
        self.visitor.post(AT, do="add-dependency", name="H", uri="/home", rule="value == 1", logic="OR")
        self.put(("temperature",), b"31")
        body = self.visitor.get(AT).body.decode()
        version = re.findall(r'name="version" value="(\d+)"', body)[0]
        changed = {**FORM, "rule": "value > 35", "inputKind": "json", "input": '{"on": true}', "idempotent": "false"}
        answer = self.visitor.post(AT, do="change", version=version, **changed)
        self.assertEqual(answer.code, 303, text_of(answer.body))
        kept = self.read(AC)
        self.assertEqual((kept["rule"], kept["input"], kept["idempotent"]), ("value > 35", {"on": True}, False))
        self.assertEqual([one["name"] for one in kept["dependencies"]], ["H"])  # type: ignore[attr-defined]
        late = self.visitor.post(AT, do="change", version=version, **{**FORM, "rule": "value > 40"})
        self.assertEqual(late.code, 409)
        self.assertEqual(self.read(AC)["rule"], "value > 35")

    def test_dependencies_and_end(self) -> None:
        """A dependency is removed; one with a wrong rule is refused with its column; the operation is deleted."""
        self.make()
        wrong = self.visitor.post(AT, do="add-dependency", name="H", uri="/home", rule="value =", logic="OR")
        self.assertEqual(wrong.code, 400)
        self.assertIn(b"^</pre>", wrong.body)
        self.visitor.post(AT, do="add-dependency", name="H", uri="/home", rule="value == 1", logic="OR")
        self.assertIn("enough by itself", self.page(AT))
        self.assertEqual(self.visitor.post(AT, do="remove-dependency", dependency="H").code, 303)
        self.assertNotIn("dependencies", self.read(AC))
        self.assertEqual(self.visitor.post(AT, do="delete").headers["location"], "/admin/operations")
        self.assertEqual(self.visitor.get(AT).code, 404)

    def test_a_circle(self) -> None:
        """An operation that sets itself off is told to who makes it."""
        self.make(objectResource="/temperature")
        self.assertIn("circle", self.page("/admin/operations"))


class RuleTests(OperationsCase):
    def check(self, rule: str, subject: str = "/temperature") -> str:
        """What is told of a rule while it is typed."""
        answer = self.visitor.get("/admin/rule?" + urlencode({"rule": rule, "subject": subject}))
        self.assertEqual(answer.code, 200)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.body.decode())).split())

    def test_while_it_is_typed(self) -> None:
        """A rule's canonical text is told with what comes of it now; one that is none with the column; nothing of nothing."""
        self.assertEqual(self.check("VALUE  > 30"), "A rule: value > 30 Now, with 20 , it does not hold.")
        self.assertEqual(self.check("value > 30", "/none"), "A rule: value > 30")
        self.assertEqual(self.check("value = 30"), "Not a rule: column 7: two signs compare: == value = 30 ^")
        self.assertIn("at most 1000 characters", self.check("v" * 1001))
        self.assertIn("cannot be evaluated: value is", self.check("value == 'on'"))
        self.assertEqual(self.check("changed"), "A rule: changed It looks at the content before, too: only a change tells.")
        self.assertEqual(self.check(" "), "")

    def test_what_may_not_be_read(self) -> None:
        """The content of a subject is not told to who may not read it."""
        answer = self.house.signed_in(SCOPED).get("/admin/rule?rule=value+%3E+30&subject=/temperature")
        self.assertNotIn(b"20", answer.body)


class TimerTests(OperationsCase):
    def test_make_change_delete(self) -> None:
        """A timer is made, shown with its next firing, changed and deleted; one that is none is refused with the reason."""
        at = "/admin/timers"
        form = {"schedule": "cron", "time": "0 22 * * *", "timezone": "Europe/Berlin", "missed": "skip"}
        self.assertEqual(self.visitor.post(at, do="make", name="night", **form).code, 303)
        page = self.page(at)
        self.assertIn("night 0 22 * * * Europe/Berlin", page)
        self.assertIn("is left out", page)
        self.assertEqual(self.visitor.post(at, do="make", name="night", **form).code, 412)
        self.assertEqual(self.visitor.post(at + "/night", do="change", schedule="every", time="15m", missed="run").code, 303)
        self.assertIn("night every 15m", self.page(at))
        self.assertIn('value="15m"', self.visitor.get(at + "/night").body.decode())
        for wrong in ({"schedule": "cron", "time": "99 * * * *"}, {"schedule": "never", "time": "1"}, {"schedule": "at", "time": "noon"}):
            self.assertEqual(self.visitor.post(at, do="make", name="x", **wrong).code, 400)
        made = self.visitor.post("/admin/operations", do="make", subject="/timers/night", name="Off", **{**FORM, "rule": "changed"})
        self.assertEqual(made.headers["location"], "/admin/operations/timers/night/Operations/Off")
        self.assertIn("Off", self.page(at))
        self.assertEqual(self.visitor.post(at, do="delete", timer="night").code, 303)
        self.assertIn("None yet", self.page(at))
        self.assertEqual(self.visitor.get(at + "/night").code, 404)
