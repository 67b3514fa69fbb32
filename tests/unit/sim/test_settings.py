"""`sim.settings`: the table `[sim]`."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.sim.settings import SimSettings, read


class SettingsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Only the model is needed; the rest has defaults and registers nowhere."""
        settings, faults = read({"model": "meter"}, "[sim] ")
        self.assertEqual((settings, faults), (SimSettings("meter"), []))

    def test_all_keys(self) -> None:
        """Every key is taken over; the hosts and `multicast` become the query of the registration."""
        table = {
            "model": "switch",
            "path": "/lamp/state",
            "period_s": 2,
            "seed": 9,
            "registrar": "coap://[FD00::1]/rd",
            "endpoint": "d1",
            "hosts": ["D1.example.org", "lamp"],
            "multicast": True,
            "lifetime_s": 60,
        }
        settings, faults = read(table, "[sim] ")
        self.assertEqual(faults, [])
        self.assertEqual(
            settings,
            SimSettings("switch", ("lamp", "state"), 2.0, 9, "coap://[fd00::1]/rd", "d1", ("d1.example.org", "lamp"), True, 60),
        )
        self.assertEqual(settings.registration_query(), (("host", "d1.example.org"), ("host", "lamp"), ("multicast", "1")))
        quiet, _ = read({"model": "switch", "multicast": False}, "")
        self.assertEqual(quiet.registration_query(), ())

    BAD: ClassVar[list[tuple[str, object]]] = [
        ("model", "rain"),
        ("path", "value"),
        ("path", "/"),
        ("path", "/rd/x"),
        ("path", "/a/../b"),
        ("path", 7),
        ("period_s", 0),
        ("period_s", "5"),
        ("seed", -1),
        ("registrar", "rd"),
        ("registrar", 5),
        ("endpoint", "x" * 64),
        ("endpoint", "a\nb"),
        ("hosts", ["a b"]),
        ("multicast", 1),
        ("lifetime_s", 9),
        ("colour", "red"),
    ]

    def test_bad_values_are_named(self) -> None:
        """Each bad value gives one fault, which names table and key."""
        for key, value in self.BAD:
            _, faults = read({"model": "switch", key: value}, "[sim] ")
            self.assertEqual([fault.field.partition("[0]")[0] for fault in faults], [f"[sim] {key}"], value)

    def test_registrar_without_an_endpoint(self) -> None:
        """A registrar without a name to register by is no fault (the node's own name serves); a model is needed."""
        _, faults = read({"model": "switch", "registrar": "coap://g1/rd"}, "[sim] ")
        self.assertEqual([fault.field for fault in faults], [])
        self.assertEqual([fault.field for fault in read({}, "[sim] ")[1]], ["[sim] model"])
