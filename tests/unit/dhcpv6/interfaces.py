"""The interfaces of a host in tests of DHCPv6: known by name, without addresses."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface


class NamedInterfaces:
    """What `IDatagrams` says of interfaces, of those in `interfaces`: indexes by name."""

    interfaces: dict[str, int]

    def interface_index(self, name: str) -> int:
        if name not in self.interfaces:
            raise OSError(19, "No such device")
        return self.interfaces[name]

    def interface_addresses(self, name: str) -> tuple[IPv4Interface | IPv6Interface, ...]:
        return ()

    def addresses(self) -> tuple[()]:
        return ()
