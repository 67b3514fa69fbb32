"""What a simulated device measures: pure models that give a new value when they are asked, the same ones again for the same seed.

A model knows nothing of the node that it lives on: `service` writes what it gives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from m2mapp.model.identifiers import Path

DAY_S = 86_400.0
TEXT, JSON = "text/plain", "application/json"


@dataclass(frozen=True, slots=True)
class Measured:
    """A value of a content resource: its bytes and their media type."""

    content: bytes
    media_type: str


class Model(Protocol):
    """One thing that is measured. `path` is where it stands, `attributes` its link attributes (RFC 6690, 3.1), `unit` among them."""

    path: Path
    attributes: Mapping[str, str]

    def first(self) -> Measured:
        """The value before anything was measured."""

    def next(self, now_s: float, current: bytes | None) -> Measured | None:
        """The value at a time of the monotonic clock, or None where nothing changes. `current` is what stands there now."""


class Temperature:
    """A room's temperature in degrees Celsius: a slow wave over the day, noise, and one decimal as text (`21.5`)."""

    path: Path = ("temperature",)
    attributes: Mapping[str, str] = {"rt": "temperature", "if": "core.s", "unit": "Cel"}

    def __init__(self, random: Random) -> None:
        self._random = random
        self._mean = random.uniform(19.0, 23.0)
        self._swing = random.uniform(1.0, 3.0)
        self._phase = random.random()

    def first(self) -> Measured:
        """The mean."""
        return Measured(f"{self._mean:.1f}".encode(), TEXT)

    def next(self, now_s: float, current: bytes | None) -> Measured | None:
        """The wave at that time, with noise of 0.1 degrees (standard deviation)."""
        wave = self._swing * math.sin(2 * math.pi * (now_s / DAY_S + self._phase))
        return Measured(f"{self._mean + wave + self._random.gauss(0, 0.1):.1f}".encode(), TEXT)


class Switch:
    """A switch, `on` or `off`: it stays as it was written; in one period of a hundred somebody in the room turns it."""

    path: Path = ("switch",)
    attributes: Mapping[str, str] = {"rt": "switch", "if": "core.a"}

    def __init__(self, random: Random) -> None:
        self._random = random

    def first(self) -> Measured:
        """Off."""
        return Measured(b"off", TEXT)

    def next(self, now_s: float, current: bytes | None) -> Measured | None:
        """The other position, seldom; a switch that somebody wrote anything else to is turned off."""
        if self._random.random() >= 0.01:  # noqa: PLR2004 - said above
            return None
        return Measured(b"on" if current == b"off" else b"off", TEXT)


class Meter:
    """An electricity meter: the energy in kWh, which only grows, and the power in W (`{"kWh": 12.345, "W": 230}`)."""

    path: Path = ("meter",)
    attributes: Mapping[str, str] = {"rt": "meter", "if": "core.s", "unit": "kWh"}

    def __init__(self, random: Random) -> None:
        self._random = random
        self._power_w = random.uniform(100.0, 500.0)
        self._energy_kwh = random.uniform(1_000.0, 9_000.0)
        self._at_s: float | None = None

    def first(self) -> Measured:
        """What it stood at when it was mounted."""
        return self._reading()

    def next(self, now_s: float, current: bytes | None) -> Measured | None:
        """Power wanders between 50 W and 3 kW; energy is what it gave since the last value. It goes on from what stands there."""
        self._energy_kwh = max(self._energy_kwh, _energy_in(current))
        if self._at_s is not None:
            self._energy_kwh += self._power_w * (now_s - self._at_s) / 3_600_000
        self._at_s = now_s
        self._power_w = min(3_000.0, max(50.0, self._power_w * self._random.uniform(0.8, 1.25)))
        return self._reading()

    def _reading(self) -> Measured:
        return Measured(json.dumps({"kWh": round(self._energy_kwh, 6), "W": round(self._power_w)}).encode(), JSON)


def _energy_in(content: bytes | None) -> float:
    """The energy that a meter's content says; 0 where somebody wrote something else."""
    try:
        value = json.loads(content or b"{}").get("kWh", 0.0)
    except (ValueError, AttributeError, RecursionError):
        return 0.0
    sane = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e12  # noqa: PLR2004
    return float(value) if sane else 0.0


MODELS: Mapping[str, Callable[[Random], Model]] = {"temperature": Temperature, "switch": Switch, "meter": Meter}
"""The models by the name that the configuration has for them."""
