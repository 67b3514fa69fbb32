"""The sockets that are bound to groups, one for all ports of this process that joined the same group on the same interface.

Thousands of nodes in one process are members of the same few groups. With a socket each, every node takes a descriptor for every group,
and the kernel copies each datagram as often; here it comes once and is handed to each port's receiver. What a socket loses, all its
members have lost, and each node counts it as its own. Not responsible for opening and reading sockets: `net.udp`, `net.reading`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from m2mapp.model.metrics import Counter, Metrics
from m2mapp.net.counts import Counts, Seconds
from m2mapp.net.interfaces import IDatagramReceiver, Sockaddr
from m2mapp.net.reading import Reader

_log = Logger()

Key = tuple[int, bytes, int, int]
"""IP family, group, interface, UDP port."""


class Membership:
    """One port's part in the socket of a group. `reader` reads it, for all."""

    __slots__ = ("_all", "counts", "reader", "receiver")

    def __init__(self, everyone: Members, reader: Reader, receiver: IDatagramReceiver, counts: Counts) -> None:
        self._all, self.reader, self.receiver, self.counts = everyone, reader, receiver, counts

    def close(self) -> None:
        """Be handed nothing more; the last one out closes the socket. Again: nothing."""
        self._all.leave(self)


@implementer(IDatagramReceiver)
class Members:
    """Those that are in one group by one socket: the receiver of its datagrams, which hands each member its copy."""

    def __init__(self, forget: Callable[[], object]) -> None:
        """`forget` is called when the last one has left."""
        self._forget = forget
        self.members: dict[Membership, None] = {}

    def datagram_received(self, data: bytes, source: Sockaddr, destination: str, interface: int) -> None:
        """Hand it to each in turn; one that raises keeps none from the others. Who has left meanwhile gets none."""
        for member in list(self.members):
            if member not in self.members:
                continue
            member.counts.received.add()
            try:
                member.receiver.datagram_received(data, source, destination, interface)
            except Exception:  # noqa: BLE001 - as for a port's own socket: whatever it is, the others go on
                member.counts.raised.add()
                if member.counts.may_log("receiver"):
                    _log.failure("a datagram from {source} was not handled", source=source)

    def leave(self, member: Membership) -> None:
        """See `Membership.close`."""
        if member not in self.members:
            return
        del self.members[member]
        if not self.members:
            self._forget()
            member.reader.close()


class _Each(Counter):
    """Counts at each member what befell the socket that they share."""

    __slots__ = ("_everyone", "_name")

    def __init__(self, everyone: Members, name: str) -> None:
        super().__init__()
        self._everyone, self._name = everyone, name

    def add(self, amount: int = 1) -> None:
        """Count so many more at each."""
        for member in self._everyone.members:
            counter: Counter = getattr(member.counts, self._name)
            counter.add(amount)


class _CountsOfAll(Counts):
    """What the reader of a shared socket counts. Datagrams that were received are counted where they are handed on."""

    def __init__(self, clock: Seconds, everyone: Members) -> None:
        super().__init__(clock, Metrics())
        self.lost, self.unwanted, self.receive_errors = (_Each(everyone, name) for name in ("lost", "unwanted", "receive_errors"))


class GroupSockets:
    """The sockets of this process that are bound to groups. `clock` is that of what is logged."""

    def __init__(self, clock: Seconds) -> None:
        self.clock = clock
        self._open: dict[Key, tuple[Members, Reader]] = {}

    def join(
        self, key: Key, receiver: IDatagramReceiver, counts: Counts, open_reader: Callable[[IDatagramReceiver, Counts], Reader]
    ) -> Membership:
        """Be handed what the socket of that group gets; `open_reader` opens and joins it, where nobody has. Raises `OSError`."""
        found = self._open.get(key)
        if found is None:
            everyone = Members(lambda: self._open.pop(key))
            found = self._open[key] = everyone, open_reader(everyone, _CountsOfAll(self.clock, everyone))
        everyone, reader = found
        member = Membership(everyone, reader, receiver, counts)
        everyone.members[member] = None
        return member
