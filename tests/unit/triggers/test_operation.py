"""What documents of operations, dependencies and results may be, and what they say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault, Malformed
from m2mapp.model.principal import NODE
from m2mapp.triggers.dependency import Logic, check_dependency
from m2mapp.triggers.links import absolute
from m2mapp.triggers.operation import (
    DEFAULT_EXPIRY_S,
    MAX_INPUT_BYTES,
    MAX_RESULT_BYTES,
    Given,
    check_operation,
    check_result,
    checked_operation,
    operation_of,
    result_document,
)

LEAST = {"rule": "value > 30", "objectResource": "http://gscl3/window", "method": "create"}
SPEC = {
    "priority": 2,
    "rule": "value > 30",
    "objectResource": "http://gscl3/window",
    "method": "create",
    "inputURI": "http://gscl3/OFF",
    "outputURI": "http://gscl2/allWindowStatus",
    "for": "5m",
    "holdoff": "1h",
    "expiry": "24h",
    "idempotent": True,
}


class OperationTests(SynchronousTestCase):
    def test_of_the_spec(self) -> None:
        """The document of section 12 is kept as it is, in canonical words, and says what it says."""
        kept = check_operation("CloseWindow", SPEC)
        self.assertEqual(kept, {**SPEC, "expiry": "1d"})
        one = operation_of("http://gscl1/t/Operations/CloseWindow", kept, NODE, ("t", "Operations", "CloseWindow"))
        self.assertEqual((one.name, one.priority, one.for_s, one.holdoff_s, one.expiry_s), ("CloseWindow", 2, 300, 3600, 86400))
        self.assertEqual((one.key, one.idempotent, one.input_uri), ("/t/Operations/CloseWindow", True, "http://gscl3/OFF"))

    def test_defaults(self) -> None:
        """What is not sent has its default; a create must not be repeated, unless it says so, the others may be."""
        for method, idempotent in (("create", False), ("update", True), ("retrieve", True), ("delete", True)):
            one = operation_of("http://g/o", check_operation("o", {**LEAST, "method": method}), NODE)
            self.assertEqual((one.priority, one.for_s, one.holdoff_s, one.expiry_s), (0, 0, 0, DEFAULT_EXPIRY_S))
            self.assertEqual((one.idempotent, one.given, one.key), (idempotent, None, "http://g/o"))

    def test_input(self) -> None:
        """Text is text/plain, base64 is bytes, anything else JSON, null too."""
        for given, content, media_type in (
            ("ON", b"ON", "text/plain"),
            ({"a": [1]}, b'{"a":[1]}', "application/json"),
            (None, b"null", "application/json"),
            ({"base64": "AAE="}, b"\0\1", "application/octet-stream"),
        ):
            one = operation_of("http://g/o", check_operation("o", {**LEAST, "input": given}), NODE)
            self.assertEqual(one.given, Given(content, media_type))

    def test_what_a_get_adds_is_left_out(self) -> None:
        """A document that was read can be written back."""
        shown: dict[str, object] = {**LEAST, "result": {}, "runs": 3, "lastEvaluation": None, "writtenBy": "admin", "warnings": []}
        self.assertEqual(check_operation("o", shown), check_operation("o", LEAST))

    def test_refused(self) -> None:
        """Each fault names the field and says what would be right."""
        for more, field in (
            ({"rule": 7}, "rule"),
            ({"rule": "value >"}, "rule"),
            ({"rule": "text > 3"}, "rule"),
            ({"rule": "(" * 999}, "rule"),
            ({"method": "POST"}, "method"),
            ({"priority": "high"}, "priority"),
            ({"priority": True}, "priority"),
            ({"objectResource": "gscl3"}, "objectResource"),
            ({"objectResource": "ftp://gscl3/window"}, "objectResource"),
            ({"objectResource": 3}, "objectResource"),
            ({"objectResource": "//x"}, "objectResource"),
            ({"input": "a", "inputURI": "/b"}, "input"),
            ({"input": "a", "method": "delete"}, "input"),
            ({"inputURI": "/b", "method": "retrieve"}, "inputURI"),
            ({"input": "x" * (MAX_INPUT_BYTES + 1)}, "input"),
            ({"input": {"base64": "?"}}, "content.base64"),
            ({"for": "soon"}, "for"),
            ({"for": "0s"}, "for"),
            ({"holdoff": 60}, "holdoff"),
            ({"expiry": "9999d"}, "expiry"),
            ({"idempotent": "yes"}, "idempotent"),
            ({"dependencyURIs": ["x"]}, "dependencyURIs[0]"),
            ({"dependencyURIs": ["/x"] * 65}, "dependencyURIs"),
            ({"colour": "red"}, "colour"),
        ):
            fault = self.assertRaises(Fault, check_operation, "o", {**LEAST, **more})
            self.assertEqual(getattr(fault, "field", None), field, more)
        for name in LEAST:
            fault = self.assertRaises(Malformed, check_operation, "o", {key: value for key, value in LEAST.items() if key != name})
            self.assertEqual(fault.field, name)

    def test_column(self) -> None:
        """A rule that does not parse points at the column."""
        fault = self.assertRaises(Malformed, check_operation, "o", {**LEAST, "rule": "json.temp = 30"})
        self.assertIn("column 11", fault.detail)

    def test_dependencies_inside(self) -> None:
        """They are checked with the operation, and a fault says in which of them it is."""
        one = {"name": "a", "uri": "/x", "rule": "value == 1"}
        kept = checked_operation({**LEAST, "dependencies": [one, {**one, "name": "b", "logic": "OR"}]})
        found = operation_of("http://g/o", kept, NODE).dependencies
        self.assertEqual([(each.name, each.logic) for each in found], [("a", Logic.AND), ("b", Logic.OR)])
        for wrong, field in (
            ("x", "dependencies[1]"),
            ({"uri": "/x", "rule": "value == 1"}, "dependencies[1]"),
            (one, "dependencies[1].name"),
            ({**one, "name": "b", "rule": "value ="}, "dependencies[1].rule"),
            ({**one, "name": "b", "logic": "XOR"}, "dependencies[1].logic"),
        ):
            fault = self.assertRaises(Malformed, checked_operation, {**LEAST, "dependencies": [one, wrong]})
            self.assertEqual(fault.field, field)


class DependencyTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """A rule that needs a content before has none in a dependency; the others as of operations."""
        least = {"uri": "http://nscl/hostLocation", "rule": "value == 'at home'"}
        self.assertEqual(check_dependency("d", least), {**least, "logic": "AND"})
        for more, field in (
            ({"rule": "changed"}, "rule"),
            ({"rule": "rises through 3"}, "rule"),
            ({"uri": ""}, "uri"),
            ({"name": "x"}, "name"),
        ):
            fault = self.assertRaises(Malformed, check_dependency, "d", {**least, **more})
            self.assertEqual(fault.field, field)


class ResultTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What is stored can be written elsewhere; a large content is not kept, and is told."""
        result = result_document(0, "2.05", b"Closed", "text/plain")
        self.assertEqual(result, {"at": "1970-01-01T00:00:00.000Z", "status": "2.05", "content": "Closed"})
        self.assertEqual(check_result("result", result), result)
        large = result_document(0, "200", b"x" * (MAX_RESULT_BYTES + 1), "text/plain")
        self.assertEqual(large["content"], f"{MAX_RESULT_BYTES + 1} bytes, which are not kept: at most {MAX_RESULT_BYTES} are")
        self.assertRaises(Fault, check_result, "result", {**result, "content": "x" * (2 * MAX_RESULT_BYTES)})
        self.assertEqual(result_document(0, "2.04", b"", None)["content"], "")


class LinkTests(SynchronousTestCase):
    def test_absolute(self) -> None:
        """A path is of the node where the document stands; a URI is itself."""
        for link, uri in (("/a/b?c=d", "coap://g2:5700/a/b?c=d"), ("http://x/y", "http://x/y")):
            self.assertEqual(absolute(link, "coap://g2:5700/ops/o"), uri)
