"""A simulated box with a tree, a store that can be killed, fail and run full, and what of operations outlasts the process.

The engine is a stand-in (`Plant`): each subject has the operations that the test says, each of which makes one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from m2mapp.model.errors import Fault
from m2mapp.model.identifiers import Path, path_text
from m2mapp.model.metrics import Metrics
from m2mapp.net.scheduler import ProcessTime, Scheduler, SimulatedWallClock
from m2mapp.store.committer import Committer
from m2mapp.store.memory import MemoryDatabase, SlowDisk
from m2mapp.tree.paths import parse_path
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import Change, Document, Unit, Write
from m2mapp.triggers.changes import Content, SubjectChange
from m2mapp.triggers.drivers.durable import Durable
from m2mapp.triggers.drivers.ground import Ground
from m2mapp.triggers.drivers.ticking import Ticking
from m2mapp.triggers.timers import timer_type
from m2mapp.triggers.trace import Evaluation, Outcome, Sent, Step, StepKind

TARGET = "coap://d1.example.org/counter"


def subject_change(number: int = 1, content: bytes = b"1", path: str = "/t", **more: object) -> SubjectChange:
    """A change of a subject as a test needs one."""
    given: dict[str, object] = {"before": None, "at_ms": 0, **more}
    return SubjectChange(number, parse_path(path), after=Content(content, "text/plain"), **given)  # type: ignore[arg-type]


def evaluation(
    change: SubjectChange, operation: str = "/t/Operations/a", outcome: Outcome = Outcome.RAN, steps: tuple[Step, ...] = ()
) -> Evaluation:
    """An evaluation as a test needs one."""
    return Evaluation(operation, change, change.at_ms, outcome, "because", steps)


@dataclass(slots=True)
class Plant:
    """Where the requests go, which no kill of the box reaches: how often each operation was acted on for each change, in their order."""

    acted: list[tuple[str, int]] = field(default_factory=list)

    def times(self, operation: str, number: int) -> int:
        """How often an operation was acted on for a change."""
        return self.acted.count((operation, number))


@dataclass(slots=True)
class Box:
    """A box whose disk outlives its process.

    `operations`: of each subject, by name, whether it may be repeated; `act_s`: how long a request takes each way.
    """

    scheduler: Scheduler
    operations: Mapping[str, Mapping[str, bool]]
    act_s: Callable[[], float]
    workers: int = 16
    plant: Plant = field(default_factory=Plant)
    evaluated: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    database: MemoryDatabase = field(init=False)
    clock: SimulatedWallClock = field(init=False)
    time: ProcessTime | None = None
    disk: SlowDisk | None = None

    def __post_init__(self) -> None:
        self.database = MemoryDatabase(self.scheduler.generator("crash"))
        self.clock = SimulatedWallClock(self.scheduler)

    # The process.

    tree: Tree = field(init=False)
    committer: Committer = field(init=False)
    durable: Durable = field(init=False)
    ticking: Ticking = field(init=False)
    metrics: Metrics = field(init=False)

    def start(self) -> None:
        """Start the process, and wait until it hands on changes."""
        time = self.time = ProcessTime(self.scheduler)
        latency = self.scheduler.generator(f"disk {self.scheduler.seconds()}")
        self.disk = SlowDisk(time, lambda: latency.uniform(0.0005, 0.004))
        self.metrics = Metrics()
        self.tree = Tree(Types([timer_type(self.clock.now_ms)]).derived, _raise)
        self.database.open()
        resources, last = self.database.load()
        self.tree.load(resources, last)
        self.committer = Committer(self.tree, self.database, self.clock, time, self.disk.run, self.metrics)
        ground = Ground(self.tree, self.committer, self.committer, self.clock, Registrations(self.tree), self.committer.touch)
        self.durable = Durable(ground, time, self.metrics, self._concerns, lambda _: True, self.workers)
        self.durable.feed.handler = self._evaluate
        self.ticking = Ticking(time, self.clock, self.tree, self.committer, self.metrics)
        self.durable.restore().addCallback(lambda _: self._go())

    def kill(self) -> None:
        """The process dies; what was not flushed is lost, but for a random beginning of it."""
        assert self.time is not None
        assert self.disk is not None
        self.disk.crash()
        self.time.kill()
        self.database.crash()
        self.time = self.disk = None

    def stop(self) -> None:
        """Stop it in order."""
        self.ticking.stop()
        self.scheduler.run_until_fired(self.durable.stop())
        self.scheduler.run_until_fired(self.committer.stop())
        self.database.close()

    def write(self, path: str, content: bytes, cause: tuple[str, ...] = ()) -> Deferred[tuple[Change, ...]]:
        """A write of a subject; its number is in `answered` when it is."""
        write = Write(parse_path(path), content=content, media_type="text/plain")
        done = self.committer.commit(Unit((write,), cause=cause, principal="who"))
        done.addCallbacks(self._answered, self._refused)
        return done

    def run(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self.scheduler.advance(seconds)

    def runs(self, operation: str) -> list[Document]:
        """The runs that the box's records tell of, the newest first."""
        return self.scheduler.run_until_fired(self.durable.recorder.runs(operation))

    def counter(self, name: str, **labels: str) -> int:
        """The value of a counter of the process."""
        return self.metrics.counter(name, "", **labels).value

    # The engine's stand-in.

    def _go(self) -> None:
        self.durable.start()
        self.ticking.start()

    def _concerns(self, path: Path) -> bool:
        return path_text(path) in self.operations

    def _evaluate(self, change: SubjectChange, settled: frozenset[str]) -> Deferred[None]:
        self.evaluated.append(change.number)
        return Deferred.fromCoroutine(self._run_all(change, settled))

    async def _run_all(self, change: SubjectChange, settled: frozenset[str]) -> None:
        subject = path_text(change.path)
        for name, idempotent in self.operations[subject].items():
            operation = f"{subject}/Operations/{name}"
            if operation not in settled:
                await self._run(operation, change, idempotent)

    async def _run(self, operation: str, change: SubjectChange, idempotent: bool) -> None:
        steps = (Step(StepKind.REQUEST, sent=Sent("POST", TARGET)),)
        one = evaluation(change, operation, Outcome.RAN, steps)
        if not idempotent:
            try:
                await self.durable.recorder.leaving(one)
            except Fault:
                self.durable.recorder.finished(evaluation(change, operation, Outcome.FAILED, steps))
                return
        await self._wait()
        self.plant.acted.append((operation, change.number))
        await self._wait()
        self.durable.recorder.finished(one)

    def _wait(self) -> Deferred[None]:
        """The way there, or back. What is cancelled does not happen."""
        assert self.time is not None
        seconds = self.act_s()
        if not seconds:
            return succeed(None)
        later: Deferred[None] = Deferred(lambda _: call.cancel())
        call: IDelayedCall = self.time.callLater(seconds, later.callback, None)
        return later

    def _answered(self, changes: tuple[Change, ...]) -> tuple[Change, ...]:
        self.answered += [change.number for change in changes if change.after is not None and change.after.content is not None]
        return changes

    def _refused(self, failure: object) -> tuple[Change, ...]:
        fault = getattr(failure, "value", None)
        if not isinstance(fault, Fault):
            raise TypeError(fault)
        self.faults.append(fault)
        return ()


def _raise(error: Exception) -> None:
    raise error
