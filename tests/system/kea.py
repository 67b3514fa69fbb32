"""Kea as the upstream DHCPv6 server: delegates prefixes from a pool and tells the bootstrap service, in either encoding.

It keeps everything in a folder of the test. Its configuration can be exchanged while it runs.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.system.namespaces import Host, wait_until

ENTERPRISE = 4491
NAME_SERVER = "2001:db8::53"
PROGRAM = "kea-dhcp6"


def configuration(folder: Path, pool: str, uri: str, *, vendor: bool = False, certificate: bytes = b"") -> dict[str, object]:
    """A configuration: prefixes of length 56 from `pool`, a name server, the URI and, where there is one, the certificate."""
    prefix, _, length = pool.partition("/")
    space = f"vendor-{ENTERPRISE}" if vendor else "dhcp6"
    codes = (1, 2) if vendor else (65001, 65002)
    definitions = [
        {"name": "lwm2m-uri", "code": codes[0], "type": "string", "space": space},
        {"name": "lwm2m-certificate", "code": codes[1], "type": "binary", "space": space},
    ]
    data: list[dict[str, object]] = [{"name": "dns-servers", "data": NAME_SERVER}]
    data += [{"name": "lwm2m-uri", "space": space, "data": uri, "always-send": True}]
    if certificate:
        # Nobody can ask Kea for a sub-option.
        data.append({"name": "lwm2m-certificate", "space": space, "data": certificate.hex(), "always-send": vendor})
    if vendor:
        data.append({"name": "vendor-opts", "data": str(ENTERPRISE), "always-send": True})
    return {
        "Dhcp6": {
            "interfaces-config": {"interfaces": ["eth0"]},
            "lease-database": {"type": "memfile", "persist": True, "name": str(folder / "leases.csv"), "lfc-interval": 0},
            "server-id": {"type": "EN", "enterprise-id": 4491, "identifier": "6b6561", "persist": False},
            "preferred-lifetime": 600,
            "valid-lifetime": 1200,
            "renew-timer": 300,
            "rebind-timer": 480,
            "option-def": definitions,
            "option-data": data,
            "subnet6": [
                {
                    "id": 1,
                    "subnet": "2001:db8::/64",
                    "interface": "eth0",
                    "pd-pools": [{"prefix": prefix, "prefix-len": int(length), "delegated-len": 56}],
                }
            ],
            "loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
        }
    }


class Kea:
    """One Kea on the `eth0` of a host."""

    def __init__(self, host: Host, folder: Path) -> None:
        self._host, self._folder = host, folder
        folder.mkdir()
        self.log = folder / "log"

    def start(self, pool: str, uri: str, *, vendor: bool = False, certificate: bytes = b"") -> None:
        """Start it; it answers when this returns."""
        self._write(pool, uri, vendor=vendor, certificate=certificate)
        env = {"KEA_PIDFILE_DIR": str(self._folder), "KEA_LOCKFILE_DIR": "none"}
        self._process = self._host.popen([PROGRAM, "-c", str(self._folder / "kea.json")], env=env, log=self.log)
        self._wait("DHCP6_STARTED", 1)

    def exchange(self, pool: str, uri: str, *, vendor: bool = False, certificate: bytes = b"") -> None:
        """Give it another pool and another service (SIGHUP)."""
        seen = self._count("DHCP6_CONFIG_COMPLETE")
        self._write(pool, uri, vendor=vendor, certificate=certificate)
        self._process.send_signal(signal.SIGHUP)
        self._wait("DHCP6_CONFIG_COMPLETE", seen + 1)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def _write(self, pool: str, uri: str, *, vendor: bool, certificate: bytes) -> None:
        document = configuration(self._folder, pool, uri, vendor=vendor, certificate=certificate)
        (self._folder / "kea.json").write_text(json.dumps(document))

    def _count(self, text: str) -> int:
        return self.log.read_text().count(text) if self.log.exists() else 0

    def _wait(self, text: str, times: int) -> None:
        log = self.log.read_text()[-1500:] if self.log.exists() else ""
        wait_until(lambda: self._count(text) >= times, 20, f"{text} in the log of Kea:\n{log}")
