"""DHCPv6 clients that others wrote, as requesting routers: how each is configured and started, and where it says what it was given.

Each runs in a mount namespace of its own, in which what it keeps below /var/lib, /run and /etc is in the test's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.namespaces import Host, wait_until

PATIENCE_S = 30.0
BOOTSTRAP_CODE = 65001


@dataclass(frozen=True)
class Given:
    """What a client says that it was given; `uri` is None for one that shows no options."""

    prefix: str
    uri: str | None


class Client:
    """One client on `eth0` of a host. `start` begins to ask; `given` waits until it has a prefix."""

    program: str
    keeps: tuple[str, ...] = ()
    """The folders of the system in which it keeps something."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder = host, folder
        folder.mkdir()
        self.log = folder / "log"
        script = folder / "script"
        script.write_text(f'#!/bin/sh\nenv >> "{folder}/told"\n')
        script.chmod(0o755)
        self.configure()

    def configure(self) -> None:
        """Write its configuration files."""
        raise NotImplementedError

    def command(self) -> str:
        """The command that it is started with."""
        raise NotImplementedError

    def read(self, told: Mapping[str, str]) -> Given | None:
        """What it was given, from the environment of its script; None if that does not say."""
        raise NotImplementedError

    def start(self) -> None:
        """Ask for a prefix."""
        mounts = "".join(f"mount --bind {self._kept(place)} {place}; " for place in self.keeps)
        self.process = self.host.popen(["unshare", "--mount", "sh", "-c", f"{mounts}exec {self.command()}"], log=self.log)

    def given(self) -> Given:
        """What it was given, once that is there."""
        wait_until(lambda: self._found() is not None, PATIENCE_S, f"a prefix for {self.program}:\n{self._log()}")
        found = self._found()
        assert found is not None
        return found

    def _found(self) -> Given | None:
        file = self.folder / "told"
        lines = file.read_text().splitlines() if file.exists() else []
        return self.read(dict(line.split("=", 1) for line in lines if "=" in line))

    def _kept(self, place: str) -> Path:
        here = self.folder / place.strip("/").replace("/", "-")
        here.mkdir(exist_ok=True)
        Path(place).mkdir(parents=True, exist_ok=True)
        return here

    def _log(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""


class Dhclient(Client):
    """ISC dhclient with `-P`."""

    program = "dhclient"

    def configure(self) -> None:
        (self.folder / "conf").write_text(f"option dhcp6.lwm2m-uri code {BOOTSTRAP_CODE} = text;\nalso request dhcp6.lwm2m-uri;\n")
        (self.folder / "leases").touch()

    def command(self) -> str:
        here = self.folder
        return f"dhclient -6 -P -d -cf {here}/conf -lf {here}/leases -pf {here}/pid -sf {here}/script eth0"

    def read(self, told: Mapping[str, str]) -> Given | None:
        prefix = told.get("new_ip6_prefix")
        return Given(prefix, told.get("new_dhcp6_lwm2m_uri")) if prefix else None

    def release(self) -> None:
        """Give the prefix back."""
        self.host.run([*self.command().replace(" -d ", " -r ").split()], PATIENCE_S)


class Dhcpcd(Client):
    """dhcpcd with `ia_pd`, told not to wait for a router advertisement."""

    program = "dhcpcd"
    keeps = ("/var/lib/dhcpcd", "/run/dhcpcd")

    def configure(self) -> None:
        lines = ("ipv6only", "noipv6rs", "duid", f"define6 {BOOTSTRAP_CODE} string lwm2m_uri", "interface eth0", "ia_pd 1")
        (self.folder / "conf").write_text("\n".join([*lines, "option dhcp6_lwm2m_uri", ""]))

    def command(self) -> str:
        return f"dhcpcd -B -d -f {self.folder}/conf -c {self.folder}/script eth0"

    def read(self, told: Mapping[str, str]) -> Given | None:
        prefix, length = told.get("new_dhcp6_ia_pd1_prefix1"), told.get("new_dhcp6_ia_pd1_prefix1_length")
        return Given(f"{prefix}/{length}", told.get("new_dhcp6_lwm2m_uri")) if prefix else None


class Dibbler(Client):
    """dibbler-client with `pd`."""

    program = "dibbler-client"
    keeps = ("/etc/dibbler", "/var/lib/dibbler", "/var/log/dibbler")

    def configure(self) -> None:
        lines = ("log-level 8", 'downlink-prefix-ifaces "lo"', f'script "{self.folder}/script"', "iface eth0 {", "  pd")
        etc = self._kept("/etc/dibbler")
        (etc / "client.conf").write_text("\n".join([*lines, f"  option {BOOTSTRAP_CODE} string", "}", ""]))

    def command(self) -> str:
        return "dibbler-client run"

    def read(self, told: Mapping[str, str]) -> Given | None:
        prefix, length = told.get("PREFIX1"), told.get("PREFIX1LEN")
        return Given(f"{prefix}/{length}", told.get(f"SRV_OPTION{BOOTSTRAP_CODE}")) if prefix else None


class Wide(Client):
    """WIDE dhcp6c, which knows prefixes and shows no option that it does not know: its log tells what it was given."""

    program = "dhcp6c"
    keeps = ("/var/lib/dhcpv6",)

    def configure(self) -> None:
        (self.folder / "conf").write_text("interface eth0 { send ia-pd 1; };\nid-assoc pd 1 { };\n")

    def command(self) -> str:
        return f"dhcp6c -c {self.folder}/conf -p {self.folder}/pid -f -D eth0"

    def read(self, told: Mapping[str, str]) -> Given | None:
        found = re.search(r"create a prefix (\S+) ", self._log())
        return Given(found[1], None) if found else None


CLIENTS: tuple[type[Client], ...] = (Dhclient, Dhcpcd, Dibbler, Wide)
