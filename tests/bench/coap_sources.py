"""A million CoAP GETs from a thousand addresses to a whole gateway: `python -m tests.bench.coap_sources [COUNT]`.

Shows what remains of them in memory, how long the garbage collector stopped the gateway, and the longest time without any answer.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

from tests.bench.coap_get import Load, processor_s, wait_until_serving
from tests.bench.gateway import Gateway

MESSAGES = 1_000_000
SOURCES = 1_000
_MIB = 1 << 20


def main(count: int) -> None:
    """Measure and print."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    with tempfile.TemporaryDirectory() as directory:
        pauses = Path(directory) / "pauses"
        program = (sys.executable, "-m", "tests.bench.watched", str(pauses), "--nodaemon", "--pidfile=", "m2m")
        with Gateway(program=program) as gateway:
            gateway.ask("PUT", "/temperature", 21.5)
            address = ("127.0.0.1", gateway.coap_port)
            wait_until_serving(address, b"temperature")
            memory, used = gateway.memory_bytes(), processor_s(gateway.process.pid)
            load = Load(address, b"temperature", [f"127.2.{index // 250}.{index % 250 + 1}" for index in range(SOURCES)])
            try:
                took, lost = load.run(count)
            finally:
                load.close()
            used = processor_s(gateway.process.pid) - used
            grown = gateway.memory_bytes() - memory
            found = json.loads(pauses.read_text(encoding="ascii"))
    print(f"{count:,} confirmable GETs from {SOURCES:,} addresses: {count / took:,.0f}/s, {used / count * 1e6:.1f} us each, {lost} lost")
    print(f"memory: {memory / _MIB:.0f} MiB before, {grown / _MIB:.1f} MiB more after")
    print(f"longest time without an answer: {load.longest_gap_s * 1000:.1f} ms")
    for generation, (times, freed, longest_ms) in enumerate(zip(*found.values(), strict=True)):
        print(f"collections of generation {generation}: {times:,}, the longest {longest_ms:.1f} ms; {freed:,} objects in cycles")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES)
