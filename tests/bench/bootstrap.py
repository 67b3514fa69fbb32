"""LwM2M bootstrap sessions a second: `python -m tests.bench.bootstrap`, about 20 seconds.

A real gateway on loopback, without security, with its records flushed to disk; clients that answer at once, a window of them at a time.
All is bounded and ends by itself.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from dataclasses import dataclass

from m2mapp.coap import things
from m2mapp.coap.message import Message, build, parse
from tests.bench.coap_get import processor_s
from tests.bench.gateway import Gateway
from tests.bench.report import Row, table

SESSIONS = 2_000
WINDOW = 48
PATIENCE_S = 5.0
_PLAN = {"default": True, "servers": [{"shortId": 1, "uri": "coap://[2001:db8::1]:5683"}]}
_TABLES = "[bootstrap]\n"
_WANTED_PER_S = 200


@dataclass(slots=True)
class Device:
    """One socket, and the session that it has under way. `began`: when its request went out."""

    socket: socket.socket
    began: float = 0.0
    mid: int = 0

    def begin(self, name: str) -> None:
        """Ask to be bootstrapped under a name."""
        self.began, self.mid = time.monotonic(), (self.mid + 1) & 0xFFFF
        options = ((things.URI_PATH, b"bs"), (things.URI_QUERY, f"ep={name}".encode()))
        self.socket.send(build(Message(things.CON, things.POST, self.mid, b"t", options)))

    def receive(self) -> bool:
        """Answer what has come; whether that was Finish."""
        asked = parse(self.socket.recv(2048))
        if not 0 < asked.code < things.CREATED:
            if asked.mtype == things.CON:
                self.socket.send(build(Message(things.ACK, 0, asked.mid)))
            return False
        code = things.DELETED if asked.code == things.DELETE else things.CHANGED
        self.socket.send(build(Message(things.ACK, code, asked.mid, asked.token)))
        return asked.code == things.POST


def load(port: int) -> tuple[float, list[float]]:
    """Run the sessions: seconds for all, and for each that came to its end."""
    poller = select.epoll()
    devices: dict[int, Device] = {}
    for _ in range(WINDOW):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.connect(("127.0.0.1", port))
        poller.register(opened, select.EPOLLIN)
        devices[opened.fileno()] = Device(opened)
    took: list[float] = []
    began = heard = time.monotonic()
    for started, device in enumerate(devices.values()):
        device.begin(f"dev-{started}")
    started = len(devices)
    while len(took) < SESSIONS and time.monotonic() - heard < PATIENCE_S:
        for fd, _ in poller.poll(PATIENCE_S):
            heard = time.monotonic()
            if devices[fd].receive():
                took.append(heard - devices[fd].began)
                if started < SESSIONS:
                    devices[fd].begin(f"dev-{started}")
                    started += 1
    total = time.monotonic() - began
    poller.close()
    for device in devices.values():
        device.socket.close()
    return total, sorted(took)


def main() -> None:
    """Measure and print."""
    with Gateway(tables=_TABLES) as gateway:
        gateway.ask("PUT", "/bs/all", _PLAN)
        before = processor_s(gateway.process.pid)
        total, took = load(gateway.coap_port)
        used = processor_s(gateway.process.pid) - before
    note = (
        f"{len(took):,} of {SESSIONS:,} finished, {WINDOW} at a time; a session: {took[len(took) // 2] * 1000:.0f} ms in the middle, "
        f"{took[int(len(took) * 0.99)] * 1000:.0f} ms at p99; processor {used / len(took) * 1000:.2f} ms"
    )
    rate = len(took) / total
    row = Row("bootstrap sessions, no security, records flushed (1/s)", rate, "wanted", _WANTED_PER_S, rate / _WANTED_PER_S, note)
    sys.stdout.write(table([row]))


if __name__ == "__main__":
    main()
