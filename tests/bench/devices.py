"""Devices from power to their group: `python -m tests.bench.devices [COUNT]`, two minutes with 1,000. Needs root, for network namespaces.

Real nodes on one link, 250 in a process, with addresses, bootstrap sessions, registrations and joins as any device has them. All is
bounded and ends by itself.
"""

from __future__ import annotations

import sys
import time

from tests.bench.coap_get import processor_s
from tests.bench.report import Row, table
from tests.system.crowds import room_for_neighbours
from tests.system.device_crowd import DeviceCrowd
from tests.system.namespaces import skip_reason
from tests.system.nodes import Site

COUNT, EACH = 1000, 250
WANTED_S = 60.0
_PATIENCE_S = 200.0
_LOOK_S = 0.5
_STEPS = ("leased", "bootstrapped", "registered", "joined")


def main(count: int) -> list[Row]:
    """The rows of the report: when all devices were that far, counted from when their processes were up."""
    rows = []
    with room_for_neighbours(), Site() as site:
        crowd = DeviceCrowd(site, count, EACH)
        crowd.make_group()
        started_s = crowd.power_on()
        began = time.monotonic()
        rows.append(Row(f"{count} devices: start of their processes (s)", started_s, "", None, None))
        for step in _STEPS:
            while not crowd.reach(step) and time.monotonic() - began < _PATIENCE_S:
                time.sleep(_LOOK_S)
            there, took_s = crowd.how_many(step), time.monotonic() - began
            peer, limit_s = ("limit", WANTED_S) if step == "joined" else ("", None)
            ratio = None if limit_s is None else limit_s / took_s
            rows.append(Row(f"{count} devices: all {step} (s)", took_s, peer, limit_s, ratio, f"{there} of {count}"))
        spent = {node.name: processor_s(node.process.pid) for node in (crowd.gateway, crowd.server)}
        rows += (Row(f"{count} devices: processor time of {name} (s)", spent_s, "", None, None) for name, spent_s in spent.items())
        silent = [uri for uri, status in crowd.read_group().items() if status != "2.05"]
        rows.append(Row(f"{count} devices: silent in a read of their group", len(silent), "limit", 0, None))
    return rows


if __name__ == "__main__":
    reason = skip_reason("sysctl")
    sys.stdout.write(f"Not run: {reason}.\n" if reason else table(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)))
