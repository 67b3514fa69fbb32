"""What operations cost: `python -m tests.bench.operations [folder]`; the folder is on the disk that writes are flushed to.

From the answer of a write to its operation's request, with few and with many operations; what the write itself costs; evaluations a second.
The tree, the store and the engine are the real ones; what is sent goes to a sender that notes the time and answers at once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList, succeed
from zope.interface import implementer

from m2mapp.model.interfaces import IClock, IRequester
from m2mapp.model.messages import Answer, Method, Outgoing
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NODE, Principal
from m2mapp.store.committer import Committer
from m2mapp.store.service import StoreService
from m2mapp.tree.registrations import Registrations
from m2mapp.tree.resources import ResourceRules
from m2mapp.tree.service import execute
from m2mapp.tree.tree import Tree
from m2mapp.tree.types import Types
from m2mapp.tree.unit import Unit, Write
from m2mapp.triggers.author import WRITTEN_BY, kept_author
from m2mapp.triggers.inline import members
from m2mapp.triggers.service import TriggerNode, TriggerService
from m2mapp.triggers.settings import TriggerSettings
from m2mapp.triggers.types import operation_types
from tests.bench.gateway import Gateway
from tests.bench.store import WallClock, spread
from tests.unit.fakes import ask

reactor: Any = _reactor
SAMPLES = 500
MANY, HERE = 10_000, 1_000
EVALUATIONS, ROUNDS = 2_000, 7
SUBJECT = "/temperature"
_WRITERS = 32
_PAUSE_S = 0.005


@implementer(IRequester)
class Noting:
    """Answers at once, and notes when it was asked."""

    def __init__(self) -> None:
        self.sent_s = 0.0

    def send(self, outgoing: Outgoing) -> Deferred[Answer]:
        self.sent_s = time.perf_counter()
        return succeed(Answer("2.04"))


@dataclass(slots=True)
class Rig:
    """A tree on a disk, with operations or without."""

    folder: Path
    with_operations: bool
    requester: Noting = field(default_factory=Noting)
    clock: IClock = field(default_factory=WallClock)
    rules: ResourceRules = field(init=False)
    committer: Committer = field(init=False)
    stop: Callable[[], Deferred[Any]] = field(init=False)

    async def start(self) -> None:
        types = Types(operation_types(lambda _: {}), members()) if self.with_operations else Types()
        tree = Tree(types.derived, lambda error: print(error, file=sys.stderr))
        metrics = Metrics()
        store = StoreService(self.folder, tree, self.clock, reactor, metrics)
        store.open()
        store.startService()
        self.committer, self.rules, self.stop = store.committer, ResourceRules(tree, types), store.stopService
        if not self.with_operations:
            return

        def current(principal: Principal) -> Principal:
            return principal

        node = TriggerNode(
            tree=tree,
            rules=self.rules,
            committer=self.committer,
            journals=self.committer,
            clock=self.clock,
            requester=self.requester,
            registrations=Registrations(tree),
            touch=self.committer.touch,
            node_uri="http://gscl1",
            own=lambda _: None,
            current=current,
        )
        service = TriggerService(reactor, node, TriggerSettings(), metrics)
        service.startService()
        await service.restore()
        self.stop = lambda: service.stopService().addCallback(lambda _: store.stopService())

    async def operations(self, subjects: list[str], each: int, rule: str, priority: int = 0) -> None:
        """So many operations of each of these subjects, with a rule into which their number is put."""
        given = {
            "priority": 0,
            "objectResource": "http://gscl2/airCondition",
            "method": "update",
            "input": "ON",
            WRITTEN_BY: kept_author(NODE),
        }
        for subject in subjects:
            path = tuple(subject[1:].split("/"))
            writes: list[Write] = [Write(path, content=b"0", media_type="text/plain")]
            for number in range(each):
                document = {**given, "rule": rule.format(number), "priority": priority}
                writes.append(Write((*path, "Operations", f"{priority}.{number}"), "operation", document))
            for first in range(0, len(writes), 200):
                await self.committer.commit(Unit(tuple(writes[first : first + 200])))

    async def write(self, path: str, content: bytes) -> float:
        """Write a content; when it was answered."""
        done = execute(self.committer, self.rules.decide(ask(Method.PUT, path, content, "text/plain")))
        if isinstance(done, Deferred):
            await done
        return time.perf_counter()


def pause() -> Deferred[None]:
    """The next turn but one of the reactor: all that a write set off and that needs no disk is done."""
    later: Deferred[None] = Deferred()
    reactor.callLater(_PAUSE_S, later.callback, None)
    return later


async def leaving(rig: Rig) -> list[float]:
    """How long after the answer of a write its operation's request left, for each of some writes."""
    found = []
    for number in range(SAMPLES):
        rig.requester.sent_s = 0.0
        answered = await rig.write(SUBJECT, b"%d" % (31 + number % 9))
        while not rig.requester.sent_s:
            await pause()
        found.append(max(0.0, rig.requester.sent_s - answered))
        await pause()
    return found


