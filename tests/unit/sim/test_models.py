"""`sim.models`: what is measured."""

from __future__ import annotations

import json
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.sim.models import DAY_S, MODELS, Meter, Model, Switch, Temperature


def values(model: Model, count: int = 200, period_s: float = 5.0) -> list[bytes | None]:
    """What a model gives, period by period, each value standing where the next is measured."""
    current = model.first().content
    given: list[bytes | None] = []
    for number in range(count):
        measured = model.next(number * period_s, current)
        current = measured.content if measured is not None else current
        given.append(measured.content if measured is not None else None)
    return given


class ModelTests(SynchronousTestCase):
    def test_same_seed_same_values(self) -> None:
        """A model gives the same values again for the same seed, and others for another one."""
        for make in MODELS.values():
            self.assertEqual(values(make(Random(7)), 2000), values(make(Random(7)), 2000))
            self.assertNotEqual(values(make(Random(7)), 2000), values(make(Random(8)), 2000))

    def test_temperature(self) -> None:
        """The temperature has one decimal, moves, follows a wave over the day, and stays in a room's range."""
        model = Temperature(Random(1))
        day = [float(value) for value in values(model, 240, DAY_S / 240) if value is not None]
        self.assertEqual(len(day), 240)
        self.assertTrue(all(10 < value < 30 for value in day), day)
        self.assertGreater(len(set(day)), 10)
        self.assertTrue(1.5 < max(day) - min(day) < 8)
        self.assertRegex(model.first().content.decode(), r"^\d\d\.\d$")

    def test_switch_stays_mostly(self) -> None:
        """A switch changes seldom, and then to the other position than the one that stands there."""
        model = Switch(Random(1))
        given = [model.next(0.0, b"on") for _ in range(5000)]
        turned = [measured.content for measured in given if measured is not None]
        self.assertTrue(20 < len(turned) < 100, len(turned))
        self.assertEqual(set(turned), {b"off"})
        self.assertEqual({measured.content for _ in range(2000) if (measured := model.next(0.0, b"off"))}, {b"on"})

    def test_meter_only_grows(self) -> None:
        """A meter's energy grows with power and time and is never less than before."""
        readings = [json.loads(value) for value in values(Meter(Random(1)), 500, 60.0) if value is not None]
        energies = [reading["kWh"] for reading in readings]
        self.assertEqual(energies, sorted(energies))
        self.assertTrue(0.4 < energies[-1] - energies[0] < 25, energies[-1] - energies[0])
        self.assertTrue(all(50 <= reading["W"] <= 3000 for reading in readings))

    def test_meter_goes_on_from_what_stands_there(self) -> None:
        """A meter that is started again on a kept tree counts on from there, and does not follow what is no reading."""
        for content, least in (
            (b'{"kWh": 123456.5, "W": 1}', 123456.5),
            (b"{", 0),
            (b"[]", 0),
            (b"\xff", 0),
            (b'{"kWh": "x"}', 0),
            (b'{"kWh": 1e300}', 0),
            (b'{"kWh": NaN}', 0),
            (b'{"kWh": true}', 0),
            (None, 0),
        ):
            measured = Meter(Random(1)).next(0.0, content)
            assert measured is not None
            energy = json.loads(measured.content)["kWh"]
            self.assertTrue(least <= energy <= max(least, 9000) + 1, (content, energy))
