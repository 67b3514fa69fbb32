"""The registry of metrics."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from m2mapp.model.metrics import Counter, Histogram, Metrics


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()

    def test_counters(self) -> None:
        """One name and the same labels are one counter, in whatever order the labels are given."""
        self.metrics.counter("a_total", "A.", x="1", y="2").add()
        self.metrics.counter("a_total", "A.", y="2", x="1").add(4)
        self.metrics.counter("a_total", "A.", x="2").add()
        ((name, about, instruments),) = self.metrics.collect()
        values = {labels: instrument.value for labels, instrument in instruments.items() if isinstance(instrument, Counter)}
        self.assertEqual((name, about, values), ("a_total", "A.", {(("x", "1"), ("y", "2")): 5, (("x", "2"),): 1}))

    def test_histograms(self) -> None:
        """A value falls into the first bucket whose bound it does not exceed; above all bounds into the last."""
        histogram = Histogram((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 2.0, 2.5, 100.0):
            histogram.observe(value)
        self.assertEqual((histogram.counts, histogram.total), ([2, 2, 2], 107.5))
        self.assertIs(self.metrics.histogram("h", "H."), self.metrics.histogram("h", "H."))

    def test_gauges(self) -> None:
        """A gauge is read when it is collected; one that is set again replaces the other."""
        depth = [1.0]
        self.metrics.gauge("depth", "D.", lambda: -1.0)
        self.metrics.gauge("depth", "D.", lambda: depth[0])
        ((_, _, instruments),) = self.metrics.collect()
        depth[0] = 7.0
        self.assertEqual([instrument() for instrument in instruments.values() if callable(instrument)], [7.0])

    def test_kinds_do_not_mix(self) -> None:
        """A name with the same labels cannot be two kinds of instrument."""
        self.metrics.counter("c", "C.")
        self.metrics.gauge("g", "G.", lambda: 1.0)
        self.metrics.histogram("h", "H.")
        self.assertRaises(TypeError, self.metrics.histogram, "c", "C.")
        self.assertRaises(TypeError, self.metrics.gauge, "c", "C.", lambda: 1.0)
        self.assertRaises(TypeError, self.metrics.counter, "g", "G.")
        self.assertRaises(TypeError, self.metrics.counter, "h", "H.")

    def test_collected_by_name(self) -> None:
        """Instruments are collected by name, with the first explanation that was given."""
        self.metrics.counter("b", "First.")
        self.metrics.counter("b", "Second.", x="1")
        self.metrics.counter("a", "A.")
        self.assertEqual([(name, about) for name, about, _ in self.metrics.collect()], [("a", "A."), ("b", "First.")])
