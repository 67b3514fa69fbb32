"""The settings of a device: the table `[device]` (spec section 11)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice
from m2mapp.lwm2m.plans import endpoint_name
from m2mapp.model.errors import Malformed

_INTERFACE = re.compile(r"[^\s/:]{1,15}")
_FORMATS = {"senml-cbor": 112, "senml-json": 110, "tlv": 11542}


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """A device: the interface by which it asks for an address, and the name of its endpoint.

    `link_local`: the address of the interface that it asks from, needed where it has several devices; `release`: it gives its address
    back at a stop; `format_number`: the Content-Format that it prefers to be written in.
    """

    interface: str
    endpoint: str
    link_local: IPv6Address | None = None
    release: bool = False
    format_number: int = _FORMATS["senml-cbor"]


def _interface(value: object) -> str:
    if not isinstance(value, str) or not _INTERFACE.fullmatch(value):
        raise Wrong(value, "the name of a network interface such as eth0")
    return value


def _link_local(value: object) -> IPv6Address | None:
    if value == "":
        return None
    expected = "a link-local address of the interface, without zone, such as fe80::d1; or empty"
    try:
        address = IPv6Address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Wrong(value, expected) from error
    if not address.is_link_local or address.scope_id is not None:
        raise Wrong(value, expected)
    return address


_SHAPE = Shape(
    {
        "interface": Field(_interface),
        "endpoint": Field(endpoint_name),
        "link_local": Field(_link_local, None),
        "release": Field(boolean, False),
        "format": Field(choice(*_FORMATS), "senml-cbor"),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[DeviceSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = _SHAPE.read(table, where)
    if faults:
        return DeviceSettings("", ""), faults
    format_number = _FORMATS[str(values.pop("format"))]
    return DeviceSettings(format_number=format_number, **values), []  # type: ignore[arg-type]  # the shape has checked each value's type
