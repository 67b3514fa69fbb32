"""Operations in the whole representation of their subject."""

from __future__ import annotations

import json

from m2mapp.formats.documents import RESOURCE_CBOR, RESOURCE_JSON
from m2mapp.model.errors import (
    Malformed,
    PreconditionFailed,
)
from m2mapp.model.messages import Conditions, Method, Response
from tests.unit.fakes import answer_of, ask
from tests.unit.triggers.gateway import AT_HOME, PATH, TURN_ON_AC, Gateway, ServiceCase


class WholeTests(ServiceCase):
    """The whole representation of a subject."""

    def put(self, gateway: Gateway, document: object, **more: object) -> Response:
        return gateway.do(Method.PUT, "/temperature", document, RESOURCE_JSON, **more)

    def test_members(self) -> None:
        """`operations` are what stands in the collection; left out, they stay; `operationURIs` are replaced as attributes are."""
        gateway = self.build()
        inline = {"name": "TurnOnAC", **TURN_ON_AC, "dependencies": [{"name": "a", **AT_HOME}]}
        self.put(gateway, {"content": "20", "operations": [inline], "operationURIs": ["http://g2/ops/x"]})
        shown = gateway.read("/temperature", accept=(RESOURCE_JSON,))
        self.assertEqual(shown["operationURIs"], ["http://g2/ops/x"])
        self.assertNotIn("ties", shown)
        self.assertEqual(gateway.read(PATH)["dependencies"], [{"name": "a", **AT_HOME, "logic": "AND"}])
        gateway.do(Method.PUT, "/temperature", b"21")
        self.assertEqual(gateway.read("/temperature", accept=(RESOURCE_JSON,))["operationURIs"], ["http://g2/ops/x"])
        patch = json.dumps({"attributes": {"rt": "temperature"}}).encode()
        answer_of(gateway.built, ask(Method.PATCH, "/temperature", patch, RESOURCE_JSON))
        shown = gateway.read("/temperature", accept=(RESOURCE_JSON,))
        self.assertEqual((shown["content"], shown["operationURIs"]), ("21", ["http://g2/ops/x"]))
        self.put(gateway, {"content": "22"})
        shown = gateway.read("/temperature", accept=(RESOURCE_JSON,))
        self.assertNotIn("operationURIs", shown)
        self.assertEqual(len(gateway.read("/temperature/Operations")["children"]), 1)  # type: ignore[arg-type] # a list
        self.put(gateway, {"content": "22", "operations": []})
        self.assertNotIn("operations", gateway.read("/temperature", accept=(RESOURCE_JSON,)))

    def test_refused(self) -> None:
        """A fault says in which operation it is; nothing is written."""
        gateway = self.build()
        for operations, field_name in (
            ("x", "operations"),
            (["x"], "operations[0]"),
            ([TURN_ON_AC], "operations[0]"),
            ([{**TURN_ON_AC, "name": "a", "rule": "value ="}], "operations[0].rule"),
            ([{**TURN_ON_AC, "name": "a/b"}], "operations[0].name"),
            ([{**TURN_ON_AC, "name": "a", "dependencies": [{"name": "b"}]}], "operations[0].dependencies[0].uri"),
        ):
            fault = self.assertRaises(Malformed, self.put, gateway, {"content": "99", "operations": operations})
            self.assertEqual(fault.field, field_name)
        self.assertRaises(Malformed, self.put, gateway, {"content": "99", "operationURIs": ["x"]})
        self.assertEqual(gateway.do(Method.GET, "/temperature").payload, b"20")

    def test_etags(self) -> None:
        """The whole representation has another ETag when an operation changes, the content does not; If-Match takes both."""
        gateway = self.build()
        gateway.do(Method.PUT, PATH, TURN_ON_AC)
        for accept in (RESOURCE_JSON, RESOURCE_CBOR):
            content = gateway.do(Method.GET, "/temperature").etag or b""
            before = gateway.do(Method.GET, "/temperature", accept=(accept,)).etag or b""
            gateway.do(Method.PUT, PATH, TURN_ON_AC)
            after = gateway.do(Method.GET, "/temperature", accept=(accept,)).etag or b""
            self.assertNotEqual(after, before)
            self.assertEqual(gateway.do(Method.GET, "/temperature").etag, content)
            self.assertRaises(PreconditionFailed, gateway.do, Method.PUT, "/temperature", b"21", conditions=Conditions((before,)))
            gateway.do(Method.PUT, "/temperature", b"21", conditions=Conditions((after,)))
            content = gateway.do(Method.GET, "/temperature").etag or b""
            gateway.do(Method.PUT, "/temperature", b"22", conditions=Conditions((content,)))
