"""Requests that bear an identifier are done once: who waits for whom, and what of it goes to disk (spec section 6).

Which of them act is decided in `model.seen`. A write to the tree and the record that it was done are one unit, so that a process that is
killed has neither or both. Of a group's write the record is flushed before its caller is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.model.errors import Conflict
from m2mapp.model.interfaces import IClock, ICommit, IJournals
from m2mapp.model.messages import WRITES, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.seen import KEEP_S, Key, Seen, SeenRequests
from m2mapp.tree.done import record_of, seen_in
from m2mapp.tree.resources import Decision
from m2mapp.tree.unit import Append, Change, Entry, Unit

PAGE = 1_000
"""So many entries are read at a time. As many of the newest are taken for live at a start, whatever the wall clock made of their times."""

Answered = Response | Deferred[Response]

_log = Logger(namespace="m2mapp.once")


class Once:
    """The requests of the last minutes of one node or of its groups. `now` gives monotonic seconds; `journal` is where its writes stand."""

    def __init__(self, now: Callable[[], float], committer: ICommit, journal: str, metrics: Metrics) -> None:
        self._now, self._committer, self._journal = now, committer, journal
        of = {"journal": journal}
        self.seen = SeenRequests(loops=metrics.counter("m2mapp_request_loops_total", "Requests that were here by another way.", **of))
        metrics.gauge("m2mapp_request_ids", "Request identifiers that are remembered.", lambda: len(self.seen), **of)
        self._waiting: dict[Key, list[Deferred[Response]]] = {}
        self._restoring: list[Deferred[None]] | None = None

    def once(self, request: Request, act: Callable[[], Answered]) -> Answered:
        """What `act` answers, the first time; the first answer again for the same again. Where the first is under way, it is waited for.

        A write is answered when it is on disk that it was done. Cancelling what the first one got is cancelling what `act` gave. Raises, or
        fails with, what `SeenRequests.check` raises and what `act` does.
        """
        done = self._recorded if request.method in WRITES else self._done
        return self._when_ready(request, lambda: self._run(request, lambda _: act(), done))

    def write(self, request: Request, decide: Callable[[], Response | Decision]) -> Answered:
        """The same for a write to the tree: what was decided and the record of it are committed as one unit.

        A caller that waits no longer changes nothing of it.
        """

        def run() -> Answered:
            answered = self._run(request, lambda one: self._commit(one, decide()), self._done)
            return _shielded(answered) if isinstance(answered, Deferred) else answered

        return self._when_ready(request, run)

    def restore(self, journals: IJournals, clock: IClock) -> Deferred[None]:
        """Know the writes that were done before the last stop, each for its whole time anew. What comes meanwhile waits."""
        self._restoring = []
        return Deferred.fromCoroutine(self._restore(journals, clock)).addErrback(_not_restored).addBoth(self._restored)

    def _when_ready(self, request: Request, run: Callable[[], Answered]) -> Answered:
        if self._restoring is None or request.request_id is None:
            return run()
        later: Deferred[None] = Deferred()
        self._restoring.append(later)
        return later.addCallback(lambda _: run())

    def _run(self, request: Request, act: Callable[[Seen | None], Answered], done: Callable[[Response, Seen], Answered]) -> Answered:
        if request.request_id is None:
            return act(None)
        one, is_due = self.seen.check(request, self._now())
        if not is_due:
            return one.answer if one.answer is not None else self._beside(one)
        try:
            answered = act(one)
        except BaseException:
            self._failed(Failure(), one)
            raise
        answered = done(answered, one) if isinstance(answered, Response) else answered.addCallback(done, one)
        if isinstance(answered, Response):
            return self._tell(answered, one)
        return answered.addCallbacks(self._tell, self._failed, (one,), {}, (one,))

    def _beside(self, one: Seen) -> Deferred[Response]:
        """A place beside the one that is under way."""
        waiting = self._waiting.setdefault(one.key, [])
        later: Deferred[Response] = Deferred(lambda cancelled: waiting.remove(cancelled) if cancelled in waiting else None)
        waiting.append(later)
        return later

    def _tell(self, response: Response, one: Seen) -> Response:
        for later in self._waiting.pop(one.key, ()):
            if response.stream is None:
                later.callback(response)
            else:
                later.errback(Conflict(f"the request {one.key[0].hex()} is being answered line by line to who asked first"))
        return response

    def _failed(self, failure: Failure, one: Seen) -> Failure:
        self.seen.failed(one)
        for later in self._waiting.pop(one.key, ()):
            later.errback(failure)
        return failure

    # Writing that it was done.

    def _done(self, response: Response, one: Seen) -> Response:
        self.seen.done(one, response)
        return response

    def _commit(self, one: Seen | None, decision: Response | Decision) -> Answered:
        if isinstance(decision, Response):
            return decision
        unit = decision.unit if one is None else replace(decision.unit, record=partial(self._record, one, decision.answer))
        done: Deferred[Response] = self._committer.commit(unit).addCallback(decision.answer)
        return done

    def _record(self, one: Seen, answer: Callable[[tuple[Change, ...]], Response], changes: tuple[Change, ...]) -> Append:
        return Append(self._journal, record_of(one, answer(changes)))

    def _recorded(self, response: Response, one: Seen) -> Answered:
        """It was done elsewhere: its record alone is written. Where that fails, it was done all the same, and is answered.

        One that is answered while it is being done has no record: after a restart it is to be gone through again.
        """
        if response.stream is not None:
            return self._done(response, one)
        written: Deferred[object] = self._committer.commit(Unit(appends=(Append(self._journal, record_of(one, response)),)))
        return written.addErrback(_not_recorded).addCallback(lambda _: self._done(response, one))

    # Reading it again.

    async def _restore(self, journals: IJournals, clock: IClock) -> None:
        newest: list[Entry] = await journals.read_journal(self._journal, limit=PAGE, newest=True)
        oldest_ms = clock.now_ms() - int(KEEP_S * 1000)
        if len(newest) == PAGE and newest[0].at_ms > oldest_ms:
            first, after = newest[0].number, 0
            while after < first - 1:
                page: list[Entry] = await journals.read_journal(self._journal, after=after, limit=PAGE)
                older = [entry for entry in page if entry.number < first]
                self._take([entry for entry in older if entry.at_ms > oldest_ms])
                if not older or len(older) < len(page):
                    break
                after = older[-1].number
        self._take(newest)

    def _take(self, entries: list[Entry]) -> None:
        for entry in entries:
            one = seen_in(entry.body, self._now() + KEEP_S)
            if one is not None:
                self.seen.restore(one)

    def _restored(self, _: object) -> None:
        waiting, self._restoring = self._restoring or [], None
        for later in waiting:
            later.callback(None)


def _shielded(answered: Deferred[Response]) -> Deferred[Response]:
    """The same answer for somebody whose cancelling does not reach what is awaited."""
    later: Deferred[Response] = Deferred(lambda _: None)
    answered.addBoth(lambda result: None if later.called else later.callback(result))
    return later


def _not_recorded(failure: Failure) -> None:
    _log.warn("after a restart a group's write that was done will not be known: {reason}", reason=failure.getErrorMessage())


def _not_restored(failure: Failure) -> None:
    _log.failure("what was done before the start is not known", failure)
