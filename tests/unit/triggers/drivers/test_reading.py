"""Operations and dependencies that stand elsewhere: what is fetched, what is no such thing, and how many there may be."""

from __future__ import annotations

import json
from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Fault, PeerFailed
from m2mapp.model.messages import Answer, Outgoing
from m2mapp.model.principal import NODE
from m2mapp.triggers.drivers.reading import MOST, Lost, Reader
from m2mapp.triggers.drivers.running import Errand, Means, Runner
from m2mapp.triggers.operation import Operation, checked_operation, operation_of
from tests.unit.fakes import FakeClock, FakeCommitter, RecordingRequester, build_tree

DOCUMENT = {"name": "o", "rule": "value > 30", "objectResource": "/ac", "method": "update", "result": None, "writtenBy": "ann"}
DEPENDENCY = {"name": "d", "uri": "/home", "rule": "value == 1"}
ERRAND = Errand(NODE, ("http://g1/o",), "0" * 32)


def as_json(value: object) -> Answer:
    """An answer with that document."""
    return Answer("200", json.dumps(value).encode(), "application/json")


class ReadingCase(SynchronousTestCase):
    def build(self, answers: Mapping[str, Answer | Fault]) -> tuple[Reader, RecordingRequester]:
        def reply(outgoing: Outgoing) -> Answer | Fault:
            return answers.get(outgoing.uri, Answer("404"))

        requester, built = RecordingRequester(reply), build_tree()
        means = Means(Clock(), requester, FakeCommitter(built.tree, built.clock), FakeClock(), "http://g1")
        return Reader(Runner(means)), requester


class OperationTests(ReadingCase):
    def read(self, answers: Mapping[str, Answer | Fault], *uris: str) -> tuple[list[Operation | Lost], RecordingRequester]:
        """What is found at these URIs."""
        reader, requester = self.build(answers)
        return self.successResultOf(Deferred.fromCoroutine(reader.operations(uris, ERRAND))), requester

    def test_one_and_a_collection(self) -> None:
        """One at its URI, or all in a collection, with the rights of who named them; paths in them are of their node."""
        collection = {"type": "collection", "children": [{"name": "o", "type": "operation"}, {"name": "a b", "type": "operation"}]}
        answers = {
            "http://g2/o": as_json(DOCUMENT),
            "http://g2/t/Operations": as_json(collection),
            "http://g2/t/Operations/o": as_json(DOCUMENT),
            "http://g2/t/Operations/a%20b": as_json({**DOCUMENT, "name": "a b", "dependencies": [DEPENDENCY]}),
        }
        found, requester = self.read(answers, "http://g2/o", "http://g2/t/Operations")
        operations = [one for one in found if isinstance(one, Operation)]
        self.assertEqual([one.key for one in operations], ["http://g2/o", "http://g2/t/Operations/o", "http://g2/t/Operations/a%20b"])
        self.assertEqual({(one.author, one.place) for one in operations}, {(NODE, None)})
        self.assertEqual(operations[2].dependencies[0].uri, "/home")
        self.assertEqual({sent.principal for sent in requester.sent}, {NODE})

    def test_lost(self) -> None:
        """What is not there, cannot be reached or is no operation is told with its URI."""
        for answer in (
            Answer("404"),
            PeerFailed("away"),
            Answer("200", b"{", "application/json"),
            Answer("200", b"a text", "text/plain"),
            as_json([1]),
            as_json({"rule": "value >"}),
            as_json({**DOCUMENT, "dependencies": 3}),
        ):
            found, _ = self.read({"http://g2/o": answer}, "http://g2/o")
            self.assertEqual([type(one) for one in found], [Lost])
            self.assertEqual([one.uri for one in found if isinstance(one, Lost)], ["http://g2/o"])

    def test_most(self) -> None:
        """Of a collection that names thousands so many are fetched."""
        collection = {"type": "collection", "children": [{"name": str(number)} for number in range(5000)]}
        found, requester = self.read({"http://g2/ops": as_json(collection)}, "http://g2/ops", "http://g2/ops")
        self.assertEqual(len(found), MOST)
        self.assertLessEqual(len(requester.sent), MOST + 2)

    def test_strange_children(self) -> None:
        """A collection whose children are none has none."""
        for children in (3, "x", ["x"], [{"colour": "red"}], [{"name": 3}]):
            found, _ = self.read({"http://g2/ops": as_json({"type": "collection", "children": children})}, "http://g2/ops")
            self.assertEqual([one for one in found if isinstance(one, Operation)], [])


class DependencyTests(ReadingCase):
    def test_found_and_lost(self) -> None:
        """Those that an operation names; one that cannot be had is necessary, and says why."""
        document = {**DOCUMENT, "dependencyURIs": ["/deps/d", "http://g3/gone"]}
        operation = operation_of("http://g2/o", checked_operation({key: document[key] for key in document if key != "name"}), NODE)
        reader, _ = self.build({"http://g2/deps/d": as_json(DEPENDENCY)})
        there, gone = self.successResultOf(Deferred.fromCoroutine(reader.dependencies(operation, ERRAND)))
        self.assertEqual((there.name, there.uri, there.lost), ("d", "http://g2/home", ""))
        self.assertEqual((gone.uri, gone.logic.value, gone.lost), ("http://g3/gone", "AND", "http://g3/gone answered 404"))
