"""Prometheus' text of what was counted and looked at."""

from collections.abc import Iterable, Mapping
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from chat_stats.service import VERSION
from chat_stats.service.observability import metrics
from chat_stats.service.observability.known_labels import KNOWN_LABELS, OF_THE_SERVICE
from chat_stats.service.observability.metrics import BUILD_INFO, METRICS, Counts, Labels, Metric
from chat_stats.service.observability.usage_metrics import USAGE_METRICS

#: Values of gauges by metric and labels.
Gauges = Mapping[str, Mapping[Labels, float]]


def expose(counts: Counts, gauges: Gauges, *, accept: str, process: bool) -> tuple[bytes, str]:
    """Return the text and its content type, in the format that `accept` prefers.

    With `process` it says what this process uses of memory, processor and files, too.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found(counts, gauges))
    if process:
        ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def expose_usage(counts: Counts, gauges: Gauges, *, accept: str) -> tuple[bytes, str]:
    """The same of the gateway's traffic."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Usage(counts, gauges))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def serve_counts(address: str, port: int, registry: CollectorRegistry) -> int:
    """Serve a worker's `registry` and this process's counts from a thread; return the port.

    OSError: the port is taken.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry.register(_OwnCounts())
    ProcessCollector(registry=registry)
    server, _thread = start_http_server(port, addr=address, registry=registry)
    return int(server.server_port)


class _Found(Collector):
    def __init__(self, counts: Counts, gauges: Gauges) -> None:
        self._counts, self._gauges = counts, gauges

    def collect(self, wanted: Iterable[Metric] = tuple(METRICS.values())) -> Iterable[Family]:
        gauges: dict[str, Mapping[Labels, float]] = {
            BUILD_INFO.name: {(VERSION,): 1.0},
            **{name: {(): value} for name, value in self._counts.gauges.items()},
            **self._gauges,
        }
        return [_family(metric, self._counts, gauges) for metric in wanted]


class _Usage(Collector):
    def __init__(self, counts: Counts, gauges: Gauges) -> None:
        self._counts, self._gauges = counts, gauges

    def collect(self) -> Iterable[Family]:
        families = (_family(metric, self._counts, self._gauges) for metric in USAGE_METRICS.values())
        return [family for family in families if family.samples]


class _OwnCounts(Collector):
    """A worker looks at nothing: the service says what is reachable."""

    def collect(self) -> Iterable[Family]:
        found = _Found(metrics.counts(), {})
        families = found.collect(metric for metric in METRICS.values() if metric.name not in OF_THE_SERVICE)
        return [family for family in families if family.samples]


def _family(metric: Metric, counts: Counts, gauges: Gauges) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        bounds = [*map(str, metric.bounds), "+Inf"]
        for labels, cells in sorted(counts.histograms.get(metric.name, {}).items()):
            *numbers, total = cells
            buckets = list(zip(bounds, accumulate(numbers), strict=True))
            histogram.add_metric(labels, buckets, sum_value=total)
        return histogram
    if metric.kind == "counter":
        counter = CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for labels, value in sorted(_from_zero(metric, counts).items()):
            counter.add_metric(labels, value)
        return counter
    gauge = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in sorted(gauges.get(metric.name, {}).items()):
        gauge.add_metric(labels, value)
    return gauge


def _from_zero(metric: Metric, counts: Counts) -> Mapping[Labels, float]:
    """Return a counter's values, with 0 for the labels that it has from the start."""
    known = KNOWN_LABELS.get(metric.name, []) if metric.labels else [()]
    return dict.fromkeys(known, 0.0) | counts.counters.get(metric.name, {})
