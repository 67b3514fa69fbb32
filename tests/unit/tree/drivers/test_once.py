"""`tree.drivers.once`: a request with an identifier is done once, also over a restart."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.errors import Conflict, LoopDetected, StorageFull
from m2mapp.model.messages import Method, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import Principal
from m2mapp.model.seen import KEEP_S
from m2mapp.tree.drivers.once import PAGE, Once
from m2mapp.tree.unit import REQUESTS, Append, Entry, Unit
from tests.unit.fakes import answer_of, ask, build_tree

CHANGED, CREATED = Response(Status.CHANGED), Response(Status.CREATED)
TEXT = "text/plain"


def put(identifier: bytes | None = b"12345678", who: str = "g1", method: Method = Method.PUT) -> Request:
    """A write of a group request."""
    return Request(method, ("a",), request_id=identifier, principal=Principal(who))


class OnceCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Nothing is remembered, the clock is at 0; the committer answers when it is told to."""
        self.now = 0.0
        self.built = build_tree()
        self.once = Once(lambda: self.now, self.built.committer, REQUESTS, Metrics())
        self.acts: list[Deferred[Response]] = []

    def ask(self, request: Request) -> Deferred[Response]:
        """Ask where acting takes its time."""

        def act() -> Deferred[Response]:
            self.acts.append(Deferred())
            return self.acts[-1]

        answered = self.once.once(request, act)
        assert isinstance(answered, Deferred)
        return answered

    def answer(self, request: Request, act: Callable[[], Response]) -> Response:
        """The answer, which has to be there at once."""
        answered = self.once.once(request, act)
        return answered if isinstance(answered, Response) else self.successResultOf(answered)


class ActTests(OnceCase):
    def test_first_answer_again(self) -> None:
        """The same again gets the first answer, and nothing is done; another requester is told of a loop."""
        self.assertIs(self.answer(put(), lambda: CREATED), CREATED)
        self.assertIs(self.answer(put(), lambda: CHANGED), CREATED)
        self.assertRaises(LoopDetected, self.once.once, put(who="g2"), lambda: CHANGED)

    def test_no_identifier(self) -> None:
        """A request without an identifier always acts, and nothing of it is remembered."""
        for answer in (CREATED, CHANGED):
            self.assertIs(self.answer(put(None), lambda answer=answer: answer), answer)  # type: ignore[misc]
        self.assertEqual(len(self.once.seen), 0)

    def test_under_way(self) -> None:
        """A copy that comes while the first is under way waits for it; one that is no longer awaited is let go; another's is a loop."""
        first, second, third = self.ask(put()), self.ask(put()), self.ask(put())
        self.assertRaises(LoopDetected, self.ask, put(who="g2"))
        self.assertEqual(len(self.acts), 1)
        third.addErrback(lambda _: None)
        third.cancel()
        self.acts[0].callback(CREATED)
        self.assertIs(self.successResultOf(first), CREATED)
        self.assertIs(self.successResultOf(second), CREATED)
        self.assertIs(self.answer(put(), lambda: CHANGED), CREATED)

    def test_failed(self) -> None:
        """What failed was not done: those who waited are told, and the next one acts."""
        first, second = self.ask(put()), self.ask(put())
        self.acts[0].errback(StorageFull())
        self.failureResultOf(first, StorageFull)
        self.failureResultOf(second, StorageFull)
        self.assertIs(self.answer(put(), lambda: CHANGED), CHANGED)

    def test_raised(self) -> None:
        """A fault that is raised is not remembered as an answer."""

        def refuse() -> Response:
            raise StorageFull

        self.assertRaises(StorageFull, self.once.once, put(), refuse)
        self.assertIs(self.answer(put(), lambda: CHANGED), CHANGED)

    def test_asks_itself(self) -> None:
        """Who asks itself for the same while it acts does not wait for itself for ever: its own place is told with the rest."""
        inner: list[Response | Deferred[Response]] = []

        def act() -> Response:
            inner.append(self.once.once(put(), lambda: CHANGED))
            return CREATED

        self.assertIs(self.answer(put(), act), CREATED)
        [waiting] = inner
        assert isinstance(waiting, Deferred)
        self.assertIs(self.successResultOf(waiting), CREATED)

    def test_stream(self) -> None:
        """An answer line by line is given to who asked first; the copy beside it is told so, and a read is done again later."""
        first, second = self.ask(put(method=Method.GET)), self.ask(put(method=Method.GET))
        self.acts[0].callback(Response(Status.CONTENT, stream=object()))  # type: ignore[arg-type]
        self.assertIsNotNone(self.successResultOf(first).stream)
        self.failureResultOf(second, Conflict)
        self.assertIs(self.answer(put(method=Method.GET), lambda: CHANGED), CHANGED)

    def test_stream_of_a_write(self) -> None:
        """A write that is answered line by line is not done when its answer begins: there is no record of it, and it is not done again."""
        self.answer(put(), lambda: Response(Status.CHANGED, stream=object()))  # type: ignore[arg-type]
        self.assertNotIn(REQUESTS, self.built.committer.journals)
        self.assertRaises(Conflict, self.once.once, put(), lambda: CHANGED)


