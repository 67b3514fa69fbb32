"""What a device has learned, as the resource `/node/address`. Pure.

Responsible for the document. How it is asked for is in `client`, who reads it finds it by `tree.device_address`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from m2mapp.dhcpv6.client import Item, Lease
from m2mapp.dhcpv6.uplink import learned, shown
from m2mapp.formats.documents import rfc3339
from m2mapp.model.errors import MethodNotAllowed
from m2mapp.model.identifiers import path_text
from m2mapp.model.messages import Method
from m2mapp.tree.device_address import DEVICE_ADDRESS
from m2mapp.tree.types import ResourceType
from m2mapp.tree.unit import Document, Write

ADDRESS: Final = "device-address"


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """Where a device asks: by which interface, from which of its link-local addresses (None: any), and whether it gives back at a stop.

    Several devices on one interface each have a link-local address of their own.
    """

    interface: str
    link_local: IPv6Address | None = None
    release: bool = False


def address_write(lease: Lease, item: Item, now: float, now_ms: int) -> Write:
    """What makes the tree say that the interface has this address, and that it can be used from now on."""
    return Write(DEVICE_ADDRESS, ADDRESS, {**learned(lease, item, now, now_ms), "usableSince": rfc3339(now_ms)})


def _refuse(_name: str, _given: Document) -> Document:
    raise MethodNotAllowed("PUT", path_text(DEVICE_ADDRESS), ("GET",))


ADDRESS_TYPE: Final = ResourceType(ADDRESS, DEVICE_ADDRESS, _refuse, shown, methods=frozenset({Method.GET}))
