"""A node as an LwM2M client: bootstraps at the service that `/node/address` tells, and registers where it was told to.

What is asked and answered is in `client`, a registration in `registering`. Responsible for sending, for waiting, for what is kept at
`/node/lwm2m`, and for which registrations there are: those of one bootstrap stay until another one is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from m2mapp import __version__
from m2mapp.formats.uris import parse_uri
from m2mapp.lwm2m.client import BootstrapClient, BootstrapServer, Phase
from m2mapp.lwm2m.client_page import PAGE, kept_servers, page_write
from m2mapp.lwm2m.device_objects import OBJECTS, UPDATE, instances, links, read, trigger
from m2mapp.lwm2m.device_settings import DeviceSettings
from m2mapp.lwm2m.drivers.registering import Registering
from m2mapp.lwm2m.held import ToldServer
from m2mapp.lwm2m.registering import Account
from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IAskBack, IClock, ICommit, IHandle, IRequester
from m2mapp.model.messages import Answer, Method, Request, Response, Status
from m2mapp.model.metrics import Metrics
from m2mapp.net.alarm import Alarm
from m2mapp.tree.access import check_access
from m2mapp.tree.device_address import DEVICE_ADDRESS, DeviceAddress, device_address_of
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Change, Unit
from m2mapp.tree.watch import Watch

_log = Logger(namespace="m2mapp.lwm2m")
_OBJECTS = frozenset((name,) for name in OBJECTS)


@dataclass(frozen=True, slots=True)
class ClientNode:
    """The parts of the node that the client works on. `links` gives its resources in link format; `query` is added to registrations."""

    tree: Tree
    committer: ICommit
    clock: IClock
    requester: IRequester
    back: IAskBack
    links: Callable[[], str]
    query: tuple[tuple[str, str], ...]
    random: Random


@implementer(IHandle)
class Bootstrapping(Service):
    """The client of one node. `handle` is for requests that `claims` says are the bootstrap server's."""

    name = "device"

    def __init__(self, reactor: IReactorTime, node: ClientNode, settings: DeviceSettings, metrics: Metrics) -> None:
        self._reactor, self._node, self._settings = reactor, node, settings
        self.client = BootstrapClient(settings.endpoint, settings.format_number, node.random.random)
        self._address: DeviceAddress | None = None
        self._registrations: dict[ToldServer, Registering] = {}
        self._leaving: dict[Deferred[None], None] = {}
        self.servers: dict[str, None] = {}
        """The addresses of the servers that this node is registered at."""
        self.on_servers: Callable[[], object] = lambda: None
        self._asking: Deferred[None] | None = None
        self._alarm = Alarm(reactor, self._on_wake)
        self._watch: Watch | None = None
        self._counted = {
            name: metrics.counter("m2mapp_device_bootstraps_total", "Bootstraps of this device, by what came of them.", outcome=name)
            for name in ("bootstrapped", "failed")
        }
        metrics.gauge("m2mapp_device_registrations", "Servers at which this device is registered.", self._registered)

    def startService(self) -> None:
        """Wait for an address: what the tree says of one is from the run before, until it is written anew."""
        super().startService()
        self._watch = self._node.tree.watch(DEVICE_ADDRESS, self._on_address)

    def stopService(self) -> Deferred[None]:
        """Deregister everywhere. The Deferred fires when that is done, or was tried."""
        super().stopService()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._address = None
        self._told(None)
        for server in list(self._registrations):
            self._leave(server)
        return gatherResults(list(self._leaving)).addCallback(lambda _: None)

    # The address, and the service that was told with it.

    def _on_address(self, change: Change) -> None:
        before, self._address = self._address, device_address_of(change.after)
        now = self._address
        if now is None or now.bootstrap_uri is None:
            self._told(None)
            return
        server = BootstrapServer(now.bootstrap_uri, now.certificate)
        if server != self.client.server:
            self._told(server)
        elif before is not None and before.address != now.address:
            for registering in self._registrations.values():
                registering.renew()

    def _told(self, server: BootstrapServer | None) -> None:
        """This is the service from now on. What goes on with another one is over; registrations stay until this one has told of others."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        kept = kept_servers(self._node.tree.find(PAGE), self._settings.endpoint, server) if server is not None else ()
        if kept and server is not None and self.client.phase is Phase.IDLE:
            self.client.kept(server)
            self._register(kept)
            for registering in self._registrations.values():  # those of before an address went and another came
                registering.renew()
        else:
            self.client.told(server)
        self._carry_on()

    # The client asks.

    def _carry_on(self) -> None:
        """Ask where that is to be done, and wait for when the machine wants to be woken."""
        if self.client.phase is Phase.ASKING and self._asking is None:
            self._ask()
        self._alarm.stop()
        if self.client.wake_at is not None:
            self._alarm.set(self.client.wake_at - self._reactor.seconds())

    def _on_wake(self) -> None:
        before = self.client.phase
        self.client.wake(self._reactor.seconds())
        self._note(before)
        self._carry_on()

    def _ask(self) -> None:
        try:
            outgoing = self.client.request()
        except Fault as fault:
            self._failed(fault.detail)
            return
        sent: Deferred[Answer] = maybeDeferred(self._node.requester.send, outgoing)
        done = sent.addCallback(self._answered).addErrback(self._no_answer)
        if not done.called:
            self._asking = done

    def _answered(self, answer: Answer) -> None:
        self._asking = None
        before = self.client.phase
        self.client.answered(answer, self._reactor.seconds())
        self._note(before)
        self._carry_on()

    def _no_answer(self, failure: Failure) -> None:
        if failure.check(CancelledError) is not None:
            return  # another service is to be asked, or none
        self._asking = None
        if failure.check(Fault) is None:
            _log.failure("the bootstrap service could not be asked", failure)
        if self.client.phase is Phase.ASKING:
            self._failed(failure.getErrorMessage())
            self._carry_on()

    def _failed(self, why: str) -> None:
        before = self.client.phase
        self.client.failed(why, self._reactor.seconds())
        self._note(before)

    def _note(self, before: Phase) -> None:
        """Tell once of each bootstrap that failed."""
        if self.client.phase is Phase.PAUSED and before is not Phase.PAUSED:
            self._counted["failed"].add()
            _log.warn("{who} was not bootstrapped, and asks again: {why}", who=self._settings.endpoint, why=self.client.why)

    # The server asks.

    def claims(self, request: Request) -> bool:
        """Whether a request is the bootstrap server's, while that is awaited, or to an object.

        It is the bootstrap server's by its session where that is coaps, else by its address.
        """
        if request.multicast is not None:
            return False
        return request.path[:1] in _OBJECTS or self._is_of_bootstrap_server(request)

    def _is_of_bootstrap_server(self, request: Request) -> bool:
        server = self.client.server
        if server is None or not self.client.is_open():
            return False
        uri, meant = parse_uri(server.uri), self._node.back.meant(request.peer)
        if uri.scheme == "coaps":
            return bool(meant == (uri.host, server.certificate))
        return meant is None and self.client.comes_from_server(request.source)

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to the bootstrap server, or to a server. Raises, or fails with, a `Fault`."""
        return self._bootstrap(request) if self._is_of_bootstrap_server(request) else self._manage(request)

    def _manage(self, request: Request) -> Response:
        """The answer to a request to an object."""
        found = instances(self._settings.endpoint, __version__, tuple(self._registrations))
        serves = request.source is not None and request.source[0] in self.servers
        wanted = trigger(request, found) if serves else None
        if wanted is None:
            check_access(request.principal, request.method, request.path)
            return read(request, found)
        if wanted == UPDATE:
            for registering in self._registrations.values():
                registering.renew()
        else:
            self.client.told(self.client.server)
            self._carry_on()
        return Response(Status.CHANGED)

    def _links(self) -> str:
        return links(instances(self._settings.endpoint, __version__, tuple(self._registrations)), self._node.links())

    def _bootstrap(self, request: Request) -> Response | Deferred[Response]:
        """The answer to the bootstrap server. A Finish is answered when what was written is kept."""
        before = self.client.phase
        try:
            taken = self.client.taken(request, self._reactor.seconds())
        finally:
            self._note(before)
            self._carry_on()
        if isinstance(taken, Response):
            return taken
        server = self.client.server
        if server is None or request.method is not Method.POST:
            raise LookupError("a Finish without a server")
        page = page_write(self._settings.endpoint, server, taken, self._node.clock.now_ms())
        kept: Deferred[object] = self._node.committer.commit(Unit((page,), trace=request.trace))
        return kept.addCallback(self._finished, server, taken)

    def _finished(self, _: object, server: BootstrapServer, servers: tuple[ToldServer, ...]) -> Response:
        if self.running and self.client.phase is Phase.OPEN and self.client.server == server:
            self.client.finished()
            self._counted["bootstrapped"].add()
            _log.info("{who} was bootstrapped by {uri}", who=self._settings.endpoint, uri=server.uri)
            self._register(servers)
            self._carry_on()
        return Response(Status.CHANGED)

    # Registrations.

    def _register(self, servers: tuple[ToldServer, ...]) -> None:
        """Be registered at these servers, and at no other."""
        for gone in [one for one in self._registrations if one not in servers]:
            self._leave(gone)
        self.servers.clear()
        for server in servers:
            if server not in self._registrations:
                account = Account(
                    server.uri,
                    self._settings.endpoint,
                    server.lifetime_s,
                    binding=server.binding,
                    certificate=server.certificate,
                    more=self._node.query,
                    shown=server.shown,
                )
                registering = Registering(self._reactor, self._node.requester, account, self._links, self._node.random, self._agreed)
                self._registrations[server] = registering
                registering.startService()
            if server.uri.address is not None:
                self.servers[server.uri.host] = None
        self.on_servers()
        self.client.registered(self._reactor.seconds(), 0.0)

    def _agreed(self, answer: Answer) -> None:
        longest_s = max((server.lifetime_s for server in self._registrations), default=0)
        self.client.registered(self._reactor.seconds(), longest_s)
        self._carry_on()
        if answer.source and answer.source not in self.servers:
            self.servers[answer.source] = None
            self.on_servers()

    def _leave(self, server: ToldServer) -> None:
        """Deregister; nobody waits for it but a stop."""
        left = self._registrations.pop(server).stopService()
        if not left.called:
            self._leaving[left] = None
            left.addBoth(lambda _: self._leaving.pop(left, None))

    def _registered(self) -> int:
        return sum(one.registered for one in self._registrations.values())
