"""The long counts: `python -m tests.soak` (`make soak`), root for what needs namespaces. Writes docs/soak.md.

The same tests as ever, with M2MAPP_SOAK=1 (full counts) and many seeds; this runs them and keeps what came of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.report import machine

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "soak.md"
SEEDS = "200"
_SIMULATION = "tests/unit/simulation"
_RUNS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("kill -9 of the store under concurrent writes, and full disks", "tests/system/test_store_crash.py", {}),
    ("kill -9 of a gateway under concurrent HTTP writes", "tests/system/test_kill9.py", {}),
    ("kill -9 of a gateway under DHCPv6 load", "tests/system/test_dhcp_killed.py", {}),
    ("a full disk under a gateway", "tests/system/test_disk_full.py", {}),
    ("properties, twenty times the examples", f"tests/unit --ignore={_SIMULATION}", {}),
    ("a million messages of a thousand sources, and mutations, to a gateway", "tests/system/test_hostile.py", {}),
    ("groups in groups on five servers, one datagram in five lost", "tests/system/test_groups_in_groups.py", {}),
    ("two thousand devices in one process, from power to their group", "tests/system/test_device_crowd.py", {}),
    ("kill -9 of a gateway while operations run", "tests/system/test_kill9_operations.py", {}),
    (
        f"whole nodes in simulation, {SEEDS} seeds a test; a million mutations are among them",
        _SIMULATION,
        {"M2MAPP_SEEDS": SEEDS},
    ),
)
_CLOSING = re.compile(r"^=*\s*(\d+ (?:passed|failed|skipped|error).*?)\s*=*$", re.MULTILINE)


def main() -> int:
    """Run them; how many did not pass."""
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    lines = [f"# Soak\n\n`make soak` on {now}: {machine()}.\n", "| what | tests | result | minutes |", "|---|---|---|---:|"]
    failed = 0
    for what, tests, more in _RUNS:
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-o", "faulthandler_timeout=3600", *tests.split()]
        environment = dict(os.environ, M2MAPP_SOAK="1", **more)
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        sys.stdout.write(done.stdout)
        failed += done.returncode != 0
        found = _CLOSING.findall(done.stdout)
        lines.append(f"| {what} | `{tests}` | {found[-1] if found else 'no result'} | {(time.monotonic() - began) / 60:.1f} |")
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main())
