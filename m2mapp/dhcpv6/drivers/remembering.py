"""Answers at `/leases` and `/prefixes`: reads their history, and puts what an operator removes into it; all else is others' affair."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from zope.interface import implementer

from m2mapp.dhcpv6.history import MOST_SHOWN, NAME, Ending, all_ended, document, journal_of
from m2mapp.model.interfaces import ICommit, IHandle, IJournals
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.representation import document_response
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Entry

_PAGE = 1_000


@implementer(IHandle)
class Remembering:
    """The handler of one of the two. `inner` answers what it does not."""

    def __init__(
        self,
        tree: Tree,
        committer: ICommit,
        journals: IJournals,
        rules: ResourceRules,
        inner: Callable[[Request], Response | Deferred[Response]],
    ) -> None:
        self._tree, self._committer, self._journals, self._rules, self._inner = tree, committer, journals, rules, inner

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request at or below the collection. Raises, or fails with, a `Fault`."""
        if request.method is Method.GET and len(request.path) > 1 and request.path[-1] == NAME:
            return Deferred.fromCoroutine(self._read(request))
        if request.method is not Method.DELETE:
            return self._inner(request)
        decision = self._rules.decide(request)
        if isinstance(decision, Decision):
            unit = decision.unit
            past = all_ended(self._tree.walk(request.path), Ending.REMOVED)
            decision = Decision(replace(unit, appends=(*unit.appends, *past)), decision.answer)
        return execute(self._committer, decision)

    async def _read(self, request: Request) -> Response:
        """The newest of the journal's entries that concern the path, found by reading it from its oldest end."""
        root, name = request.path[:1], "/".join(request.path[1:-1])
        found: deque[Entry] = deque(maxlen=MOST_SHOWN)
        last = 0
        while True:
            page: list[Entry] = await self._journals.read_journal(journal_of(root), after=last, limit=_PAGE)
            if not page:
                break
            last = page[-1].number
            found.extend(entry for entry in page if not name or entry.body.get("name") == name)
        now = self._tree.find(request.path[:-1]) if name else None
        return document_response(document(found, now), request.accept, max(last, now.version if now is not None else 0))
