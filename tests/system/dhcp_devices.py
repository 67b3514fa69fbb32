"""DHCPv6 clients that others wrote, as devices: each asks for an address, the bootstrap URI and the certificate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.dhcp_clients import BOOTSTRAP_CODE, PATIENCE_S, Client
from tests.system.namespaces import Host, wait_until

CERTIFICATE_CODE = 65002


@dataclass(frozen=True)
class DeviceGiven:
    """What a device says that it was given: its address, the bootstrap URI, the certificate's bytes."""

    address: str
    uri: str
    certificate: bytes


class Device(Client):
    """A client on `eth0` that asks for one address."""

    def stop(self) -> None:
        """End it as a crash does; what it was told is forgotten here."""
        self.process.kill()
        self.process.wait()
        (self.folder / "told").unlink()

    def device(self) -> DeviceGiven:
        """What it was given, once that is there."""
        wait_until(lambda: self.told() is not None, PATIENCE_S, f"an address for {self.program}:\n{self._log()}")
        found = self.told()
        assert found is not None
        return found

    def told(self) -> DeviceGiven | None:
        """What its script was told last."""
        file = self.folder / "told"
        lines = file.read_text().splitlines() if file.exists() else []
        return self.read_device(dict(line.split("=", 1) for line in lines if "=" in line))

    def read_device(self, told: Mapping[str, str]) -> DeviceGiven | None:
        """What it was given, from the environment of its script; None if that does not say."""
        raise NotImplementedError

    def read(self, told: Mapping[str, str]) -> None:
        return None


class DhclientDevice(Device):
    """ISC dhclient: it shows options of any code in its script's environment."""

    program = "dhclient"

    def configure(self) -> None:
        lines = [
            f"option dhcp6.lwm2m-uri code {BOOTSTRAP_CODE} = text;",
            f"option dhcp6.lwm2m-cert code {CERTIFICATE_CODE} = string;",
            "also request dhcp6.lwm2m-uri, dhcp6.lwm2m-cert;",
        ]
        (self.folder / "conf").write_text("\n".join([*lines, ""]))
        (self.folder / "leases").touch()

    def command(self) -> str:
        here = self.folder
        return f"dhclient -6 -N -d -cf {here}/conf -lf {here}/leases -pf {here}/pid -sf {here}/script eth0"

    def read_device(self, told: Mapping[str, str]) -> DeviceGiven | None:
        address, shown = told.get("new_ip6_address"), told.get("new_dhcp6_lwm2m_cert")
        if address is None or shown is None:
            return None
        return DeviceGiven(address, told["new_dhcp6_lwm2m_uri"], bytes(int(one, 16) for one in shown.split(":")))


class DhcpcdDevice(Device):
    """dhcpcd, which asks only after a router advertisement with the M flag."""

    program = "dhcpcd"
    keeps = ("/var/lib/dhcpcd", "/run/dhcpcd")

    def configure(self) -> None:
        lines = [
            "ipv6only",
            "duid",
            f"define6 {BOOTSTRAP_CODE} string lwm2m_uri",
            f"define6 {CERTIFICATE_CODE} binhex lwm2m_cert",
            "option dhcp6_lwm2m_uri, dhcp6_lwm2m_cert, dhcp6_reconfigure_accept, dhcp6_name_servers",
        ]
        (self.folder / "conf").write_text("\n".join([*lines, ""]))

    def command(self) -> str:
        return f"dhcpcd -B -d -f {self.folder}/conf -c {self.folder}/script eth0"

    def read_device(self, told: Mapping[str, str]) -> DeviceGiven | None:
        address, shown = told.get("new_dhcp6_ia_na1_ia_addr1"), told.get("new_dhcp6_lwm2m_cert")
        if address is None or shown is None:
            return None
        return DeviceGiven(address, told["new_dhcp6_lwm2m_uri"], bytes.fromhex(shown.replace(":", "")))


class DibblerDevice(Device):
    """dibbler-client, which shows options as text or hexadecimal."""

    program = "dibbler-client"
    keeps = ("/etc/dibbler", "/var/lib/dibbler", "/var/log/dibbler")

    def configure(self) -> None:
        lines = ["log-level 8", f'script "{self.folder}/script"', "iface eth0 {", "  ia"]
        options = [f"  option {BOOTSTRAP_CODE} string", f"  option {CERTIFICATE_CODE} hex", "}", ""]
        (self._kept("/etc/dibbler") / "client.conf").write_text("\n".join([*lines, *options]))

    def command(self) -> str:
        return "dibbler-client run"

    def read_device(self, told: Mapping[str, str]) -> DeviceGiven | None:
        address, shown = told.get("ADDR1"), told.get(f"SRV_OPTION{CERTIFICATE_CODE}")
        if address is None or shown is None:
            return None
        return DeviceGiven(
            address, told[f"SRV_OPTION{BOOTSTRAP_CODE}"], bytes.fromhex(re.sub(r"[^0-9a-fA-F]", "", shown.removeprefix("0x")))
        )


DEVICES: tuple[type[Device], ...] = (DhclientDevice, DhcpcdDevice, DibblerDevice)


def device(kind: type[Device], host: Host, folder: Path) -> Device:
    """A client on a host whose link-local address can be used."""
    wait_until(lambda: "tentative" not in host.ip("-6", "addr", "show", "eth0") and "fe80" in host.ip("-6", "addr", "show", "eth0"))
    return kind(host, folder)
