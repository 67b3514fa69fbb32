"""The metrics page: every instrument in both formats, read by Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.trial.unittest import SynchronousTestCase

from m2mapp.http.metrics import METRICS, pages
from m2mapp.model.errors import Forbidden, Unauthenticated
from m2mapp.model.metrics import Metrics
from m2mapp.model.principal import NOBODY, Principal, Right

READER = Principal("reader", frozenset({Right.READ}))


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.page = pages(self.metrics, list, list)[METRICS]

    def samples(self, accept: tuple[str, ...] = ()) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        plain = self.page(lambda: READER, accept)
        parse = parse_openmetrics if "openmetrics" in plain.media_type else parse_text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in parse(plain.body.decode())
            for sample in family.samples
        }

    def test_instruments(self) -> None:
        """Counters, gauges and histograms come out with their labels and values, in both formats."""
        self.metrics.counter("m2mapp_test_done_total", "Done.", kind='a"b\n').add(3)
        self.metrics.counter("m2mapp_test_done_total", "Done.", kind="c", more="d").add()
        self.metrics.gauge("m2mapp_test_depth", "Depth.", lambda: 2.5)
        histogram = self.metrics.histogram("m2mapp_test_seconds", "Time.")
        for value in (0.002, 0.002, 7, 100):
            histogram.observe(value)
        for accept in ((), ("application/openmetrics-text;version=1.0.0", "text/plain")):
            samples = self.samples(accept)
            self.assertEqual(samples["m2mapp_test_done_total", (("kind", 'a"b\n'), ("more", ""))], 3)
            self.assertEqual(samples["m2mapp_test_done_total", (("kind", "c"), ("more", "d"))], 1)
            self.assertEqual(samples["m2mapp_test_depth", ()], 2.5)
            self.assertEqual(samples["m2mapp_test_seconds_bucket", (("le", "0.0025"),)], 2)
            self.assertEqual(samples["m2mapp_test_seconds_bucket", (("le", "10.0"),)], 3)
            self.assertEqual(samples["m2mapp_test_seconds_bucket", (("le", "+Inf"),)], 4)
            self.assertEqual(samples["m2mapp_test_seconds_count", ()], 4)
            self.assertAlmostEqual(samples["m2mapp_test_seconds_sum", ()], 107.004)

    def test_gauge_that_fails(self) -> None:
        """A gauge that cannot be read is left out; the others are there."""
        self.metrics.gauge("m2mapp_test_bad", "Bad.", lambda: 1 / 0)
        self.metrics.gauge("m2mapp_test_good", "Good.", lambda: 1)
        samples = self.samples()
        self.assertNotIn(("m2mapp_test_bad", ()), samples)
        self.assertEqual(samples["m2mapp_test_good", ()], 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_nothing_to_tell(self) -> None:
        """A node without instruments has an empty page."""
        self.assertEqual(self.samples(), {})

    def test_rights(self) -> None:
        """Only who may read there is told."""
        self.assertRaises(Unauthenticated, self.page, lambda: NOBODY, ())
        self.assertRaises(Forbidden, self.page, lambda: Principal("scoped", frozenset({Right.READ}), (("a",),)), ())
