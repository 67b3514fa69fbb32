"""What operators' programs read: `/metrics` for Prometheus, `/healthz` and `/readyz`.

Renders `model.metrics`; counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from twisted.logger import Logger

from m2mapp.formats.documents import JSON, dump_json
from m2mapp.model.identifiers import Path
from m2mapp.model.messages import Method
from m2mapp.model.metrics import Counter, Histogram, Instrument, Metrics
from m2mapp.model.principal import Principal
from m2mapp.tree.access import check_access

_log = Logger()
_OPENMETRICS = "application/openmetrics-text"

HEALTHZ: Path = ("healthz",)
READYZ: Path = ("readyz",)
METRICS: Path = ("metrics",)


@dataclass(frozen=True, slots=True)
class Plain:
    """An answer that is no resource: status, media type, body."""

    code: int
    media_type: str
    body: bytes


Page = Callable[[Callable[[], Principal], tuple[str, ...]], Plain]
"""Answers a GET. Is given what finds the principal (and may raise), and the accepted media types. Raises `Fault`s."""


class MetricsCollector(Collector):
    """Gives a node's metrics to prometheus_client. A gauge that cannot be read is left out and logged."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """One family for each name."""
        for name, about, instruments in self._metrics.collect():
            yield _family(name, about, instruments)


def pages(metrics: Metrics, unready: Callable[[], list[str]], warnings: Callable[[], list[str]]) -> Mapping[Path, Page]:
    """The pages by path. `unready` says why the node is not ready to work; an empty list: it is. `warnings` need somebody's attention.

    `/healthz` is open to all: it answers while the reactor does. The others need the right to read there (spec section 10).
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(metrics))

    def healthz(_principal: Callable[[], Principal], _accept: tuple[str, ...]) -> Plain:
        return Plain(200, "text/plain;charset=utf-8", b"ok\n")

    def readyz(principal: Callable[[], Principal], _accept: tuple[str, ...]) -> Plain:
        check_access(principal(), Method.GET, READYZ)
        reasons = unready()
        return Plain(503 if reasons else 200, JSON, dump_json({"ready": not reasons, "reasons": reasons, "warnings": warnings()}))

    def exposition(principal: Callable[[], Principal], accept: tuple[str, ...]) -> Plain:
        check_access(principal(), Method.GET, METRICS)
        if any(kind.partition(";")[0] == _OPENMETRICS for kind in accept):
            return Plain(200, openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(registry))
        return Plain(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry))

    return {HEALTHZ: healthz, READYZ: readyz, METRICS: exposition}


def _family(name: str, about: str, instruments: Mapping[tuple[tuple[str, str], ...], Instrument]) -> Metric:
    names = sorted({label for labels in instruments for label, _ in labels})
    first = next(iter(instruments.values()), None)
    if isinstance(first, Counter):
        counters = CounterMetricFamily(name.removesuffix("_total"), about, labels=names)
        for labels, instrument in instruments.items():
            if isinstance(instrument, Counter):
                counters.add_metric(_values(names, labels), instrument.value)
        return counters
    if isinstance(first, Histogram):
        histograms = HistogramMetricFamily(name, about, labels=names)
        for labels, instrument in instruments.items():
            if isinstance(instrument, Histogram):
                histograms.add_metric(_values(names, labels), _buckets(instrument), instrument.total)
        return histograms
    gauges = GaugeMetricFamily(name, about, labels=names)
    for labels, instrument in instruments.items():
        if not isinstance(instrument, Counter | Histogram) and (value := _read(name, instrument)) is not None:
            gauges.add_metric(_values(names, labels), value)
    return gauges


def _read(name: str, gauge: Callable[[], float]) -> float | None:
    try:
        return float(gauge())
    except Exception:  # noqa: BLE001 - one gauge that fails must not hide all the others
        _log.failure("The gauge {name} cannot be read", name=name)
        return None


def _values(names: list[str], labels: tuple[tuple[str, str], ...]) -> list[str]:
    given = dict(labels)
    return [given.get(name, "") for name in names]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(repr(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
