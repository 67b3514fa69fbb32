"""`/node/address`: the address that this node was given as a device, with the bootstrap service that it was told beside.

Responsible for where that stands, so that whoever bootstraps finds it. How it is asked for, and the whole document, is in `dhcpv6.device`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from m2mapp.model.identifiers import Path
from m2mapp.tree.unit import Resource

DEVICE_ADDRESS: Final[Path] = ("node", "address")


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """An address, and the bootstrap service: its URI, and its certificate (DER), where either was told."""

    address: IPv6Address
    bootstrap_uri: str | None = None
    certificate: bytes | None = None


def device_address_of(resource: Resource | None) -> DeviceAddress | None:
    """What the resource at `DEVICE_ADDRESS` says; None where there is none."""
    if resource is None:
        return None
    given = resource.attributes
    uri, der = given.get("bootstrapURI"), given.get("der")
    return DeviceAddress(IPv6Address(str(given["address"])), str(uri) if uri else None, der if isinstance(der, bytes) and der else None)
