"""Many messages of many sources to one CoAP server over IPv4 loopback: honest requests, a window of them under way.

Responsible for sending and counting. Not responsible for the server, nor for what is expected of it: a test holds its memory against a
limit, a benchmark tells its pauses.
"""

from __future__ import annotations

import resource
import select
import socket
import struct
import time
from dataclasses import dataclass

_WINDOW = 64
_PATIENCE_S = 10.0
_PER_NET = 250
_CON_GET, _NON_GET, _CON_PUT = (0x44, 1, b""), (0x54, 1, b""), (0x44, 3, b"\x10\xff21.5")
_MIX = (*[_CON_GET] * 88, *[_NON_GET] * 10, *[_CON_PUT] * 2)
"""Of a hundred requests: confirmable GETs, non-confirmable ones, and PUTs, which the server has to write to disk."""
_PATH = b"\xbbtemperature"


@dataclass(frozen=True, slots=True)
class Flooded:
    """What became of it: answers, requests without one, seconds in all, and the longest time without any answer in seconds."""

    answers: int
    lost: int
    seconds: float
    longest_gap_s: float


class Flood:
    """Sockets of many source addresses, 127.1.0.1 and on. Use it in a `with`, and with a limit of open files that is high enough."""

    def __init__(self, address: tuple[str, int], sources: int) -> None:
        """Raises `OSError` where so many sockets cannot be opened."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._free: list[int] = []
        self._sent = 0
        for number in range(sources):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets[one.fileno()] = one
            one.bind((f"127.1.{number // _PER_NET}.{number % _PER_NET + 1}", 0))
            one.connect(address)
            self._poller.register(one, select.EPOLLIN)
        self._free = list(self._sockets)

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._poller.close()
        for one in self._sockets.values():
            one.close()

    def run(self, count: int) -> Flooded:
        """Send so many requests, each source's next when its last was answered, in turn."""
        answers = lost = 0
        longest = 0.0
        waiting: set[int] = set()
        began = heard = time.monotonic()
        while answers + lost < count:
            while len(waiting) < _WINDOW and answers + lost + len(waiting) < count:
                waiting.add(self._send())
            ready = self._poller.poll(0.05)
            now = time.monotonic()
            for number, _ in ready:
                self._sockets[number].recv(2048)
                if number in waiting:
                    waiting.discard(number)
                    self._free.append(number)
                    answers += 1
            if ready:
                longest, heard = max(longest, now - heard), now
            elif now - heard > _PATIENCE_S:
                lost += len(waiting)
                self._free += waiting
                waiting.clear()
                heard = now
        return Flooded(answers, lost, time.monotonic() - began, longest)

    def _send(self) -> int:
        """The next request; the number of its socket."""
        number = self._free.pop(0)
        first, code, rest = _MIX[self._sent * 37 % len(_MIX)]
        self._sent += 1
        head = struct.pack("!BBHI", first, code, self._sent // len(self._sockets) & 0xFFFF, self._sent & 0xFFFFFFFF)
        self._sockets[number].send(head + _PATH + rest)
        return number


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use (RSS)."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as stat:
        return int(stat.read().split()[1]) * resource.getpagesize()
