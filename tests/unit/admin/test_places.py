"""Places in a picture: who stays does not move, no two share one, and the picture is no larger than it has to be."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.admin.places import Places
from tests.simulation import seeds


class PlacesTests(SynchronousTestCase):
    def test_in_order(self) -> None:
        """New ones are placed as they are given; one that comes takes the lowest place that is free."""
        places = Places()
        self.assertEqual(places.settle("abc"), {"a": 0, "b": 1, "c": 2})
        self.assertEqual(places.settle("ac"), {"a": 0, "c": 2})
        self.assertEqual(places.settle("xacy"), {"x": 1, "a": 0, "c": 2, "y": 3})

    def test_whoever_comes_and_goes(self) -> None:
        """Over any history: who stays keeps the place, places differ, and none is beyond what was needed at once."""
        for seed in seeds(20):
            chance, places, most = Random(seed), Places(), 0
            before: dict[str, int] = {}
            for _ in range(60):
                names = [f"n{number}" for number in range(40) if chance.random() < 0.5]
                most = max(most, len(names))
                now = places.settle(names)
                self.assertEqual(len(set(now.values())), len(names), f"seed {seed}")
                self.assertLess(max(now.values(), default=0), max(most, 1), f"seed {seed}")
                stayed = {name: place for name, place in before.items() if name in now}
                self.assertEqual({name: now[name] for name in stayed}, stayed, f"seed {seed}")
                before = now
