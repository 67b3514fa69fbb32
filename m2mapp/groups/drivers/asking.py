"""Asks other nodes whose devices are registered there, for the planner (spec section 3, point 2).

Bounded in how many are asked at once and how long anybody waits; an answer that comes later counts all the same. What is known, and
when it is asked again, is in `elsewhere`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.formats.documents import JSON, load_json
from m2mapp.formats.uris import Uri, parse_uri
from m2mapp.groups.elsewhere import Elsewhere, Outsider, found_in
from m2mapp.groups.plan import GroupServer
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IRequester
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.net.alarm import Alarm

BATCH = 16
"""So many hosts are asked for in one request."""
AT_ONCE = 4
"""So many batches are asked for at the same time, each at all nodes."""
ANSWER_S = 5.0
"""So long one answer is waited for."""
WAIT_S = 3.0
"""So long whoever makes a group waits for answers: who is not known by then is asked one by one, until the group is planned again."""
LEAST_PAUSE_S = 1.0
"""So long it is at least between two looks at what is due to be asked again."""

_log = Logger(namespace="m2mapp.groups.asking")


class Asker:
    """Asks the nodes that `servers` gives. `on_news` is told the hosts of which something new is known.

    `is_wanted` says whether anybody still asks for a host.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        requester: IRequester,
        elsewhere: Elsewhere,
        servers: Callable[[], Mapping[str, GroupServer]],
        is_wanted: Callable[[str], bool],
        on_news: Callable[[list[str]], None],
    ) -> None:
        """`servers` are the group servers there are, by the host that names each."""
        self._reactor, self._requester, self._elsewhere, self._servers = reactor, requester, elsewhere, servers
        self._is_wanted, self._on_news = is_wanted, on_news
        self._queue: deque[str] = deque()
        self._pending: dict[str, None] = {}
        self._waiting: dict[Deferred[None], set[str]] = {}
        self._rounds: dict[Deferred[object], None] = {}
        self._alarm = Alarm(reactor, self._ask_due)
        self._running = False

    @property
    def depth(self) -> int:
        """How many hosts are being asked for."""
        return len(self._pending)

    def start(self) -> None:
        """Ask from now on, and again what is due."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Ask nothing further; whoever waits goes on with what is known."""
        self._running = False
        self._alarm.stop()
        self._queue.clear()
        self._pending.clear()
        waiting, self._waiting = self._waiting, {}
        for done in waiting:
            done.cancel()
        for asked in list(self._rounds):
            asked.cancel()

    def can_ask(self) -> bool:
        """Whether there is anybody to ask."""
        return self._running and bool(self._servers())

    def ask(self, hosts: Iterable[str]) -> Deferred[None]:
        """Find out where these hosts are registered: a Deferred that fires when that is known of all, or it took long enough."""
        wanted = set(hosts)
        if not self.can_ask() or not wanted:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting[done] = wanted
        done.addTimeout(WAIT_S, self._reactor, lambda _result, _timeout: None)
        done.addErrback(_stopped)
        done.addBoth(self._forget_waiting, done)
        self._add(wanted)
        return done

    def _forget_waiting(self, _: object, done: Deferred[None]) -> None:
        self._waiting.pop(done, None)

    def _schedule(self) -> None:
        due_s = self._elsewhere.next_due_s()
        if self._running and not self._alarm.is_set and due_s is not None:
            self._alarm.set(max(LEAST_PAUSE_S, due_s - self._reactor.seconds()))

    def _ask_due(self) -> None:
        due = self._elsewhere.due(self._reactor.seconds(), BATCH * AT_ONCE * 4)
        for host in due:
            if not self._is_wanted(host):
                self._elsewhere.forget(host)
        self._add([host for host in due if self._is_wanted(host)])
        self._schedule()

    def _add(self, hosts: Iterable[str]) -> None:
        for host in sorted(hosts):
            if host not in self._pending:
                self._pending[host] = None
                self._queue.append(host)
        while self._queue and len(self._rounds) < AT_ONCE:
            self._begin([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])

    # One batch of hosts, at all nodes.

    def _begin(self, hosts: list[str]) -> None:
        servers = self._servers()
        asks = [self._find(hosts, server) for server in {server.uri: server for server in servers.values()}.values()]
        asks += [self._look_at(host, servers[host]) for host in hosts if host in servers]
        asked: Deferred[object] = gatherResults(asks, consumeErrors=True)  # type: ignore[assignment]
        self._rounds[asked] = None
        asked.addCallback(lambda found: self._on_found(hosts, found))
        asked.addErrback(lambda failure: _log.failure("asking for hosts", failure))
        asked.addBoth(lambda _: self._over(asked, hosts))

    def _find(self, hosts: list[str], server: GroupServer) -> Deferred[tuple[dict[str, Outsider], str]]:
        """What one node has of the hosts; with its URI where it gave no answer."""
        place = parse_uri(server.uri)
        query = (*(("host", host) for host in hosts), ("limit", str(10 * BATCH)))
        asked = self._get(Uri(place.scheme, place.host, place.port, ("scls",), query))
        return asked.addCallback(lambda document: ({}, server.uri) if document is None else (found_in(document, hosts, server), ""))

    def _look_at(self, host: str, server: GroupServer) -> Deferred[tuple[dict[str, Outsider], str]]:
        """Whether the node of that host takes groups."""
        place = parse_uri(server.uri)
        asked = self._get(Uri(place.scheme, place.host, place.port, ("node",)))

        def takes_groups(document: Mapping[str, object] | None) -> tuple[dict[str, Outsider], str]:
            if document is None:
                return {}, server.uri
            roles = document.get("roles")
            return ({host: Outsider(server, None)} if isinstance(roles, list) and "groups" in roles else {}), ""

        return asked.addCallback(takes_groups)

    def _get(self, uri: Uri) -> Deferred[Mapping[str, object] | None]:
        """The document there; None where there is no usable answer."""
        asked: Deferred[Answer] = maybeDeferred(self._requester.send, Outgoing(Method.GET, uri.text(), accept=JSON, timeout_s=ANSWER_S))
        return asked.addCallbacks(_document, _no_answer)

    def _on_found(self, hosts: list[str], found: object) -> None:
        answers: list[tuple[dict[str, Outsider], str]] = found if isinstance(found, list) else []
        unreachable = [uri for _, uri in answers if uri]
        now = self._reactor.seconds()
        news = []
        for host in hosts:
            outsider = next((outsiders[host] for outsiders, _ in answers if host in outsiders), None)
            if self._elsewhere.learned(host, outsider, unreachable, now):
                news.append(host)
        if news:
            self._on_news(news)

    def _over(self, asked: Deferred[object], hosts: list[str]) -> None:
        """One batch is done; those that wait for nothing any more go on."""
        self._rounds.pop(asked, None)
        for host in hosts:
            self._pending.pop(host, None)
        for done, wanted in list(self._waiting.items()):
            if not any(host in self._pending for host in wanted):
                done.callback(None)
        if self._running:
            self._add(())
            self._schedule()


def _stopped(failure: Failure) -> None:
    """Who waits goes on with what is known."""
    failure.trap(CancelledError)


def _document(answer: Answer) -> Mapping[str, object] | None:
    try:
        document = load_json(answer.payload) if answer.ok else None
    except Fault:
        return None
    return document if isinstance(document, Mapping) else None


def _no_answer(failure: Failure) -> None:
    if failure.check(Fault, CancelledError) is None:
        _log.failure("another node could not be asked", failure)
