"""A million messages of a thousand sources to a whole gateway: `python -m tests.bench.million [COUNT]`.

Tells its memory before and after, the processor time of its longest garbage collection (by `gc.callbacks`) and, seen from outside,
the longest time in which none of 64 requests under way was answered, which contains whatever else the machine did.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.gateway import Gateway
from tests.bench.report import Row, table
from tests.system.flood import Flood

COUNT = 1_000_000
SOURCES = 1_000
MEMORY_MB, PAUSE_MS = 50.0, 20.0


def serve(file: Path, arguments: list[str]) -> None:
    """Be the gateway, and keep the milliseconds of processor time of the longest collection in a file; the file gone, it begins anew."""
    from twisted.scripts.twistd import run

    began = longest = 0.0

    def watch(phase: str, _about: dict[str, int]) -> None:
        nonlocal began, longest
        if phase == "start":
            began = time.thread_time()
            return
        took = time.thread_time() - began
        if took > longest or not file.exists():
            longest = took
            file.write_text(str(took * 1000), encoding="ascii")

    gc.callbacks.append(watch)
    sys.argv = ["twistd", *arguments]
    run()


def main(count: int) -> list[Row]:
    """The rows of the report; the limits are the project's own."""
    with tempfile.TemporaryDirectory(prefix="m2mapp-bench-") as folder:
        file = Path(folder, "longest")
        program = (sys.executable, "-m", __spec__.name, "serve", str(file), "--nodaemon", "--pidfile=", "m2m")
        with Gateway(program=program) as gateway, Flood(("127.0.0.1", gateway.coap_port), SOURCES) as flood:
            gateway.ask("PUT", "/temperature", 21.5)
            file.unlink(missing_ok=True)
            before = gateway.memory_bytes()
            flooded = flood.run(count)
            grown = (gateway.memory_bytes() - before) / 1e6
            pause_ms = float(file.read_text(encoding="ascii")) if file.exists() else 0.0
    what, rate = f"{count:,} messages of {SOURCES:,} sources", flooded.answers / flooded.seconds
    return [
        Row(f"{what}: growth (MB)", grown, "limit", MEMORY_MB, grown / MEMORY_MB, f"{flooded.lost} unanswered, {rate:,.0f} answers/s"),
        Row(f"{what}: longest collection (ms)", pause_ms, "limit", PAUSE_MS, pause_ms / PAUSE_MS, "processor time"),
        Row(f"{what}: longest silence (ms)", flooded.longest_gap_s * 1000, "", None, None, "from outside, with what else the machine did"),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), sys.argv[3:])
    else:
        sys.stdout.write(table(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)))
