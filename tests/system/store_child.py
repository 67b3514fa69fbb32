"""A program that writes to a store as fast as it is answered, and says on standard output what was answered: to be killed.

`python -m tests.system.store_child STATE_DIR MODE`. Every line is one JSON object.

`writes`: sixteen writers, each from where its counter stands. A unit writes `/pair/<writer>/left` and `/right` with one content, and an
entry to the journal `log`; `{"writer": 3, "number": 17}` says that 17 was answered. `check`: `{"pairs": ..., "log": ...}` as loaded, and
ends. `fill`: writes until it is refused, then says what becomes of further writes until its input ends, then removes all and writes again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReactorTime
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from m2mapp.model.errors import Fault
from m2mapp.model.interfaces import IClock
from m2mapp.model.metrics import Metrics
from m2mapp.store.service import StoreService
from m2mapp.store.settings import StoreSettings
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Append, Remove, Unit, Write

reactor: Any = _reactor
WRITERS = 16
SETTINGS = StoreSettings(wal_bytes=256 * 1024, reserve_bytes=512 * 1024)


@implementer(IClock)
class FixedClock:
    def now_ms(self) -> int:
        return 1_800_000_000_000


def say(**what: object) -> None:
    """One line on standard output, at once."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Child:
    """One store in one process."""

    def __init__(self, state_dir: Path) -> None:
        self.tree = Tree(lambda _type: False, lambda error: say(error=str(error)))
        self.store = StoreService(state_dir, self.tree, FixedClock(), IReactorTime(reactor), Metrics(), SETTINGS)
        self.store.open()

    async def run(self, mode: str) -> None:
        """Do what the mode says."""
        self.store.startService()
        if mode == "check":
            await self.check()
        elif mode == "fill":
            await self.fill()
        else:
            await self.write()
        await self.store.stopService()

    async def check(self) -> None:
        """What was loaded."""
        pairs: dict[str, dict[str, int]] = {}
        for resource in self.tree.walk(("pair",)):
            if resource.content is not None:
                pairs.setdefault(resource.path[1], {})[resource.path[2]] = int(resource.content)
        log: dict[str, int] = {}
        after = 0
        while entries := await self.store.committer.read_journal("log", after, 1000):
            log.update({str(entry.body["writer"]): int(str(entry.body["number"])) for entry in entries})
            after = entries[-1].number
        say(pairs=pairs, log=log, last=self.tree.committed_number)

    async def write(self) -> None:
        """Write for ever."""
        for writer in range(WRITERS):
            Deferred.fromCoroutine(self.write_one(writer)).addErrback(lambda failure: say(error=str(failure)))
        say(started=True)
        await Deferred()

    async def write_one(self, writer: int) -> None:
        """One writer: its contents count upwards."""
        left = self.tree.find(("pair", str(writer), "left"))
        number = 0 if left is None or left.content is None else int(left.content)
        while True:
            number += 1
            writes = [Write(("pair", str(writer), side), content=str(number).encode()) for side in ("left", "right")]
            # A third resource comes and goes, with pages of the file.
            extra = ("extra", str(writer))
            third = Remove(extra) if number % 5 == 0 else Write(extra, content=bytes(200 * (number % 40)))
            await self.store.committer.commit(Unit((writes[0], third, writes[1]), (Append("log", {"writer": writer, "number": number}),)))
            say(writer=writer, number=number)

    async def fill(self) -> None:
        """Write until the disk is full; then go on trying."""
        number = 0
        while True:
            try:
                await self.store.committer.commit(Unit((Write(("fill", f"{number:06}"), content=bytes(20_000)),)))
                number += 1
            except Fault as fault:
                say(refused=fault.kind, written=number)
                break
        ended: Deferred[None] = Deferred()
        StandardIO(Input(ended))
        while not ended.called:
            await deferLater(reactor, 0.2, lambda: None)
            say(wrote=await self.attempt(Unit((Write(("after",), content=b"x"),))), readable=self.readable(number))
        for first in range(0, number, 50):
            removed = await self.attempt(Unit(tuple(Remove(("fill", f"{name:06}")) for name in range(first, min(first + 50, number)))))
            say(removed=removed)
        outcome = ""
        for _ in range(50):
            outcome = await self.attempt(Unit((Write(("again",), content=bytes(100_000)),)))
            if outcome == "done":
                break
            await deferLater(reactor, 0.2, lambda: None)
        say(again=outcome)

    def readable(self, number: int) -> bool:
        """Whether everything that was answered can be read."""
        return all(self.tree.find(("fill", f"{name:06}")) is not None for name in range(number))

    async def attempt(self, unit: Unit) -> str:
        """How a unit ends: `done`, or the kind of its fault."""
        try:
            await self.store.committer.commit(unit)
        except Fault as fault:
            return fault.kind
        return "done"


class Input(LineReceiver):
    """Tells when standard input ends."""

    def __init__(self, ended: Deferred[None]) -> None:
        self._ended = ended

    def connectionLost(self, reason: object = None) -> None:
        self._ended.callback(None)


def main() -> None:
    """Run until done."""
    child = Child(Path(sys.argv[1]))

    def finish(failure: object) -> None:
        if failure is not None:
            say(error=str(failure))
        try:
            reactor.stop()
        except ReactorNotRunning:
            return

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(child.run(sys.argv[2])).addBoth(finish))
    reactor.run()


if __name__ == "__main__":
    main()
