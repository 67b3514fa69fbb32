"""Start-up time and memory with 1,000, 10,000 and 100,000 resources, and of 1,000 nodes in one process: `python -m tests.bench.start`.

The state directories are written by the store itself; then a whole gateway process is started on each. The nodes are member devices that
start with no state directory, and then again with the ones they made.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from m2mapp.store.database import Database
from m2mapp.store.files import make_state_dir
from m2mapp.tree.tree import Tree
from m2mapp.tree.unit import Unit, Write
from tests.bench.gateway import PROGRAM, ROOT, Gateway, memory_bytes
from tests.bench.report import Row, table
from tests.bench.responders import address

SIZES = (1_000, 10_000, 100_000)
NODES = 1_000
_UNIT = 1_000
_START_S = 120.0
_NOW_MS = 1_700_000_000_000


def fill(state_dir: Path, size: int) -> None:
    """Write a state directory with so many content resources, a hundred to a device."""
    make_state_dir(state_dir)
    database = Database(state_dir)
    database.open()
    resources, last = database.load()
    tree = Tree(lambda _: False, lambda error: None)
    tree.load(resources, last)
    for start in range(0, size, _UNIT):
        writes = tuple(
            Write(("plant", f"device{index // 100}", f"value{index % 100}"), content=f"{index}.5".encode(), media_type="text/plain")
            for index in range(start, min(size, start + _UNIT))
        )
        staged = tree.stage(Unit(writes), _NOW_MS)
        database.write([staged])
        database.flush()
        tree.apply(staged)
    database.close()


def main() -> list[Row]:
    """The rows of the report."""
    rows = []
    with Gateway() as empty:
        base, base_s = empty.memory_bytes(), empty.start_s
    twistd_s = _twistd_alone()
    rows.append(
        Row(
            "start of an empty gateway (s)",
            base_s,
            "import of twisted.web alone",
            twistd_s,
            base_s / twistd_s,
            f"{base / (1 << 20):.0f} MiB",
        )
    )
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="m2mapp-bench-") as directory:
            state = Path(directory) / "state"
            fill(state, size)
            with Gateway(state) as gateway:
                each = (gateway.memory_bytes() - base) / size
                note = f"{gateway.memory_bytes() / (1 << 20):.0f} MiB in all, {each:,.0f} bytes a resource"
                rows.append(
                    Row(f"start with {size:,} resources (s)", gateway.start_s, "an empty gateway", base_s, gateway.start_s / base_s, note)
                )
    with tempfile.TemporaryDirectory(prefix="m2mapp-bench-") as directory:
        first_s, again_s, size_bytes = _many_nodes(Path(directory))
    note = f"{again_s:.2f} s with the state directories made before; {size_bytes / NODES / 1000:,.0f} kB a node"
    rows.append(Row(f"start of {NODES:,} member nodes in one process (s)", first_s, "an empty gateway", base_s, first_s / base_s, note))
    return rows


def _many_nodes(folder: Path) -> tuple[float, float, int]:
    """Start many member devices; how long that took the first time and again, and their memory."""
    configs = folder / "configs"
    configs.mkdir()
    for number in range(NODES):
        text = f'[node]\nname = "d{number}"\nstate_dir = "{folder}/d{number}"\n[member]\n[coap]\ninterfaces = ["lo"]\n'
        (configs / f"d{number}.toml").write_text(f'{text}listen = ["{address(number)}:5683"]\n', encoding="ascii")
    took = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(folder / "told"))
        told.settimeout(_START_S)
        for _ in range(2):
            began = time.monotonic()
            environment = dict(os.environ, PYTHONPATH=str(ROOT), NOTIFY_SOCKET=str(folder / "told"))
            process = subprocess.Popen([*PROGRAM, "--config", str(configs)], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            try:
                while b"READY=1" not in told.recv(4096):
                    pass
                took.append(time.monotonic() - began)
                size_bytes = memory_bytes(process.pid)
                process.terminate()
                process.wait(_START_S)
            finally:
                process.kill()
    return took[0], took[1], size_bytes


def _twistd_alone() -> float:
    code = "import time; began = time.monotonic(); import twisted.web.server, twisted.internet.reactor; print(time.monotonic() - began)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return float(output)


if __name__ == "__main__":
    sys.stdout.write(table(main()))
