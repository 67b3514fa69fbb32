"""The dispatcher: each request, from whichever edge, goes through here to the tree or to the capability that owns its path.

It checks the principal's right, finds who answers, and commits what was decided. It does not know any capability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.defer import Deferred
from zope.interface import implementer

from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import ICommit, IHandle
from m2mapp.model.messages import Method, Request, Response
from m2mapp.tree.access import DISCOVERY, check_access
from m2mapp.tree.discovery import Discovery
from m2mapp.tree.drivers.once import Once
from m2mapp.tree.resources import Decision, ResourceRules
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import ANYWHERE, Types
from m2mapp.tree.watch import Watch

Answered = Response | Deferred[Response] | None


def execute(committer: ICommit, decision: Response | Decision) -> Response | Deferred[Response]:
    """Commit what was decided and give its answer; a response is handed through."""
    if isinstance(decision, Response):
        return decision
    done: Deferred[Response] = committer.commit(decision.unit).addCallback(decision.answer)
    return done


@implementer(IHandle)
class Dispatcher:
    """Answers every request of the node.

    `routes`: who answers at and below a path, the longest one first; of `(ANYWHERE, name)` at and below that name, wherever it stands but
    at the root. `on_multicast` answers requests that came to a multicast
    address, or gives None, which is silence. `once` remembers requests that bear an identifier, so that each is done once.
    """

    def __init__(
        self,
        rules: ResourceRules,
        committer: ICommit,
        discovery: Discovery,
        routes: Mapping[Path, IHandle],
        on_multicast: Callable[[Request], Answered],
        once: Once,
    ) -> None:
        self._rules, self._committer, self._discovery = rules, committer, discovery
        self._routes = {path: handler for path, handler in routes.items() if path[0] != ANYWHERE}
        self._anywhere = {path[1]: handler for path, handler in routes.items() if path[0] == ANYWHERE}
        self._marks = frozenset(self._anywhere)
        self._depth = max((len(path) for path in self._routes), default=0)
        self._on_multicast = on_multicast
        self._once = once

    def handle(self, request: Request) -> Answered:
        """The answer, or a Deferred of it. None only for a request to a multicast address: stay silent. Raises `Fault`s."""
        if request.multicast is None:
            return self.handle_unicast(request)
        if request.path == DISCOVERY:
            # What All CoAP Nodes are asked (RFC 7252, section 8; spec section 5), on the link only.
            check_access(request.principal, request.method, DISCOVERY)
            return self.discover(request)
        return self._on_multicast(request)

    def handle_unicast(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request that is meant for this node alone."""
        path = request.path
        check_access(request.principal, request.method, path)
        if path == DISCOVERY:
            return self.discover(request)
        if not self._marks.isdisjoint(path[1:]):
            name = next(segment for segment in path[1:] if segment in self._marks)
            return self._once.once(request, partial(self._anywhere[name].handle, request))
        for depth in range(min(self._depth, len(path)), 0, -1):
            handler = self._routes.get(path[:depth])
            if handler is not None:
                answered: Response | Deferred[Response] = handler.handle(request)
                return answered
        if request.request_id is None:
            return self._execute(request)
        if request.method is Method.GET:
            return self._once.once(request, partial(self._execute, request))
        return self._once.write(request, partial(self._rules.decide, request))

    def _execute(self, request: Request) -> Response | Deferred[Response]:
        return execute(self._committer, self._rules.decide(request))

    def discover(self, request: Request) -> Response:
        """The answer to a request for `/.well-known/core`."""
        if request.method is not Method.GET:
            raise MethodNotAllowed(request.method.value, path_text(DISCOVERY), ("GET",))
        return self._discovery.respond(request)


class Observed:
    """What a client can observe of a tree: every resource in it, and discovery."""

    def __init__(self, tree: Tree, types: Types) -> None:
        self._tree, self._types = tree, types

    def watch(self, path: Path, on_change: Callable[[], None], *, subtree: bool) -> Watch | None:
        """Call `on_change` for each change of what a GET of the path shows, with `subtree` of all below too.

        None where nothing that is told of stands at the path.
        """
        if path == DISCOVERY:
            return self._tree.watch((), lambda _: on_change(), subtree=True)
        resource = self._tree.find(path)
        if path and resource is None:
            return None
        shows_below = resource is None or self._types.derived(resource.type)
        return self._tree.watch(path, lambda _: on_change(), subtree=subtree or shows_below)

    def number(self) -> int:
        """The number of the last committed change. It never goes back, since it is on disk."""
        return self._tree.committed_number
