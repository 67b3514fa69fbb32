"""Group requests of the pages: streams read to their end, faults kept for those who look, and no more of them kept than a few."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from m2mapp.admin.asking import Asking, Askings, Reading
from m2mapp.admin.visit import Asked, Visit
from m2mapp.model.errors import Malformed, Overloaded
from m2mapp.model.interfaces import IStream
from m2mapp.model.messages import Method, Request
from m2mapp.model.principal import NODE
from tests.unit.admin.house_of_groups import GroupsCase
from tests.unit.groups.parts import uri_at

READ = Request(Method.GET, ("groups", "g", "membersContent"))


@implementer(IStream)
class Parts:
    """A stream of parts that a test adds."""

    def __init__(self) -> None:
        self.waiting: list[bytes | None] = []
        self.wake: Callable[[], None] = lambda: None
        self.closed = 0

    def open(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def read(self) -> bytes | None:
        return self.waiting.pop(0) if self.waiting else b""

    def close(self) -> None:
        self.closed += 1

    def add(self, *parts: bytes | None) -> None:
        """There is more to read."""
        self.waiting += parts
        self.wake()


class ReadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.one = Asking("1", "g", READ, "admin", 0, (uri_at(1), uri_at(2)))
        self.told = 0
        self.stream = Parts()

    def tell(self) -> None:
        self.told += 1

    def test_to_the_end(self) -> None:
        """Each part is taken and told when it is there; at the end the stream is closed."""
        reading = Reading(self.stream, self.one.take, self.tell)
        self.stream.add(b'{"member":"coap://d1.example.org/t","status":"2.05","via":"repair","ms":3,"content":{"a":1}}\n')
        heard = self.one.heard[uri_at(1)]
        self.assertEqual((heard.status, heard.via, heard.ms, heard.text, heard.ok), ("2.05", "repair", 3.0, '{"a":1}', True))
        self.assertEqual((self.told, self.one.awaited), (1, (uri_at(2),)))
        self.assertNoResult(reading.done)
        self.stream.add(b'{"silent":["coap://d2.example.org/t"],"ms":4}\n', None)
        self.successResultOf(reading.done)
        self.assertEqual((self.one.silent, self.stream.closed), ((uri_at(2),), 1))

    def test_long_answers(self) -> None:
        """Of a long content the beginning is kept."""
        Reading(self.stream, self.one.take, self.tell)
        self.stream.add(b'{"member":"%s","status":"2.05","content":"%s"}\n' % (uri_at(1).encode(), b"x" * 5000))
        self.assertLess(len(self.one.heard[uri_at(1)].text), 300)

    def test_no_lines(self) -> None:
        """What is no line ends it, and the stream is closed."""
        reading = Reading(self.stream, self.one.take, self.tell)
        self.stream.add(b"{nonsense\n")
        self.failureResultOf(reading.done, Malformed)
        self.assertEqual(self.stream.closed, 1)


class AskingsTests(GroupsCase):
    def begin(self, askings: Askings, request: Request = READ) -> Asking:
        """Ask the group as the node itself."""
        site = self.house.admin.site
        visit = Visit(self.house.node, site.doors.live, site.doors.notices, Asked(), principal=NODE)
        return askings.begin(visit, "g", request, (uri_at(1),))

    def test_refused_at_once(self) -> None:
        """What is refused at once is raised, and not kept."""
        self.groups.make([uri_at(1), uri_at(2)])
        with self.assertRaises(Malformed):
            self.begin(Askings(), READ._replace(query=(("aggregate", "nonsense"),)))

    def test_so_many(self) -> None:
        """The last few are kept; while as many are under way there is no further one."""
        self.groups.make([uri_at(1), uri_at(2)])
        self.groups.join_all()
        askings = Askings()
        begun = [self.begin(askings) for _ in range(32)]
        with self.assertRaises(Overloaded):
            self.begin(askings)
        self.groups.clock.advance(31)
        self.assertTrue(all(one.over and one.fault is not None for one in begun))
        self.begin(askings)
        self.assertIsNone(askings.find(begun[0].id))
        self.assertIs(askings.find(begun[1].id), begun[1])
        self.groups.clock.advance(31)
