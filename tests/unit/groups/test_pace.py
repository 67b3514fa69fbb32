"""How long is waited for answers after the leisure time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.groups.pace import LEAST_S, MOST_S, Pace, Paces


class PaceTests(SynchronousTestCase):
    def test_learnt(self) -> None:
        """Long as long as nobody has answered; then what the first answer took, or what was seen of the group, with bounds."""
        self.assertEqual(Pace().patience_s(None), MOST_S)
        self.assertEqual([round(Pace().patience_s(first_s), 6) for first_s in (0.001, 9.0)], [0.11, MOST_S])
        pace = Pace()
        for late_s, patience_s in ((0.04, 0.132), (0.04, 0.11), (0.06, 0.11825)):
            pace.saw(late_s)
            self.assertAlmostEqual(pace.patience_s(0.001), patience_s)
        for _ in range(100):
            pace.saw(0.02)
        self.assertAlmostEqual(pace.patience_s(0.001), 0.022, 5)
        for _ in range(100):
            pace.saw(-1.0)
        self.assertEqual(pace.patience_s(0.001), LEAST_S)

    def test_many_groups(self) -> None:
        """Each group has its own; of a thousand others asked since it is forgotten."""
        paces = Paces()
        paces.of("g").saw(0.2)
        self.assertEqual((paces.of("g").late_s, paces.of("h").late_s), (0.2, None))
        for number in range(1000):
            paces.of(str(number))
        self.assertIsNone(paces.of("g").late_s)
