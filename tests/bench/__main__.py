"""All benchmarks: `python -m tests.bench` (`make bench`), about eight minutes. Prints them and writes docs/benchmarks.md.

Each is a process of its own; one that fails is told as such and does not keep the others from being run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.report import machine

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "benchmarks.md"
_TIMEOUT_S = 300
_BENCHMARKS = (
    ("node", "A whole node over HTTP", "wrk"),
    ("http", "The HTTP edge by itself", "wrk"),
    ("coap_get", "CoAP GET beside aiocoap and libcoap", "coap-server-notls"),
    ("million", "A million messages of a thousand sources", ""),
    ("coaps", "coaps beside plain CoAP and libcoap", "coap-server-openssl"),
    ("bootstrap", "LwM2M bootstrap sessions", ""),
    ("group_read", "A group read beside a bare loop and concurrent unicast", ""),
    ("plan", "Planning a group of ten thousand", ""),
    ("loss", "Group operations where packets are lost", ""),
    ("dhcpv6", "DHCPv6 beside Kea and dnsmasq", "perfdhcp"),
    ("once", "The check of a request identifier, 100,000 kept", ""),
    ("operations", "What operations cost", ""),
    ("start", "Start and memory", ""),
    ("tree", "The tree in memory", ""),
    ("store", "Two ways to flush", ""),
)


def main() -> int:
    """Run them; the number of those that failed."""
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    parts = [f"# Benchmarks\n\n`make bench` on {now}: {machine()}.\nOne run on a noisy machine: the ratios within a run are what counts.\n"]
    failed = 0
    for name, title, program in _BENCHMARKS:
        text = _run(name) if not program or shutil.which(program) else None
        if text is None:
            text = f"Not run: {program} is not installed.\n"
        elif text == "":
            failed += 1
            text = "Failed; see what it printed.\n"
        block = text if text.startswith("|") or "\n" not in text.strip() else f"```\n{text.rstrip()}\n```\n"
        parts.append(f"\n## {title} (`python -m tests.bench.{name}`)\n\n{block}")
        sys.stdout.write(parts[-1])
        sys.stdout.flush()
    REPORT.write_text("".join(parts), encoding="utf-8")
    return failed


def _run(name: str) -> str:
    command = [sys.executable, "-m", f"tests.bench.{name}"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"{name}: not done after {_TIMEOUT_S} s\n")
        return ""
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
