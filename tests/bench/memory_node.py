"""A node whose store only remembers: `python -m tests.bench.memory_node --config FILE`. What durable writes are compared with."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from m2mapp.config import Settings, load
from m2mapp.model.metrics import Metrics
from m2mapp.node.build import make_node
from m2mapp.store.committer import Committer
from m2mapp.store.memory import MemoryDatabase
from m2mapp.tree.tree import Tree
from m2mapp.wiring import system_world


class _Remembering(Service):
    """The real committer, on a database that is in memory only."""

    def __init__(self, database: MemoryDatabase, committer: Committer) -> None:
        self._database, self._committer = database, committer

    def startService(self) -> None:
        super().startService()
        self._database.open()
        self._committer.start()


def main(file: str) -> None:
    """Run it until it is ended."""
    world, _ = system_world()

    def run_at_once(call: Callable[[], object]) -> Deferred[object]:
        return succeed(call())

    def open_store(settings: Settings, tree: Tree, metrics: Metrics) -> tuple[Service, Committer]:
        Path(settings.node.state_dir).mkdir(parents=True, exist_ok=True)
        database = MemoryDatabase(random.Random(1))
        database.open()
        committer = Committer(tree, database, world.clock, world.reactor, run_at_once, metrics)  # type: ignore[arg-type]
        return _Remembering(database, committer), committer

    node = make_node(load(file), replace(world, open_store=open_store))
    reactor.callWhenRunning(node.privilegedStartService)
    reactor.callWhenRunning(node.startService)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[-1])
