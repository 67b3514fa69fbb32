"""The HTTP service: listens, watches over its connections, and stops in good order.

Joins the parts of this package; not responsible for what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.http import metrics as pages
from m2mapp.http.book import SWEEP_S, Connections
from m2mapp.http.connection import ChannelFactory
from m2mapp.http.events import Streams
from m2mapp.http.limits import HttpLimits
from m2mapp.http.lines import Feed, LinePages
from m2mapp.http.resource import Edge, Parts
from m2mapp.http.site import Site
from m2mapp.http.tokens import Tokens
from m2mapp.model.identifiers import Path
from m2mapp.model.interfaces import IClock, IHandle, IJournals
from m2mapp.model.metrics import Metrics
from m2mapp.tree.tree import Tree

_log = Logger()


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What the HTTP service stands on.

    `handler` answers requests; `tree` and `journals` feed event streams; `unready` says why the node is not ready (empty: it is);
    `feeds` has what makes lines without end by the path at which they are read; `warnings` says what a ready node lacks all the same;
    `site` answers all below `/admin`.
    """

    handler: IHandle
    tree: Tree
    journals: IJournals
    tokens: Tokens
    metrics: Metrics
    clock: IClock
    unready: Callable[[], list[str]]
    limits: HttpLimits = field(default_factory=HttpLimits)
    log_requests: bool = False
    feeds: Mapping[Path, Feed] = field(default_factory=dict)
    warnings: Callable[[], list[str]] = list
    site: Site | None = None


class HttpService(Service):
    """Serves the tree over HTTP on Twisted endpoints (`tcp:8080:interface=127.0.0.1`, `ssl:...`).

    `reactor` has, besides the time, what the endpoints need of it. It can be started and stopped again and again.
    """

    name = "http"

    def __init__(self, reactor: IReactorTime, endpoints: Sequence[str], parts: HttpParts) -> None:
        self._reactor = reactor
        self._endpoints = tuple(endpoints)
        limits, metrics = parts.limits, parts.metrics
        self._grace_s, self._linger_s = limits.grace_s, limits.linger_s
        self.connections = Connections(limits, reactor, parts.clock, metrics)
        self._streams = Streams(parts.tree, parts.journals, reactor, limits, metrics)
        lines = LinePages(parts.feeds, self._streams.outlets)
        edge_pages = pages.pages(metrics, parts.unready, parts.warnings)
        edge_parts = Parts(parts.handler, parts.tokens, self._streams, edge_pages, lines, parts.site)
        edge = Edge(edge_parts, self.connections, reactor, metrics, log_requests=parts.log_requests)
        self.factory = ChannelFactory(self.connections, edge.serve)
        self._ports: list[IListeningPort] = []
        self._sweep: IDelayedCall | None = None
        self._listening = False

    def ports(self) -> tuple[int, ...]:
        """The TCP ports that are bound, in the order of the endpoints; a Unix socket has none."""
        numbers = [getattr(port.getHost(), "port", None) for port in self._ports]
        return tuple(number for number in numbers if isinstance(number, int))

    def privilegedStartService(self) -> None:
        """Listen, before the process gives up what it may do (ports below 1024)."""
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """Listen. Raises what keeps an endpoint from listening."""
        super().startService()
        self._listen()
        self._sweep = self._reactor.callLater(SWEEP_S, self._on_sweep)

    def stopService(self) -> Deferred[None]:
        """Take no new connections, end streams, let what is under way finish within the grace. Fires when all is closed.

        What is not finished then is answered with what there is, and what is still open a little later is cut off.
        """
        super().stopService()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        closing = self._give_up_ports()
        self.connections.stop()
        self._streams.outlets.close_all()
        closing.append(self._drained())
        return DeferredList(closing).addCallback(self._stopped)

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening = True
        self.connections.stopping = False
        for description in self._endpoints:
            listening = serverFromString(self._reactor, description).listen(self.factory)
            failures: list[Failure] = []
            listening.addCallbacks(self._ports.append, failures.append)
            if failures:
                # What cannot listen ends the start: a service that nobody can reach must not look as if it ran.
                self._give_up_ports()
                _log.error("cannot listen on {endpoint}: {reason}", endpoint=description, reason=failures[0].getErrorMessage())
                failures[0].raiseException()

    def _give_up_ports(self) -> list[Deferred[None]]:
        ports, self._ports, self._listening = self._ports, [], False
        return [port.stopListening() or succeed(None) for port in ports]

    def _on_sweep(self) -> None:
        self._sweep = self._reactor.callLater(SWEEP_S, self._on_sweep)
        self.connections.sweep()

    def _drained(self) -> Deferred[None]:
        connections = self.connections
        done: Deferred[None] = Deferred()
        if not connections.open:
            done.callback(None)
            return done
        end = self._reactor.callLater(self._grace_s, connections.end_waiting)
        abort = self._reactor.callLater(self._grace_s + self._linger_s, connections.abort_all)

        def drained() -> None:
            connections.drained = None
            for call in (end, abort):
                if call.active():
                    call.cancel()
            done.callback(None)

        connections.drained = drained
        return done

    @staticmethod
    def _stopped(_results: object) -> None:
        return None
