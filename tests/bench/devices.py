"""Devices from power to their group: `python -m tests.bench.devices [COUNT [EACH]]`, a minute. Needs root, for network namespaces.

Real nodes on one link, EACH of them in a process (250), with addresses, bootstrap sessions, registrations and joins as any device has
them; `2000 2000` is two thousand in one process. All is bounded and ends by itself.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.bench.coap_get import processor_s
from tests.bench.gateway import memory_bytes
from tests.bench.report import Row, table
from tests.system.crowds import room_for_neighbours
from tests.system.device_crowd import DeviceCrowd
from tests.system.namespaces import skip_reason
from tests.system.nodes import Site

COUNT, EACH = 1000, 250
WANTED_S = 60.0
_PATIENCE_S = 200.0
_LOOK_S = 0.5
_REST_S, _CALM_S = 10.0, 5.0
"""How long the devices are watched at rest, and how long they are left alone before."""
_STEPS = ("leased", "bootstrapped", "registered", "joined")


def main(count: int, each: int) -> list[Row]:
    """The rows of the report: when all devices were that far, counted from when their processes were up; and what one device takes."""
    rows = []
    with room_for_neighbours(), Site() as site:
        crowd = DeviceCrowd(site, count, each)
        crowd.make_group()
        started_s = crowd.power_on()
        began = time.monotonic()
        start = _processor_ms(crowd)
        note = f"{len(crowd.pids)} processes, {start:.1f} ms of processor time each"
        rows.append(Row(f"{count} devices: start of their processes (s)", started_s, "", None, None, note))
        for step in _STEPS:
            while not crowd.reach(step) and time.monotonic() - began < _PATIENCE_S:
                time.sleep(_LOOK_S)
            there, took_s = crowd.how_many(step), time.monotonic() - began
            peer, limit_s = ("limit", WANTED_S) if step == "joined" else ("", None)
            ratio = None if limit_s is None else limit_s / took_s
            rows.append(Row(f"{count} devices: all {step} (s)", took_s, peer, limit_s, ratio, f"{there} of {count}"))
        spent = {node.name: processor_s(node.process.pid) for node in (crowd.gateway, crowd.server)}
        rows += (Row(f"{count} devices: processor time of {name} (s)", spent_s, "", None, None) for name, spent_s in spent.items())
        rows += _each(crowd, start)
        silent = [status for status in crowd.read_group().values() if status != "2.05"]
        note = f"in place of 2.05: {', '.join(sorted(set(silent)))}" if silent else ""
        rows.append(Row(f"{count} devices: silent in a read of their group", len(silent), "limit", 0, None, note))
    return rows


def _each(crowd: DeviceCrowd, start_ms: float) -> list[Row]:
    """What one device takes: on its way to the group, and at rest."""
    way_ms = _processor_ms(crowd) - start_ms
    size = sum(memory_bytes(pid) for pid in crowd.pids) / crowd.count / 1000
    files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in crowd.pids) / crowd.count
    threads = max(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in crowd.pids)
    time.sleep(_CALM_S)
    before_ms = _processor_ms(crowd)
    time.sleep(_REST_S)
    rest_us = (_processor_ms(crowd) - before_ms) / _REST_S * 1000
    return [
        Row("a device: processor time from power to its group (ms)", way_ms, "", None, None),
        Row("a device: processor time of a second at rest (us)", rest_us, "", None, None),
        Row("a device: memory (kB)", size, "", None, None),
        Row("a device: open files", files, "", None, None, f"{threads} threads in a process"),
    ]


def _processor_ms(crowd: DeviceCrowd) -> float:
    """Processor time of the devices so far, for each of them."""
    return sum(processor_s(pid) for pid in crowd.pids) / crowd.count * 1000


if __name__ == "__main__":
    reason = skip_reason("sysctl")
    sys.stdout.write(f"Not run: {reason}.\n" if reason else table(main(*map(int, sys.argv[1:]), *(COUNT, EACH)[len(sys.argv) - 1 :])))
