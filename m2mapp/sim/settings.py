"""The settings of a simulated device: the table `[sim]` (why there is one: `docs/decisions/2026-11-22-sim-table.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from m2mapp.formats.shapes import Field, Shape, Wrong, boolean, choice, host, integer, list_of, number
from m2mapp.formats.uris import parse_uri
from m2mapp.model.errors import Fault, Malformed
from m2mapp.model.identifiers import Path
from m2mapp.sim.models import MODELS
from m2mapp.tree.paths import RESERVED, parse_path

MAX_ENDPOINT_BYTES = 63
"""The longest endpoint name (RFC 9176, section 5)."""


@dataclass(frozen=True, slots=True)
class SimSettings:
    """What is measured, where it stands (None: where the model says), how often, and where the node registers.

    `registrar` is the URI of an `/rd`; empty: it registers nowhere. `endpoint` is the name to register by, empty: the node's. `hosts` and
    `multicast` are what it says of itself there.
    """

    model: str
    path: Path | None = None
    period_s: float = 5.0
    seed: int = 1
    registrar: str = ""
    endpoint: str = ""
    hosts: tuple[str, ...] = ()
    multicast: bool = True
    lifetime_s: int = 300

    def registration_query(self) -> tuple[tuple[str, str], ...]:
        """What a registration says beside endpoint and lifetime, as query parameters (`registry.rd`)."""
        return (*(("host", name) for name in self.hosts), *((("multicast", "1"),) if self.multicast else ()))


def _path(value: object) -> Path:
    try:
        path = parse_path(value if isinstance(value, str) else "")
    except Fault as fault:
        raise Wrong(value, f"a path such as /value ({fault})") from fault
    if not path or path[0] in RESERVED:
        raise Wrong(value, "a path such as /value, not the root and not below a reserved name")
    return path


def _registrar(value: object) -> str:
    if value == "":
        return ""
    try:
        return parse_uri(value).text()
    except Fault as fault:
        raise Wrong(value, "the URI of a resource directory such as coap://[fd00::1]/rd") from fault


def _endpoint(value: object) -> str:
    if not isinstance(value, str) or len(value.encode(errors="replace")) > MAX_ENDPOINT_BYTES or (value and not value.isprintable()):
        raise Wrong(value, f"a name of at most {MAX_ENDPOINT_BYTES} bytes")
    return value


SHAPE = Shape(
    {
        "model": Field(choice(*MODELS)),
        "path": Field(_path, None),
        "period_s": Field(number(0.05, 86_400), 5.0),
        "seed": Field(integer(0, 2**63 - 1), 1),
        "registrar": Field(_registrar, ""),
        "endpoint": Field(_endpoint, ""),
        "hosts": Field(list_of(host, most=16), []),
        "multicast": Field(boolean, True),
        "lifetime_s": Field(integer(10, 2**32 - 1), 300),
    }
)


def read(table: Mapping[str, object], where: str) -> tuple[SimSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = SHAPE.read(table, where)
    if faults:
        return SimSettings("temperature"), faults
    hosts = values.pop("hosts")
    names = tuple(str(name) for name in hosts) if isinstance(hosts, list) else ()
    return SimSettings(hosts=names, **values), []  # type: ignore[arg-type]  # the shape has checked each value's type
