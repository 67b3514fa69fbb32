"""`[triggers]` of the configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from m2mapp.formats.shapes import Field, Shape, integer
from m2mapp.model.errors import Malformed

MOST_WORKERS = 1000


@dataclass(frozen=True, slots=True)
class TriggerSettings:
    """How operations are run: `workers` subjects have theirs run side by side, those not counted that wait for a target."""

    workers: int = 16


_SHAPE = Shape({"workers": Field(integer(1, MOST_WORKERS), 16)})


def read(table: Mapping[str, object], where: str) -> tuple[TriggerSettings, list[Malformed]]:
    """The settings in the table, and all faults; `where` stands before each key."""
    values, faults = _SHAPE.read(table, where)
    return (TriggerSettings() if faults else TriggerSettings(**values)), faults  # type: ignore[arg-type]  # the shape has checked it
