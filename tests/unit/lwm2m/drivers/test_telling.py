"""`lwm2m.drivers.telling`: observers are told in the periods that the server wrote."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.lwm2m.client_objects import About, ClientObjects
from m2mapp.lwm2m.devices import DeviceObject
from m2mapp.lwm2m.drivers.telling import Telling
from m2mapp.model.messages import Method
from tests.unit.fakes import ask


class TellingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.objects = ClientObjects(About("g1.example.org", "1.0", 300), DeviceObject(), lambda: 7)
        self.told: list[tuple[float, bool]] = []
        watch = Telling(self.clock, self.objects).watch(("33050",), self.tell, subtree=False)
        assert watch is not None
        self.watch = watch

    def tell(self, *, again: bool = False) -> None:
        """Record when, and whether it is told again what it is."""
        self.told.append((self.clock.seconds(), again))

    def write(self, **periods: int) -> None:
        """The server writes them, two seconds after what was before."""
        self.clock.advance(2)
        self.objects.handle(ask(Method.PUT, "/33050", query=tuple((name, str(value)) for name, value in periods.items())))

    def test_at_once(self) -> None:
        """Where nothing was written each change is told at once, and nothing is waited for."""
        self.objects.changed()
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([(0, False)], []))

    def test_strange_paths(self) -> None:
        """What is no object, or not one that changes, cannot be observed; what is no path of one is never told of by itself."""
        telling = Telling(self.clock, self.objects)
        self.assertIsNone(telling.watch(("x",), self.tell, subtree=False))
        self.assertIsNone(telling.watch(("3", "0"), self.tell, subtree=False))
        self.write(pmax=1)
        self.watch.stop()
        self.assertIsNotNone(telling.watch(("33050", "x"), self.tell, subtree=False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pmin(self) -> None:
        """Changes that come sooner than `pmin` are told as one when it is over; a shorter `pmin` counts at once."""
        self.write(pmin=10)
        for _ in range(3):
            self.objects.changed()
        self.assertEqual(self.told, [])
        self.clock.advance(8)
        self.assertEqual(self.told, [(10, False)])
        self.objects.changed()
        self.write(pmin=1)
        self.assertEqual(self.told, [(10, False), (12, False)])

    def test_pmax(self) -> None:
        """Without a change it is told again after `pmax`, counted from what was told last; a stop ends that."""
        self.write(pmax=10)
        self.clock.advance(4)
        self.objects.changed()
        self.clock.pump([5] * 4)
        self.assertEqual(self.told, [(6, False), (16, True), (26, True)])
        self.watch.stop()
        self.clock.advance(100)
        self.assertEqual((len(self.told), self.clock.getDelayedCalls()), (3, []))

    def test_of_no_use(self) -> None:
        """A `pmax` below `pmin` says nothing, nor does one of 0."""
        for periods in ({"pmin": 10, "pmax": 5}, {"pmin": 0, "pmax": 0}):
            self.write(**periods)
            self.clock.advance(50)
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))
