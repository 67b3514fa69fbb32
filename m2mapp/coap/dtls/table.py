"""The bounded table of a port's sessions: which there are, which must go.

Responsible for that alone; who is told, and when, is `port`'s. Three rules: a handshake pushes out only handshakes; a session with a peer
that showed no certificate pushes out none with one that did; where one host has too many, one of its own goes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

from m2mapp.coap.parameters import Limits
from m2mapp.net.interfaces import Sockaddr

_BURST_S: Final = 2.0
_PACED_HOSTS: Final = 4_096
Host = tuple[str, int]


class Entry(Protocol):
    """What the table needs to know of a session."""

    remote: Sockaddr
    certified: bool
    used_at: float


_Entry = TypeVar("_Entry", bound=Entry)


def host_of(remote: Sockaddr) -> Host:
    """The host of an address: with its zone, without its port."""
    return remote[0], remote[3] if len(remote) > 2 else 0  # noqa: PLR2004 - an IPv6 address has a zone


class Pace:
    """How fast hosts may begin handshakes: each `per_s` in a second, and twice that at once. Who asks too fast is not remembered longer."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._next: OrderedDict[Host, float] = OrderedDict()

    def __len__(self) -> int:
        """How many hosts are remembered."""
        return len(self._next)

    def may(self, host: Host, now_s: float) -> bool:
        """Whether a host may begin one now; then it has."""
        at = max(self._next.get(host, 0.0), now_s - _BURST_S)
        if at > now_s:
            return False
        self._next[host] = at + 1 / self._per_s
        self._next.move_to_end(host)
        if len(self._next) > _PACED_HOSTS:
            self._next.popitem(last=False)
        return True


class _Group(Generic[_Entry]):
    """Entries by address, the one used longest ago first, and how many each host has."""

    def __init__(self) -> None:
        self.entries: OrderedDict[Sockaddr, _Entry] = OrderedDict()
        self.hosts: dict[Host, int] = {}

    def add(self, entry: _Entry) -> None:
        self.entries[entry.remote] = entry
        host = host_of(entry.remote)
        self.hosts[host] = self.hosts.get(host, 0) + 1

    def remove(self, entry: _Entry) -> bool:
        if self.entries.get(entry.remote) is not entry:
            return False
        del self.entries[entry.remote]
        host = host_of(entry.remote)
        self.hosts[host] -= 1
        if not self.hosts[host]:
            del self.hosts[host]
        return True

    def oldest(self, host: Host | None = None) -> _Entry | None:
        return next((entry for entry in self.entries.values() if host is None or host_of(entry.remote) == host), None)


class SessionTable(Generic[_Entry]):
    """Handshakes under way and established sessions, each by the peer's address; one address may have one of either."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._handshakes: _Group[_Entry] = _Group()
        self._anonymous: _Group[_Entry] = _Group()
        self._certified: _Group[_Entry] = _Group()

    @property
    def handshakes(self) -> int:
        """How many handshakes are under way."""
        return len(self._handshakes.entries)

    def __len__(self) -> int:
        """How many sessions are established."""
        return len(self._anonymous.entries) + len(self._certified.entries)

    def handshake(self, remote: Sockaddr) -> _Entry | None:
        """The handshake that is under way with an address."""
        return self._handshakes.entries.get(remote)

    def established(self, remote: Sockaddr) -> _Entry | None:
        """The session that is established with an address."""
        return self._anonymous.entries.get(remote) or self._certified.entries.get(remote)

    def all(self) -> list[_Entry]:
        """Every handshake and session."""
        groups = (self._handshakes, self._anonymous, self._certified)
        return [entry for group in groups for entry in group.entries.values()]

    def begin(self, entry: _Entry) -> list[_Entry]:
        """A handshake begins. Those that must go for it, of the same kind: the host's oldest, or the oldest of all; removed already."""
        gone = []
        group, host = self._handshakes, host_of(entry.remote)
        before = group.entries.get(entry.remote)
        if before is None and group.hosts.get(host, 0) >= self._limits.handshakes_per_host:
            before = group.oldest(host)
        if before is None and len(group.entries) >= self._limits.handshakes:
            before = group.oldest()
        if before is not None:
            group.remove(before)
            gone.append(before)
        group.add(entry)
        return gone

    def establish(self, entry: _Entry) -> tuple[bool, list[_Entry]]:
        """A handshake is done. Whether there is room for its session, and those that must go for it; removed already.

        What was established with the same address goes in any case (RFC 6347, section 4.2.8).
        """
        self._handshakes.remove(entry)
        host = host_of(entry.remote)
        before = self.established(entry.remote)
        if before is None:
            own = self._anonymous.hosts.get(host, 0) + self._certified.hosts.get(host, 0)
            if own >= self._limits.sessions_per_host:
                before = self._victim(entry, host)
            elif len(self) >= self._limits.sessions:
                before = self._victim(entry, None)
            else:
                (self._certified if entry.certified else self._anonymous).add(entry)
                return True, []
        if before is None:
            return False, []
        self.remove(before)
        (self._certified if entry.certified else self._anonymous).add(entry)
        return True, [before]

    def remove(self, entry: _Entry) -> None:
        """It has ended. One that is not there is no error."""
        self._handshakes.remove(entry)
        self._anonymous.remove(entry)
        self._certified.remove(entry)

    def used(self, entry: _Entry, now_s: float) -> None:
        """Something genuine came by an established session, or goes out by it."""
        entry.used_at = now_s
        group = self._certified if entry.certified else self._anonymous
        group.entries.move_to_end(entry.remote)

    def idle_since(self) -> float | None:
        """When the established session that is idle longest was used; None where there is none."""
        return min((entry.used_at for entry in (self._anonymous.oldest(), self._certified.oldest()) if entry is not None), default=None)

    def unused(self, for_s: float, now_s: float) -> list[_Entry]:
        """The established sessions that nothing used for so long."""
        found = []
        for group in (self._anonymous, self._certified):
            for entry in group.entries.values():
                if entry.used_at + for_s > now_s:
                    break
                found.append(entry)
        return found

    def _victim(self, entry: _Entry, host: Host | None) -> _Entry | None:
        return self._anonymous.oldest(host) or (self._certified.oldest(host) if entry.certified else None)
