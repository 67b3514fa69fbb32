"""A group read of 10, 100 and 1,000 members: `python -m tests.bench.group_read`.

Beside aiocoap's concurrent unicast to the same devices, and beside the least that a program can do: one datagram to the group and a bare
loop that reads the answers from its socket, finds the members by their addresses and joins the values as JSON. The gateway is a whole
process that is asked over HTTP; no leisure on any side. Of seven rounds the best counts: what else the machine does only takes away.

A socket's receive buffer decides what is lost when a thousand answers come at once. As root both have 4 MiB. The last row is for a process
without rights on a fresh machine (net.core.rmem_max 212,992), which gets twice that where it asks for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time

import aiocoap

from tests.bench.gateway import ROOT, Gateway
from tests.bench.report import Row, table
from tests.bench.responders import PORT, address

GROUP = "239.255.77.1"
SIZES = (10, 100, 1000)
ROUNDS = 7
BUFFER_BYTES = 4 << 20
FRESH_BUFFER_BYTES = 212_992
_SO_RCVBUFFORCE = 33
_FRESH = f"""
from m2mapp.net import sockets
sockets.BUFFER_BYTES = {FRESH_BUFFER_BYTES}
from twisted.scripts.twistd import run
run()
"""


def main() -> list[Row]:
    """The rows of the report."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    command = [sys.executable, "-m", "tests.bench.responders", GROUP, str(max(SIZES))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as devices:
        try:
            if devices.stdout is None or devices.stdout.readline() != b"ready\n":
                raise RuntimeError("the devices did not start")
            with Gateway() as gateway:
                _register(gateway)
                rows = [row for size in SIZES for row in _measure(gateway, size)]
            with Gateway(program=(sys.executable, "-c", _FRESH, "--nodaemon", "--pidfile=", "m2m")) as fresh:
                _register(fresh)
                return [*rows, _measure_fresh(fresh, max(SIZES))]
        finally:
            devices.kill()


def _register(gateway: Gateway) -> None:
    for index in range(max(SIZES)):
        document = {"addresses": [address(index)], "multicastEnabled": True, "fixedGroups": [GROUP]}
        gateway.ask("PUT", f"/scls/d{index}", document)


def _form(gateway: Gateway, size: int) -> None:
    members = [f"coap://{address(index)}/temp" for index in range(size)]
    gateway.ask("POST", "/groups", {"name": f"g{size}", "leisure": 0, "members": members})


def _read(gateway: Gateway, size: int) -> tuple[float, float, int]:
    """Milliseconds until the caller has the joined answer and until the last member's came, and how many datagrams were sent."""
    began = time.perf_counter()
    body = gateway.ask("GET", f"/groups/g{size}/membersContent")
    took_ms = (time.perf_counter() - began) * 1000
    answer = json.loads(body)
    if not answer["complete"]:
        raise RuntimeError(f"{size} members: silent {answer['silent'][:3]}, {answer['datagrams']}")
    return took_ms, answer["ms"], answer["datagrams"]["sent"]


def _measure(gateway: Gateway, size: int) -> list[Row]:
    _form(gateway, size)
    ours, bare, unicast = [], [], []
    for _ in range(ROUNDS):
        ours.append(_read(gateway, size))
        bare.append(_bare(size, BUFFER_BYTES))
        unicast.append(asyncio.run(_unicast(size)) * 1000)
    if max(sent for _, _, sent in ours) > 1:
        raise RuntimeError(f"{size} members: answers were lost, {[sent for _, _, sent in ours]} datagrams")
    joined, last = (min(times) for times in list(zip(*ours, strict=True))[:2])
    bare_joined, bare_last, _ = (min(times) for times in zip(*bare, strict=True))
    theirs = min(unicast)
    what = f"group read, {size} members"
    return [
        Row(f"{what} (ms, request to last answer)", last, "bare socket loop", bare_last, last / bare_last, "our time to its"),
        Row(
            f"{what} (ms, HTTP request to joined answer)", joined, "bare socket loop", bare_joined, joined / bare_joined, "our time to its"
        ),
        Row(f"{what} (ms, the same)", joined, "aiocoap, concurrent unicast", theirs, theirs / joined, "its time to ours"),
    ]


def _measure_fresh(gateway: Gateway, size: int) -> Row:
    _form(gateway, size)
    ours = [_read(gateway, size) for _ in range(ROUNDS)]
    bare = [_bare(size, None) for _ in range(ROUNDS)]
    lost, bare_lost = (
        [size - answered for answered in counts] for counts in ([size + 1 - sent for *_, sent in ours], [n for *_, n in bare])
    )
    note = f"lost of {size} answers, in each of {ROUNDS} reads: {lost} (asked again), the loop's {bare_lost} (it gives up after 0.5 s)"
    last, bare_last = (min(one[1] for one in times) for times in (ours, bare))
    what = f"group read, {size} members, the receive buffer of a fresh machine (ms, request to last answer)"
    return Row(what, last, "bare socket loop", bare_last, last / bare_last, note)


def _bare(size: int, buffer_bytes: int | None) -> tuple[float, float, int]:
    """As `_read`, but the last figure is how many answered; without `buffer_bytes` with the buffer that every socket has."""
    uris = {address(index): f"coap://{address(index)}/temp" for index in range(size)}
    token = os.urandom(8)
    values: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.5)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        if buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
        began = time.perf_counter()
        sock.sendto(b"\x58\x01\x00\x01" + token + b"\xb4temp", (GROUP, PORT))
        try:
            while len(values) < size:
                datagram, source = sock.recvfrom(2048)
                uri = uris.get(source[0])
                if uri is not None and datagram[1] == 0x45 and datagram[4:12] == token:
                    values[uri] = datagram[datagram.index(b"\xff", 12) + 1 :].decode()
        except TimeoutError:
            pass
        last_ms = (time.perf_counter() - began) * 1000
        json.dumps(values).encode()
        return (time.perf_counter() - began) * 1000, last_ms, len(values)


async def _unicast(size: int) -> float:
    context = await aiocoap.Context.create_client_context()
    try:
        requests = [aiocoap.Message(code=aiocoap.GET, uri=f"coap://{address(index)}:{PORT}/temp") for index in range(size)]
        began = time.perf_counter()
        answers = await asyncio.gather(*(context.request(request).response for request in requests))
        elapsed = time.perf_counter() - began
        if any(answer.payload != b"21.5" for answer in answers):
            raise RuntimeError("a device answered something else")
        return elapsed
    finally:
        await context.shutdown()


if __name__ == "__main__":
    sys.stdout.write(table(main()))
