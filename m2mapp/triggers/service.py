"""Operations: answers at and below each subject's `Operations`, and runs what changes of subjects set off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from m2mapp.formats.uris import path_uri
from m2mapp.model.errors import MethodNotAllowed, NoSuchResource
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.interfaces import IClock, ICommit, IHandle, IJournals, IRequester
from m2mapp.model.messages import Method, Request, Response
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NOBODY
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Resource
from m2mapp.triggers import edit
from m2mapp.triggers.author import Current
from m2mapp.triggers.circles import Own, circle_of, warning
from m2mapp.triggers.drivers.durable import Durable
from m2mapp.triggers.drivers.engine import Around, Engine
from m2mapp.triggers.drivers.ground import Ground
from m2mapp.triggers.drivers.holds import Holds
from m2mapp.triggers.drivers.running import Means
from m2mapp.triggers.drivers.telling import TOLD, told
from m2mapp.triggers.drivers.ticking import Ticking
from m2mapp.triggers.drivers.trying import Trying
from m2mapp.triggers.operation import Operation, operation_of
from m2mapp.triggers.places import EVALUATE, OPERATION_TYPE, subject_of
from m2mapp.triggers.settings import TriggerSettings
from m2mapp.triggers.ties import Ties


@dataclass(frozen=True, slots=True)
class TriggerNode:
    """What operations need of the node around them. `own` gives the path of a URI that is this node's."""

    tree: Tree
    rules: ResourceRules
    committer: ICommit
    journals: IJournals
    clock: IClock
    requester: IRequester
    registrations: Registrations
    touch: Callable[[Path], object]
    node_uri: str
    own: Own
    current: Current


@implementer(IHandle)
class TriggerService(Service):
    """Answers every request at and below `Operations`; follows the tree."""

    name = "triggers"

    def __init__(self, reactor: IReactorTime, node: TriggerNode, settings: TriggerSettings, metrics: Metrics) -> None:
        self._node, tree = node, node.tree
        self.ties = Ties(tree, node.node_uri)
        ground = Ground(tree, node.committer, node.journals, node.clock, node.registrations, node.touch)
        self._durable = durable = Durable(ground, reactor, metrics, self.ties.concerns, self._exists, settings.workers)
        self.recorder = durable.recorder
        self._holds = Holds(reactor, node.clock, durable.keeper)
        self.ties.on_gone = self._holds.gone
        means = Means(reactor, node.requester, node.committer, node.clock, node.node_uri)
        self._engine = Engine(Around(tree, self.ties, means, node.current, self.recorder, self._holds))
        self._trying = Trying(self._engine, self.recorder, tree, node.clock)
        durable.feed.handler, durable.away.again = self._engine.handle, self._engine.again
        self._engine.away, self._engine.takes, self._engine.add = durable.away.wait, durable.away.takes, durable.feed.add
        self._ticking = Ticking(reactor, node.clock, tree, node.committer, metrics)
        self.heard = durable.away.heard
        self._begun = False

    def handle(self, request: Request) -> Response | Deferred[Response]:
        """The answer to a request at or below `Operations`. Raises, or fails with, a `Fault`."""
        path = request.path
        depth = len(subject_of(path) or ()) + 2
        operation, below = path[:depth], path[depth:]
        if below == (EVALUATE,):
            return self._evaluate(request, operation)
        if below and below[0] in TOLD:
            return told(self.recorder, self._operation(operation).key, below, request)
        return execute(self._node.committer, edit.decide(self._node.rules, self._node.tree, request, self._warnings))

    def shown(self, resource: Resource) -> Mapping[str, object]:
        """What is shown of an operation beside what stands in the tree."""
        shown = self.recorder.shown(path_text(resource.path))
        warnings = self._warnings(resource.path, resource.attributes)
        return {**shown, "warnings": warnings} if warnings else shown

    def restore(self) -> Deferred[None]:
        """Read what is not done of the time before the last stop, and go on with it from then on."""
        return self._durable.restore().addCallback(lambda _: self._begin())

    def stopService(self) -> Deferred[None]:
        """Begin nothing any more; what is under way is cut short and is known after the next start."""
        super().stopService()
        if self._begun:
            self._ticking.stop()
            self._holds.stop()
        self._begun = False
        return self._durable.stop()

    def _begin(self) -> None:
        if not self.running or self._begun:
            return
        self._begun = True
        self._holds.restore(lambda prefix: list(self._durable.keeper.log.below(prefix)))
        self._holds.start()
        self._durable.start()
        self._ticking.start()

    def _exists(self, key: str) -> bool:
        """Whether an operation is there to have records: one that stands elsewhere is somebody else's to know."""
        return not key.startswith("/") or self._node.tree.find(tuple(key[1:].split("/"))) is not None

    def _warnings(self, path: Path, document: Mapping[str, object]) -> list[str]:
        """What the writer of an operation should know."""
        operation = operation_of(self._node.node_uri + path_uri(path), document, NOBODY, path)
        subject = subject_of(path) or ()
        circle = circle_of(operation, subject, self.ties.here, self._node.own)
        return [warning(circle, subject)] if circle else []

    def _evaluate(self, request: Request, path: Path) -> Deferred[Response]:
        if request.method is not Method.POST:
            raise MethodNotAllowed(request.method.value, path_text(request.path), ("POST",))
        return self._trying.answer(request, self._operation(path), subject_of(path) or ())

    def _operation(self, path: Path) -> Operation:
        resource = self._node.tree.get(path)
        if resource.type != OPERATION_TYPE:
            raise NoSuchResource(path_text(path))
        return self.ties.operation(resource)
