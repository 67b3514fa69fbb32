"""What requests at and below `Operations` do, and what is refused."""

from __future__ import annotations

import json

from m2mapp.model.errors import (
    Conflict,
    Malformed,
    MethodNotAllowed,
    NoSuchResource,
    TooLarge,
)
from m2mapp.model.messages import Method, Status
from m2mapp.triggers import edit
from m2mapp.triggers.operation import MAX_DEPENDENCIES
from tests.unit.fakes import answer_of, ask
from tests.unit.triggers.gateway import AT_HOME, PATH, TURN_ON_AC, ServiceCase


class ResourceTests(ServiceCase):
    def test_collection(self) -> None:
        """`Operations` stands below every subject; a POST makes an operation with its Location, named by the request or the server."""
        gateway = self.build()
        self.assertEqual(gateway.read("/temperature/Operations")["children"], [])
        made = gateway.do(Method.POST, "/temperature/Operations", {**TURN_ON_AC, "name": "TurnOnAC"})
        self.assertEqual((made.status, made.location), (Status.CREATED, ("temperature", "Operations", "TurnOnAC")))
        other = gateway.do(Method.POST, "/temperature/Operations", TURN_ON_AC)
        self.assertEqual(other.status, Status.CREATED)
        self.assertEqual(len(gateway.built.tree.children(("temperature", "Operations"))), 2)
        self.assertRaises(Conflict, gateway.do, Method.POST, "/temperature/Operations", {**TURN_ON_AC, "name": "TurnOnAC"})
        gateway.do(Method.DELETE, "/temperature/Operations")
        self.assertEqual(gateway.read("/temperature/Operations")["children"], [])

    def test_operation(self) -> None:
        """PUT creates and replaces, PATCH changes, GET adds what came of it, DELETE removes."""
        gateway = self.build()
        self.assertEqual(gateway.do(Method.PUT, PATH, TURN_ON_AC).status, Status.CREATED)
        shown = gateway.read(PATH)
        added = {"result": None, "runs": 0, "lastEvaluation": None, "writtenBy": "node"}
        self.assertEqual(shown, {"name": "TurnOnAC", "priority": 0, **TURN_ON_AC, **added})
        self.assertEqual(gateway.do(Method.PUT, PATH, {**shown, "priority": 3}).status, Status.CHANGED)
        patch = json.dumps({"input": "OFF", "holdoff": "90s"}).encode()
        answer_of(gateway.built, ask(Method.PATCH, PATH, patch, "application/merge-patch+json"))
        shown = gateway.read(PATH)
        self.assertEqual((shown["priority"], shown["input"], shown["holdoff"]), (3, "OFF", "1m30s"))
        gateway.do(Method.DELETE, PATH)
        self.assertRaises(NoSuchResource, gateway.read, PATH)

    def test_dependencies(self) -> None:
        """In their collection, or inside their operation: those and no others, in the order given."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        self.assertEqual(gateway.read(f"{PATH}/Dependencies")["children"], [])
        gateway.do(Method.POST, f"{PATH}/Dependencies", {**AT_HOME, "name": "MemberAtHome", "logic": "OR"})
        self.assertEqual(gateway.read(f"{PATH}/Dependencies/MemberAtHome"), {"name": "MemberAtHome", **AT_HOME, "logic": "OR"})
        self.assertEqual(gateway.read(PATH)["dependencies"], [{"name": "MemberAtHome", **AT_HOME, "logic": "OR"}])
        gateway.do(Method.PUT, PATH, {**TURN_ON_AC, "dependencies": [{"name": name, **AT_HOME} for name in "ba"]})
        shown = gateway.read(PATH)["dependencies"]
        self.assertEqual(shown, [{"name": name, **AT_HOME, "logic": "AND"} for name in "ba"])
        gateway.do(Method.DELETE, f"{PATH}/Dependencies/b")
        gateway.do(Method.PUT, PATH, TURN_ON_AC)  # Without the member they stay.
        shown = gateway.read(PATH)["dependencies"]
        self.assertEqual(shown, [{"name": "a", **AT_HOME, "logic": "AND"}])
        gateway.do(Method.DELETE, f"{PATH}/Dependencies")
        self.assertNotIn("dependencies", gateway.read(PATH))

    def test_each_request_once(self) -> None:
        """A request with an identifier that comes again makes no second operation."""
        gateway = self.build()
        answers = [gateway.do(Method.POST, "/temperature/Operations", TURN_ON_AC, request_id=b"12345678") for _ in range(2)]
        self.assertEqual(answers[0].location, answers[1].location)
        self.assertEqual(len(gateway.built.tree.children(("temperature", "Operations"))), 1)

    def test_refused(self) -> None:
        """What has no place, no subject or no right shape is refused, and changes nothing."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        gateway.do(Method.PUT, "/folder/x", b"1")
        number = gateway.built.tree.committed_number
        for method, path, document, kind in (
            (Method.PUT, "/nothing/Operations/a", TURN_ON_AC, NoSuchResource),
            (Method.POST, "/nothing/Operations", TURN_ON_AC, NoSuchResource),
            (Method.GET, "/nothing/Operations", None, NoSuchResource),
            (Method.PUT, "/folder/Operations/a", TURN_ON_AC, Conflict),
            (Method.PUT, "/temperature/Operations", TURN_ON_AC, MethodNotAllowed),
            (Method.PUT, f"{PATH}/Dependencies", AT_HOME, MethodNotAllowed),
            (Method.PUT, "/temperature/Operations/none/Dependencies/a", AT_HOME, NoSuchResource),
            (Method.POST, "/temperature/Operations/none/Dependencies", AT_HOME, NoSuchResource),
            (Method.PUT, "/temperature/Operations/none/result", {"at": "", "status": ""}, NoSuchResource),
            (Method.PUT, f"{PATH}/colour", TURN_ON_AC, NoSuchResource),
            (Method.PUT, f"{PATH}/Dependencies/a/b", AT_HOME, NoSuchResource),
            (Method.POST, PATH, TURN_ON_AC, MethodNotAllowed),
            (Method.GET, f"{PATH}/evaluate", None, MethodNotAllowed),
            (Method.POST, "/temperature/Operations/none/evaluate", {"value": "1"}, NoSuchResource),
            (Method.PUT, f"{PATH}/runs", {}, MethodNotAllowed),
            (Method.GET, f"{PATH}/evaluations/1", None, NoSuchResource),
            (Method.GET, f"{PATH}/Operations/a", None, NoSuchResource),
            (Method.PUT, f"{PATH}/Dependencies/a", {**AT_HOME, "rule": "changed"}, Malformed),
            (Method.POST, "/temperature/Operations", {**TURN_ON_AC, "name": "a/b"}, Malformed),
            (Method.PUT, "/temperature/Operations/a", {**TURN_ON_AC, "name": "b"}, Malformed),
            (Method.PUT, "/temperature/Operations/a", {**TURN_ON_AC, "dependencies": [{**AT_HOME, "name": "a/b"}]}, Malformed),
            (Method.PUT, "/temperature/Operations/a", {**TURN_ON_AC, "dependencies": [{**AT_HOME, "name": ".."}]}, Malformed),
        ):
            self.assertRaises(kind, gateway.do, method, path, document)
        self.assertEqual(gateway.built.tree.committed_number, number)

    def test_most(self) -> None:
        """A subject has so many operations, an operation so many dependencies at most."""
        gateway = self.build()
        self.patch(edit, "MAX_OPERATIONS", 2)
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        for number in range(MAX_DEPENDENCIES):
            gateway.do(Method.PUT, f"{PATH}/Dependencies/{number}", AT_HOME)
        gateway.do(Method.POST, "/temperature/Operations", TURN_ON_AC)
        for path, document in (("/temperature/Operations", TURN_ON_AC), (f"{PATH}/Dependencies", AT_HOME)):
            self.assertRaises(TooLarge, gateway.do, Method.POST, path, document)
            self.assertRaises(TooLarge, gateway.do, Method.PUT, f"{path}/more", document)
        gateway.do(Method.PUT, PATH, TURN_ON_AC)

    def test_elsewhere_the_name_means_nothing(self) -> None:
        """`/Operations` at the root is a name like any other."""
        gateway = self.build()
        gateway.do(Method.PUT, "/Operations", b"a text")
        self.assertEqual(gateway.do(Method.GET, "/Operations").payload, b"a text")
