"""A group read of 10, 100 and 1,000 members beside aiocoap's concurrent unicast to the same devices: `python -m tests.bench.group_read`.

The gateway is a whole process that is asked over HTTP; no leisure on either side.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
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


def main() -> list[Row]:
    """The rows of the report."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    command = [sys.executable, "-m", "tests.bench.responders", GROUP, str(max(SIZES))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as devices, Gateway() as gateway:
        try:
            if devices.stdout is None or devices.stdout.readline() != b"ready\n":
                raise RuntimeError("the devices did not start")
            return _measure(gateway)
        finally:
            devices.kill()


def _measure(gateway: Gateway) -> list[Row]:
    for index in range(max(SIZES)):
        document = {"addresses": [address(index)], "multicastEnabled": True, "fixedGroups": [GROUP]}
        gateway.ask("PUT", f"/scls/d{index}", document)
    rows = []
    for size in SIZES:
        members = [f"coap://{address(index)}/temp" for index in range(size)]
        gateway.ask("POST", "/groups", {"name": f"g{size}", "leisure": 0, "members": members})
        ours, inside, theirs = [], [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = json.loads(gateway.ask("GET", f"/groups/g{size}/membersContent"))
            ours.append((time.perf_counter() - began) * 1000)
            if not answer["complete"] or answer["datagrams"]["sent"] != 1:
                raise RuntimeError(f"{size} members: silent {answer['silent'][:3]}, {answer['datagrams']}")
            inside.append(answer["ms"])
            theirs.append(asyncio.run(_unicast(size)) * 1000)
        mine, peer = statistics.median(ours), statistics.median(theirs)
        note = f"{statistics.median(inside):.1f} ms of it to the last answer; a ratio over 1 is in our favour"
        rows.append(
            Row(
                f"group read, {size} members (ms, HTTP request to joined answer)",
                mine,
                "aiocoap, concurrent unicast",
                peer,
                peer / mine,
                note,
            )
        )
    return rows


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
