"""The life of one node: its parts start in order and stop in the opposite one. Not responsible for what they are (`build`)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from m2mapp.coap.service import CoapService
from m2mapp.config import Settings
from m2mapp.http.service import HttpService
from m2mapp.model.interfaces import IHandle
from m2mapp.tree.tree import Tree

_log = Logger(namespace="m2mapp")

_Part = TypeVar("_Part", bound=Service)


class CannotStart(Exception):  # noqa: N818 - a fact for who starts the program, told in one line
    """A node cannot start: says which, which part of it, and why."""


class Node(Service):
    """One node: its parts as services, started in order and stopped in the opposite order, each when the one before is done.

    `late` parts start when the node is prepared: they tell others of it. `handler` answers every request that comes in.
    """

    def __init__(self, settings: Settings, tree: Tree, handler: IHandle) -> None:
        self.settings, self.tree, self.handler = settings, tree, handler
        self.parts: tuple[Service, ...] = ()
        self.late: tuple[Service, ...] = ()
        self.prepare: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.prepared = False

    def part(self, kind: type[_Part]) -> _Part:
        """The part of that class. Raises `LookupError` where the role is off."""
        for part in (*self.parts, *self.late):
            if isinstance(part, kind):
                return part
        raise LookupError(kind.__name__)

    def privilegedStartService(self) -> None:
        """What needs the rights that the process gives up: ports below 1024. Raises `CannotStart`."""
        super().privilegedStartService()
        for part in self.parts:
            try:
                part.privilegedStartService()
            except (OSError, CannotListenError) as error:
                raise self._cannot_start(part, error) from error

    def startService(self) -> None:
        """Start every part. Raises `CannotStart`, or `StoreRefused`, for the first that cannot; those before it are stopped."""
        for part in self.parts:
            try:
                part.startService()
            except BaseException as error:
                for other in reversed(self.parts):
                    if other is not part and _is_up(other):
                        maybeDeferred(other.stopService).addErrback(_not_stopped, other)
                if isinstance(error, OSError | CannotListenError):
                    raise self._cannot_start(part, error) from error
                raise
        super().startService()
        self.prepare().addCallbacks(self._ready, self._not_ready)

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[object], object, None]:
        """Stop every part, the last first."""
        super().stopService()
        self.prepared = False
        for part in (*reversed(self.late), *reversed(self.parts)):
            if _is_up(part):
                yield maybeDeferred(part.stopService).addErrback(_not_stopped, part)

    def _cannot_start(self, part: Service, error: Exception) -> CannotStart:
        coap = self.settings.coap if isinstance(part, CoapService) else None
        hosts = (
            [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in (*coap.listen, *coap.coaps.listen)]
            if coap is not None
            else []
        )
        where = f"cannot listen on {', '.join(hosts)}: " if hosts else ""
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return CannotStart(f"{self.settings.node.name}: [{part.name}] {where}{reason}")

    def _ready(self, _: object) -> None:
        if self.running and not self.prepared:
            self.prepared = True
            for part in self.late:
                part.startService()

    def _not_ready(self, failure: Failure) -> None:
        if self.running:
            _log.failure("the node could not be prepared", failure)


class Between(Service):
    """Something that begins and ends with the node and is no service."""

    def __init__(self, name: str, begin: Callable[[], None], end: Callable[[], Deferred[object] | None]) -> None:
        self.name, self._begin, self._end = name, begin, end

    def startService(self) -> None:
        """Begin it."""
        super().startService()
        self._begin()

    def stopService(self) -> Deferred[object] | None:
        """End it."""
        super().stopService()
        return self._end()


def _is_up(part: Service) -> bool:
    """Whether there is something to stop. HTTP listens from before it is started."""
    return bool(part.running) or isinstance(part, HttpService)


def _not_stopped(failure: Failure, part: Service) -> None:
    """The others are stopped all the same."""
    _log.failure("{part} did not stop in order", failure, part=part.name)
