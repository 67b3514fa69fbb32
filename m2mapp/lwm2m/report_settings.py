"""The settings of a gateway's report to the bootstrap server: the table `[report]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, integer, number, text
from m2mapp.formats.uris import MAX_PORT, parse_uri
from m2mapp.model.errors import Fault, Malformed

_LEAST_LIFETIME_S, _LONGEST_LIFETIME_S = 20, 86_400
USUAL_PORT: Final = 5685


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """How the bootstrap server comes to know of the devices.

    `lwm2m`: this gateway registers there as LwM2M client and carries object 33050; `server` is the server's URI (`coap` or `coaps`),
    empty: the one that devices are told; `port` the client's own UDP port. `push`: the peer to which reports go by HTTP, or
    the node's own name where it is the bootstrap server itself, empty: none;
    `batch_s`: what comes within that time goes together, 0: each at once.
    """

    lwm2m: bool = True
    server: str = ""
    port: int = USUAL_PORT
    lifetime_s: int = 3600
    push: str = ""
    batch_s: float = 0.0


def _server(value: object) -> str:
    if value == "":
        return ""
    expected = "the URI of an LwM2M server such as coaps://bs.example.org:5684, without a path, or empty"
    try:
        uri = parse_uri(value)
    except Fault as fault:
        raise Wrong(value, expected) from fault
    if uri.scheme not in ("coap", "coaps") or uri.path or uri.query:
        raise Wrong(value, expected)
    return uri.text()


_SHAPE = Shape(
    {
        "lwm2m": Field(boolean, True),
        "server": Field(_server, ""),
        "port": Field(integer(0, MAX_PORT), USUAL_PORT),
        "lifetime_s": Field(integer(_LEAST_LIFETIME_S, _LONGEST_LIFETIME_S), 3600),
        "push": Field(text, ""),
        "batch_s": Field(number(0, 86_400), 0.0),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[ReportSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = _SHAPE.read(table, where)
    if faults:
        return ReportSettings(), faults
    settings = ReportSettings(**values)  # type: ignore[arg-type]  # the shape has checked each value's type
    if not settings.lwm2m and not settings.push:
        faults.append(Malformed(f"{where}lwm2m", False, "true where push is empty: there is no other way to report"))
    if settings.server and not settings.lwm2m:
        faults.append(
            Malformed(f"{where}server", settings.server, "used with lwm2m = false: reports are pushed to the peer that push names")
        )
    return settings, faults
