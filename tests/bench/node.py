"""A whole node over HTTP: `python -m tests.bench.node`, needs `wrk`.

A read beside a bare twisted.web resource, and durable writes beside the same writes kept in memory only, in turns. Each process is
started by this one; the figures are requests a second.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.gateway import ROOT, Gateway, free_port
from tests.bench.report import Row, table

ROUNDS, SECONDS = 3, 3
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")
_PUT = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("PUT", "/bench/r" .. (n % 100), {["Authorization"] = "Bearer TOKEN", ["Content-Type"] = "text/plain"}, "21.5")
end
"""


def main() -> list[Row]:
    """The rows of the report."""
    memory = (sys.executable, "-m", "tests.bench.memory_node")
    bare_port = free_port()
    bare = subprocess.Popen([sys.executable, "-m", "tests.bench.bare", str(bare_port)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        if bare.stdout is None or bare.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare server did not start")
        with Gateway() as durable, Gateway(program=memory) as kept:
            durable.ask("PUT", "/temperature", 21.5)
            rows = [_reads(durable, f"http://127.0.0.1:{bare_port}/temperature", connections) for connections in (1, 64)]
            return rows + [_writes(durable, kept, connections) for connections in (1, 64)]
    finally:
        bare.kill()
        bare.wait()


def _reads(gateway: Gateway, bare: str, connections: int) -> Row:
    header = ["-H", f"Authorization: Bearer {gateway.token}"]
    pairs = [(_wrk(bare, connections, []), _wrk(f"{gateway.url}/temperature", connections, header)) for _ in range(ROUNDS)]
    theirs, ours = (statistics.median(figures) for figures in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for other, mine in pairs)
    return Row(f"HTTP GET of the tree, {connections} connections (1/s)", ours, "bare twisted.web resource", theirs, ratio)


def _writes(durable: Gateway, kept: Gateway, connections: int) -> Row:
    with tempfile.TemporaryDirectory() as directory:
        pairs = []
        for _ in range(ROUNDS):
            rates = []
            for gateway in (kept, durable):
                script = Path(directory) / "put.lua"
                script.write_text(_PUT.replace("TOKEN", gateway.token), encoding="ascii")
                rates.append(_wrk(gateway.url, connections, ["-s", str(script)]))
            pairs.append((rates[0], rates[1]))
    theirs, ours = (statistics.median(figures) for figures in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for other, mine in pairs)
    return Row(f"durable HTTP PUT, {connections} connections (1/s)", ours, "the same kept in memory only", theirs, ratio)


def _wrk(url: str, connections: int, options: list[str]) -> float:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", *options, url]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    bad, rate = _BAD.search(output), _RATE.search(output)
    if bad is not None or rate is None:
        raise RuntimeError(f"{url}: {output}")
    return float(rate[1])


if __name__ == "__main__":
    sys.stdout.write(table(main()))