class TreeTests(OnceCase):
    """Writes to the tree, by the dispatcher, with the committer that the test releases."""

    def put(self, payload: bytes = b"1", **more: object) -> Request:
        """A write to a counter, as POST: twice would show."""
        given: dict[str, object] = {"request_id": b"12345678", **more}
        return ask(Method.POST, "/", payload, TEXT, **given)

    def test_one_unit(self) -> None:
        """The write and the record that it was done are one unit: one commit has both, and a failed one neither."""
        self.built.committer.fault = StorageFull()
        self.assertRaises(StorageFull, answer_of, self.built, self.put())
        self.assertNotIn(REQUESTS, self.built.committer.journals)
        self.built.committer.fault = None
        first = answer_of(self.built, self.put())
        self.assertEqual(answer_of(self.built, self.put()), first)
        self.assertEqual((len(self.built.tree), len(self.built.committer.journals[REQUESTS])), (1, 1))

    def test_no_record_without_an_identifier(self) -> None:
        """A write without an identifier is done each time, and leaves no record."""
        for _ in range(2):
            answer_of(self.built, self.put(request_id=None))
        self.assertEqual((len(self.built.tree), REQUESTS in self.built.committer.journals), (2, False))

    def test_two_at_once(self) -> None:
        """Two copies that arrive together act once, and a caller that goes away does not undo that."""
        self.built.committer.hold()
        first, second = (self.built.dispatcher.handle(self.put()) for _ in range(2))
        assert isinstance(first, Deferred)
        assert isinstance(second, Deferred)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.built.committer.release()
        self.assertEqual(self.successResultOf(second).location, answer_of(self.built, self.put()).location)
        self.assertEqual(len(self.built.tree), 1)

    def test_reads(self) -> None:
        """A read that comes by another way is a loop too; from the same requester it is answered again."""
        answer_of(self.built, ask(Method.PUT, "/t", b"21.5", TEXT))
        read = ask(Method.GET, "/t", request_id=b"12345678", requester=b"gateway1")
        for _ in range(2):
            self.assertEqual(answer_of(self.built, read).payload, b"21.5")
        other = ask(Method.GET, "/t", request_id=b"12345678", requester=b"gateway2")
        self.assertRaises(LoopDetected, answer_of, self.built, other)

    def test_after_a_restart(self) -> None:
        """What was done before is known from the journal: the same answer, and nothing is done twice."""
        first = answer_of(self.built, self.put())
        again = Once(lambda: self.now, self.built.committer, REQUESTS, Metrics())
        self.successResultOf(again.restore(self.built.committer, self.built.clock))
        self.assertEqual(again.write(self.put(), lambda: self.fail("it is done twice")), first)
        self.assertRaises(LoopDetected, again.write, self.put(requester=b"gateway2"), lambda: CHANGED)