async def answering(cases: Sequence[tuple[Rig, str]]) -> list[float]:
    """How long a write takes until it is answered, in each of the cases, in turn; the median of each, in milliseconds."""
    found: list[list[float]] = [[] for _ in cases]
    for number in range(SAMPLES):
        for took, (rig, path) in zip(found, cases, strict=True):
            began = time.perf_counter()
            took.append(await rig.write(path, b"%d" % (number % 30)) - began)
            await pause()
    return [spread(took)[0] for took in found]


async def per_second(rig: Rig, path: str) -> float:
    """Writes a second of one resource, several under way at a time, until all that they set off is evaluated."""
    left = EVALUATIONS
    began = time.perf_counter()

    async def writer() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await rig.write(path, b"%d" % (left % 30))

    await DeferredList([Deferred.fromCoroutine(writer()) for _ in range(_WRITERS)], fireOnOneErrback=True)
    await pause()
    return EVALUATIONS / (time.perf_counter() - began)


async def cpu_us(rig: Rig, path: str) -> float:
    """Processor time of one write, in microseconds, all that it sets off included."""
    began = time.process_time()
    await per_second(rig, path)
    return (time.process_time() - began) / EVALUATIONS * 1e6


async def _leaving_row(folder: Path, what: str, others: int, here: int) -> str:
    rig = Rig(folder, with_operations=True)
    await rig.start()
    await rig.operations([SUBJECT], here, "value > 1000{}")
    await rig.operations([SUBJECT], 1, "value > 30", priority=-1)
    await rig.operations([f"/s{number}" for number in range(others // 10)], 10, "value > {}")
    median, late, most = spread(await leaving(rig))
    await rig.stop()
    return f"| {what} | {median:.2f} | {late:.2f} | {most:.2f} |"


async def report(folder: Path) -> str:
    """All tables."""
    lines = ["| from a write's answer to its request, ms | median | 99 % | most |", "|---|---:|---:|---:|"]
    lines.append(await _leaving_row(folder / "a", "one operation", 0, 0))
    lines.append(await _leaving_row(folder / "b", f"{MANY:,} on other subjects", MANY, 0))
    lines.append(await _leaving_row(folder / "c", f"{HERE:,} on this one that do not match, of higher priority", 0, HERE))
    plain, rig = Rig(folder / "d", with_operations=False), Rig(folder / "e", with_operations=True)
    await plain.start()
    await rig.start()
    await rig.operations([f"/s{number}" for number in range(MANY // 10)], 10, "value > {}")
    await rig.operations([SUBJECT], 1, "value > 100")
    for one in (plain, rig):
        await one.write("/humidity", b"0")
    await plain.write(SUBJECT, b"0")
    cases = ((plain, "/humidity"), (rig, "/humidity"), (rig, SUBJECT))
    rows = [[await cpu_us(one, path) for one, path in cases] for _ in range(ROUNDS)]
    cpu = [min(row[place] for row in rows) for place in range(3)]
    taken = await answering(cases)
    rate = max([await per_second(rig, SUBJECT) for _ in range(ROUNDS)])
    lines += ["", "| a write | until its answer, ms, median | of the first | processor, all it sets off, us | of the first |"]
    lines.append("|---|---:|---:|---:|---:|")
    whats = (
        "a node without operations",
        f"a resource without operations, {MANY:,} on others",
        "a subject, one operation that does not match",
    )
    for what, ms, us in zip(whats, taken, cpu, strict=True):
        lines.append(f"| {what} | {ms:.2f} | {ms / taken[0]:.2f} | {us:.0f} | {us / cpu[0]:.2f} |")
    lines += ["", f"Writes that are each evaluated, flushes shared by {_WRITERS} writers: {rate:,.0f} a second."]
    await plain.stop()
    await rig.stop()
    return "\n".join(lines)


def over_http(folder: Path) -> str:
    """What a writer by HTTP waits for, at a whole gateway: a resource without operations and a subject in turn."""
    paths = ("/humidity", SUBJECT)
    found: dict[str, list[float]] = {path: [] for path in paths}
    with Gateway(folder, tables="[triggers]\n") as gateway:
        for path in paths:
            gateway.ask("PUT", path, 0)
        given = {"name": "cool", "rule": "value > 100", "objectResource": "/fan", "method": "update", "input": "ON"}
        gateway.ask("POST", f"{SUBJECT}/Operations", given)
        for number in range(SAMPLES):
            for path in paths:
                began = time.perf_counter()
                gateway.ask("PUT", path, number % 30)
                found[path].append(time.perf_counter() - began)
                time.sleep(_PAUSE_S)
    without, subject = (spread(found[path])[0] for path in paths)
    return f"A write over HTTP, median: {without:.2f} ms, of a subject {subject:.2f} ms ({subject / without:.2f})."


def main(folder: Path) -> None:
    """Print the report."""
    whole = over_http(folder / "f")

    def finish(result: object) -> None:
        print(f"{result}\n\n{whole}")
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(report(folder)).addBoth(finish))
    reactor.run()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        main(Path(scratch))
