"""`tree.drivers.repeats`: a write with an identifier is done once."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import StorageFull
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.tree.drivers.repeats import Repeats

CHANGED, CREATED = Response(Status.CHANGED), Response(Status.CREATED)


def put(identifier: bytes | None = b"12345678", path: tuple[str, ...] = ("a",)) -> Request:
    """A write of a group request."""
    return Request(Method.PUT, path, request_id=identifier)


class RepeatsTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Nothing is remembered, the clock is at 0."""
        self.now = 0.0
        self.acts: list[Deferred[Response]] = []
        self.repeats = Repeats(lambda: self.now, most=3)

    def ask(self, request: Request) -> Deferred[Response]:
        """Ask where acting takes its time."""

        def act() -> Deferred[Response]:
            self.acts.append(Deferred())
            return self.acts[-1]

        answered = self.repeats.once(request, act)
        assert isinstance(answered, Deferred)
        return answered

    def test_first_answer_again(self) -> None:
        """The same again gets the first answer, and nothing is done."""
        self.assertIs(self.repeats.once(put(), lambda: CREATED), CREATED)
        self.assertIs(self.repeats.once(put(), lambda: CHANGED), CREATED)

    def test_what_makes_it_another(self) -> None:
        """Another identifier, path or method is another request; one without an identifier always acts."""
        self.repeats.once(put(), lambda: CREATED)
        for other in (put(b"87654321"), put(path=("b",)), Request(Method.DELETE, ("a",), request_id=b"12345678"), put(None)):
            self.assertIs(self.repeats.once(other, lambda: CHANGED), CHANGED)

    def test_under_way(self) -> None:
        """A copy that comes while the first is under way waits for it; one that is no longer awaited is let go."""
        first, second, third = self.ask(put()), self.ask(put()), self.ask(put())
        self.assertEqual(len(self.acts), 1)
        third.addErrback(lambda _: None)
        third.cancel()
        self.acts[0].callback(CREATED)
        self.assertIs(self.successResultOf(first), CREATED)
        self.assertIs(self.successResultOf(second), CREATED)
        self.assertIs(self.repeats.once(put(), lambda: CHANGED), CREATED)

    def test_failed(self) -> None:
        """What failed was not done: those who waited are told, and the next one acts."""
        first, second = self.ask(put()), self.ask(put())
        self.acts[0].errback(StorageFull())
        self.failureResultOf(first, StorageFull)
        self.failureResultOf(second, StorageFull)
        self.assertIs(self.repeats.once(put(), lambda: CHANGED), CHANGED)

    def test_raised(self) -> None:
        """A fault that is raised is not remembered."""

        def refuse() -> Response:
            raise StorageFull

        self.assertRaises(StorageFull, self.repeats.once, put(), refuse)
        self.assertIs(self.repeats.once(put(), lambda: CHANGED), CHANGED)

    def test_bounds(self) -> None:
        """After the lifetime, and beyond the number, the oldest is forgotten."""
        for number in range(5):
            self.repeats.once(put(bytes([number]) * 8), lambda: CREATED)
        self.assertEqual(len(self.repeats), 3)
        self.assertIs(self.repeats.once(put(b"\4" * 8), lambda: CHANGED), CREATED)
        self.now = 247.0
        self.assertIs(self.repeats.once(put(b"\4" * 8), lambda: CHANGED), CHANGED)
        self.assertEqual(len(self.repeats), 1)
