"""What the node did within the last hour, in steps of some seconds: for the plots of the overview.

Reads the metrics (`model.metrics`); counts nothing itself. In memory, of fixed size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from m2mapp.model.metrics import Counter, Histogram, Metrics

STEP_S = 5.0
_STEPS = 720


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot: its name, and the metrics whose growth a second it shows (or, `mean_ms`, the mean of whose values)."""

    name: str
    metrics: tuple[str, ...]
    mean_ms: bool = False


TRAFFIC = (
    Series("HTTP requests/s", ("m2mapp_http_requests_total",)),
    Series("CoAP datagrams in/s", ("m2mapp_coap_datagrams_received_total",)),
    Series("CoAP datagrams out/s", ("m2mapp_coap_datagrams_sent_total",)),
)
LATENCY = (
    Series("HTTP answer, ms", ("m2mapp_http_request_seconds",), mean_ms=True),
    Series("group operation, ms", ("m2mapp_group_request_seconds",), mean_ms=True),
    Series("flush to disk, ms", ("m2mapp_store_flush_seconds",), mean_ms=True),
    Series("reactor's lag, ms", ("m2mapp_reactor_lag_seconds",), mean_ms=True),
)


class Samples:
    """The samples of one node, taken by `take`."""

    def __init__(self, metrics: Metrics, now_ms: Callable[[], int], series: Iterable[Series] = (*TRAFFIC, *LATENCY)) -> None:
        self._metrics, self._now_ms = metrics, now_ms
        self._series = tuple(series)
        self._times: deque[float] = deque(maxlen=_STEPS)
        self._values: tuple[deque[float | None], ...] = tuple(deque(maxlen=_STEPS) for _ in self._series)
        self._before: list[tuple[float, float]] | None = None

    def take(self, passed_s: float) -> None:
        """Take one sample, so many seconds after the last."""
        now = self._read()
        if self._before is not None and passed_s > 0:
            self._times.append(self._now_ms() / 1000)
            for series, values, before, after in zip(self._series, self._values, self._before, now, strict=True):
                values.append(_growth(series, before, after, passed_s))
        self._before = now

    def document(self, wanted: Iterable[Series]) -> dict[str, object]:
        """The points of some of the series, as the page's script draws them: `x` in seconds since 1970, a list of values for each."""
        chosen = set(wanted)
        pairs = zip(self._series, self._values, strict=True)
        lines = [{"name": series.name, "values": list(values)} for series, values in pairs if series in chosen]
        return {"x": list(self._times), "lines": lines}

    def last(self) -> list[tuple[Series, float | None]]:
        """The newest value of each series."""
        return [(series, values[-1] if values else None) for series, values in zip(self._series, self._values, strict=True)]

    def _read(self) -> list[tuple[float, float]]:
        """For each series a sum, and how many values went into it."""
        found: dict[str, tuple[float, float]] = {}
        for name, _, instruments in self._metrics.collect():
            counts = [(float(one.value), 1.0) for one in instruments.values() if isinstance(one, Counter)]
            timed = [(one.total, float(sum(one.counts))) for one in instruments.values() if isinstance(one, Histogram)]
            found[name] = (sum(total for total, _ in (*counts, *timed)), sum(number for _, number in timed))
        return [
            (sum(found.get(name, (0.0, 0.0))[0] for name in series.metrics), sum(found.get(name, (0.0, 0.0))[1] for name in series.metrics))
            for series in self._series
        ]


def _growth(series: Series, before: tuple[float, float], after: tuple[float, float], passed_s: float) -> float | None:
    total, number = after[0] - before[0], after[1] - before[1]
    if series.mean_ms:
        return round(1000 * total / number, 3) if number > 0 else None
    return round(total / passed_s, 3)
