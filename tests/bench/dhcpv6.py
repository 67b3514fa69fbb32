"""Four-way exchanges of DHCPv6 a second: the downlink beside Kea and dnsmasq, by perfdhcp, between two network namespaces.

`python -m tests.bench.dhcpv6` starts each server in turn and asks it at growing rates; it stops with a server at the first rate of which
it loses more than one message in a hundred. The downlink flushes every binding to disk before its reply leaves, the other two do not.
Each has the receive buffer that it asks for itself. Needs root, and what `.ci/run` installs with kea-admin and dnsmasq-base.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.system.namespaces import Host, Lab, skip_reason, wait_until
from tests.system.programs import Program, write_config

RATES = (250, 500, 750, 1000, 1250, 1500, 2000, 3000)
SECONDS = 5
WAIT_US = 500_000
"""So long perfdhcp waits at the end for what is on its way, which it would count as lost."""
CLIENTS = 1_000_000
MOST_LOST = 0.01
_ADDRESS = "2001:db8:5:1::1/64"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One run of perfdhcp at one rate."""

    done_per_s: float
    lost: float
    processor_us: float


def start_m2mapp(host: Host, folder: Path) -> int:
    """A gateway with the downlink alone; its process."""
    program = _gateway(host, folder)
    program.close()
    return program.process.pid


def _gateway(host: Host, folder: Path) -> Program:
    tables: dict[str, dict[str, object]] = {
        "node": {"name": "gw.example.org", "state_dir": str(folder / "state")},
        "http": {"listen": ["tcp:8080:interface=127.0.0.1"]},
        "dhcpv6.downlink": {"interfaces": ["eth0"], "prefix": "2001:db8:5::/48", "bootstrap_uri": "coaps://bs.example.org:5684"},
    }
    program = Program(host, folder, "gw", write_config(folder / "gw.toml", tables))
    program.start()
    return program


def start_kea(host: Host, folder: Path) -> int:
    """Kea with a file of leases, which it does not flush; its process."""
    configuration = {
        "interfaces-config": {"interfaces": ["eth0"]},
        "server-id": {"type": "EN", "enterprise-id": 4491, "identifier": "6b6561", "persist": False},
        "lease-database": {"type": "memfile", "persist": True, "name": str(folder / "leases.csv"), "lfc-interval": 0},
        "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
        "subnet6": [{"id": 1, "subnet": "2001:db8:5:1::/64", "interface": "eth0", "pools": [{"pool": "2001:db8:5:1:1::/80"}]}],
    }
    (folder / "kea.json").write_text(json.dumps({"Dhcp6": configuration}))
    env = {"KEA_PIDFILE_DIR": str(folder), "KEA_LOCKFILE_DIR": "none"}
    process = host.popen(["kea-dhcp6", "-c", str(folder / "kea.json")], env=env, log=folder / "log")
    wait_until(lambda: "DHCP6_STARTED" in (folder / "log").read_text(), 20, "Kea")
    return process.pid


def start_dnsmasq(host: Host, folder: Path) -> int:
    """Dnsmasq with a file of leases; its process."""
    options = ["--keep-in-foreground", "--port=0", "--user=root", "--conf-file=/dev/null", "--dhcp-lease-max=1000000", "--interface=eth0"]
    kept = [f"--dhcp-leasefile={folder}/leases", f"--pid-file={folder}/pid", "--dhcp-range=2001:db8:5:1:1::,2001:db8:5:1:1::ffff,64,2h"]
    process = host.popen(["dnsmasq", *options, *kept], log=folder / "log")
    wait_until(lambda: ":547" in host.run(["ss", "-uln"]).stdout, 20, "dnsmasq's port")
    return process.pid


LEASES = 10_000
"""So many leases stand in the tree when the gateway is started again."""


def measure_start() -> tuple[int, float, float]:
    """How many leases a gateway has after enough exchanges, and the seconds until it answers: at its first start, and again."""
    with tempfile.TemporaryDirectory(prefix="m2m-bench-") as name, Lab() as lab:
        folder, server, load = Path(name), lab.host("server", [_ADDRESS]), lab.host("load")
        wait_until(lambda: "tentative" not in load.ip("-6", "addr", "show", "dev", "eth0"))
        before_s = time.monotonic()
        program = _gateway(server, folder)
        first_s = time.monotonic() - before_s
        while _leases(server, folder) < LEASES:
            measure(load, program.process.pid, 1100)
        program.kill()
        before_s = time.monotonic()
        program.start()
        taken_s = time.monotonic() - before_s
        found = _leases(server, folder), first_s, taken_s
        program.close()
    return found


def _leases(server: Host, folder: Path) -> int:
    token = (folder / "state" / "admin.token").read_text().strip()
    shown = server.run(["curl", "-sS", "-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8080/metrics"]).stdout
    found = re.search(r"^m2mapp_dhcpv6_bindings (\S+)$", shown, re.MULTILINE)
    if found is None:
        raise RuntimeError(shown)
    return int(float(found[1]))


SERVERS: dict[str, Callable[[Host, Path], int]] = {"m2mapp": start_m2mapp, "Kea": start_kea, "dnsmasq": start_dnsmasq}


def measure(load: Host, process: int, rate: int) -> Run:
    """Ask at one rate."""
    before = _ticks(process)
    command = ["perfdhcp", "-6", "-l", "eth0", "-r", str(rate), "-R", str(CLIENTS), "-p", str(SECONDS), "-W", str(WAIT_US)]
    text = load.run(command, SECONDS * 6).stdout
    counts = [int(count) for count in re.findall(r"(?:sent packets|drops): (\d+)", text)]
    if len(counts) < 4:
        raise RuntimeError(text)
    lost = max(counts[1] / max(1, counts[0]), counts[3] / max(1, counts[2]))
    exchanges = max(1, counts[2] - counts[3])
    return Run(exchanges / SECONDS, lost, (_ticks(process) - before) / _TICKS_PER_S / exchanges * 1e6)


def _ticks(process: int) -> int:
    """The processor time of a process, in clock ticks."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> int:
    """Measure all servers and print a table."""
    why = skip_reason("perfdhcp", "kea-dhcp6", "dnsmasq", "ss")
    if why is not None:
        sys.stderr.write(f"{why}\n")
        return 1
    sys.stdout.write(f"{'server':8} {'rate':>6} {'done/s':>8} {'lost':>8} {'us each':>8}\n")
    for name, start in SERVERS.items():
        with tempfile.TemporaryDirectory(prefix="m2m-bench-") as folder, Lab() as lab:
            server, load = lab.host("server", [_ADDRESS]), lab.host("load")
            wait_until(lambda load=load: "tentative" not in load.ip("-6", "addr", "show", "dev", "eth0"))  # type: ignore[misc]
            process = start(server, Path(folder))
            measure(load, process, 100)  # What is done once is done now.
            for rate in RATES:
                run = measure(load, process, rate)
                sys.stdout.write(f"{name:8} {rate:6} {run.done_per_s:8.0f} {run.lost:8.2%} {run.processor_us:8.0f}\n")
                sys.stdout.flush()
                if run.lost > MOST_LOST:
                    break
    leases, first_s, taken_s = measure_start()
    sys.stdout.write(f"m2mapp with {leases} leases answers {taken_s:.1f} s after its start, with none after {first_s:.1f} s\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired as expired:
        sys.exit(str(expired))
