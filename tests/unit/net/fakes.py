"""A reactor of which only reading is real, and a receiver that keeps what it got."""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from zope.interface import implementer

from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr

PATIENCE_MS = 2000
"""Local datagrams arrive within the call that sends them; so long a wait means that one will not come."""

MOST_ROUNDS = 10_000


class ReadingReactor(Clock):
    """Time is a `Clock`'s; sockets are read when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[IReadDescriptor, None] = {}
        self.rounds = 0

    def addReader(self, reader: IReadDescriptor) -> None:  # noqa: N802 - Twisted's name
        self.readers[reader] = None

    def removeReader(self, reader: IReadDescriptor) -> None:  # noqa: N802 - Twisted's name
        self.readers.pop(reader, None)

    def read_once(self, wait_ms: int = 0) -> bool:
        """One round as a reactor makes it: calls that are due, `doRead` of each socket that can be read. False where there was none."""
        due = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
        self.advance(0)
        poll = select.poll()
        by_number = {reader.fileno(): reader for reader in self.readers}
        for number in by_number:
            poll.register(number, select.POLLIN)
        ready = poll.poll(0 if due else wait_ms)
        for number, _ in ready:
            if by_number[number] in self.readers:
                by_number[number].doRead()
        self.rounds += 1
        return due or bool(ready)

    def read_until(self, reached: Callable[[], bool]) -> None:
        """Read until something holds, or nothing more comes."""
        for _ in range(MOST_ROUNDS):
            if reached() or not self.read_once(PATIENCE_MS):
                return

    def read_all(self) -> None:
        """Read what is there."""
        for _ in range(MOST_ROUNDS):
            if not self.read_once():
                return


@dataclass
@implementer(IDatagramReceiver)
class Received:
    """Keeps what it is given; `raises` is raised by each call, `then` called before."""

    datagrams: list[tuple[bytes, Sockaddr, str, int]] = field(default_factory=list)
    raises: Exception | None = None
    then: Callable[[], object] | None = None

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        self.datagrams.append((data, source, destination, interface))
        if self.then is not None:
            self.then()
        if self.raises is not None:
            raise self.raises

    @property
    def payloads(self) -> list[bytes]:
        return [data for data, _, _, _ in self.datagrams]
