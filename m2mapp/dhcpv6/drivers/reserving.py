"""Answers at `/leases`: what an operator reserves there is committed; all else is the tree's own affair."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp.dhcpv6.binding import Binding, Bindings
from m2mapp.dhcpv6.links import Links
from m2mapp.dhcpv6.reservations import client_at, is_lease, reserved
from m2mapp.formats.documents import load_document
from m2mapp.model.interfaces import ICommit, IHandle
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.resources import ResourceRules, written
from m2mapp.tree.service import execute
from m2mapp.tree.unit import Requirement, Unit


@implementer(IHandle)
class Reserving:
    """The handler of `/leases` on a node with a downlink. `now` gives monotonic seconds and wall-clock milliseconds."""

    def __init__(
        self, now: Callable[[], tuple[float, int]], committer: ICommit, rules: ResourceRules, bindings: Bindings, links: Links
    ) -> None:
        self._now, self._committer, self._rules = now, committer, rules
        self._bindings, self._links = bindings, links

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request at or below `/leases`. Raises, or fails with, a `Fault`."""
        if request.method is not Method.PUT or not is_lease(request.path):
            return execute(self._committer, self._rules.decide(request))
        client = client_at(request.path)
        given = load_document(request.payload, request.content_type)
        self._bindings.settle()
        binding = reserved(client, given, self._bindings, self._links, self._now())
        self._bindings.promise(binding)
        unit = Unit((self._bindings.write(binding),), requires=(Requirement(request.path, request.conditions),), trace=request.trace)
        done: Deferred[Response] = self._committer.commit(unit).addCallback(written(request.path)).addErrback(self._dropped, binding)
        return done

    def _dropped(self, failure: Failure, binding: Binding) -> Failure:
        self._bindings.dropped(binding)
        return failure