class RestoreTests(OnceCase):
    def records(self, count: int) -> None:
        """So many writes were done, each of its own requester."""
        for number in range(count):
            self.once.once(put(number.to_bytes(8, "big"), f"g{number}"), lambda: CREATED)

    def restored(self) -> Once:
        """The memory of the next start."""
        again = Once(lambda: self.now, self.built.committer, REQUESTS, Metrics())
        self.successResultOf(again.restore(self.built.committer, self.built.clock))
        return again

    def test_pages(self) -> None:
        """More than one page is read where all of it may still be asked again, each entry once."""
        self.records(2 * PAGE + 10)
        again = self.restored()
        self.assertEqual(len(again.seen), 2 * PAGE + 10)
        for number in (0, PAGE - 1, PAGE, 2 * PAGE, 2 * PAGE + 9):
            self.assertEqual(again.once(put(number.to_bytes(8, "big"), f"g{number}"), lambda: CHANGED), CREATED)

    def test_old_ones(self) -> None:
        """What is over is left where it is, but for the newest page: the wall clock may have stepped by years."""
        self.records(PAGE + 10)
        self.built.clock.advance(int(KEEP_S * 1000))
        again = self.restored()
        self.assertEqual(len(again.seen), PAGE)
        self.now += KEEP_S
        self.assertIs(again.once(put((9).to_bytes(8, "big"), "g9"), lambda: CHANGED).__class__, Deferred)

    def test_what_comes_meanwhile(self) -> None:
        """A request that comes while the journal is read waits for it; one without an identifier does not."""
        self.records(1)
        journals = SlowJournals()
        again = Once(lambda: self.now, self.built.committer, REQUESTS, Metrics())
        done = again.restore(journals, self.built.clock)  # type: ignore[arg-type]
        early = again.once(put(bytes(8), "g0"), lambda: CHANGED)
        self.assertIs(again.once(put(None), lambda: CHANGED), CHANGED)
        assert isinstance(early, Deferred)
        self.assertNoResult(early)
        journals.waiting.callback(self.built.committer.journals[REQUESTS])
        self.successResultOf(done)
        self.assertEqual(self.successResultOf(early), CREATED)

    def test_entries_that_are_none(self) -> None:
        """An entry that is no record of a request is passed over."""
        for body in ({}, {"id": b"12345678", "method": "PUT"}, {"id": 5}):
            self.built.committer.commit(Unit(appends=(Append(REQUESTS, body),)))
        self.records(1)
        self.assertEqual(len(self.restored().seen), 1)

    def test_journal_fails(self) -> None:
        """A journal that cannot be read is logged; requests are served."""
        journals = SlowJournals()
        again = Once(lambda: self.now, self.built.committer, REQUESTS, Metrics())
        done = again.restore(journals, self.built.clock)  # type: ignore[arg-type]
        journals.waiting.errback(StorageFull())
        self.successResultOf(done)
        self.assertEqual(len(self.flushLoggedErrors(StorageFull)), 1)
        self.assertEqual(self.successResultOf(again.once(put(), lambda: CHANGED)), CHANGED)  # type: ignore[arg-type]

    def test_record_fails(self) -> None:
        """A group's write that was done is answered where its record cannot be written."""
        self.built.committer.fault = StorageFull()
        self.assertIs(self.answer(put(), lambda: CREATED), CREATED)
        self.assertIs(self.answer(put(), lambda: CHANGED), CREATED)


class SlowJournals:
    """A journal whose entries are there when the test says so."""

    def __init__(self) -> None:
        self.waiting: Deferred[list[Entry]] = Deferred()

    def read_journal(self, name: str, after: int = 0, limit: int = 100, newest: bool = False) -> Deferred[list[Entry]]:
        """The entries, for the first who asks."""
        return self.waiting if newest else succeed([])
