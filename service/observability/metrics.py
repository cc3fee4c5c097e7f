"""What is measured: every metric declared once, and the counts of this process.

Counting must cost next to nothing where an answer does (prometheus_client's own counter and histogram take a
microsecond, three when processes share them), so a service's counts are plain dictionaries. (What the worker
alone counts are prometheus_client's own: `worker.metrics`.) `exposition` makes
Prometheus' text of them for a scrape, `shared_counts` adds up those of several processes. What is
looked at only then (ages, what is reachable) comes from `service.health`.
"""

import functools
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Labels = tuple[str, ...]

#: What is wrong with Redis, or with what lies there.
CacheTrouble = Literal["unreachable", "refused", "undecodable"]

#: Label value of an answer that involved no cache or no computation.
NONE = "none"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as `/metrics` shows it; `docs/metrics.md` has a row for each (a test compares them)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    meaning: str
    #: Of a histogram: upper bounds of its buckets, without infinity.
    bounds: tuple[float, ...] = ()


#: By name.
METRICS: dict[str, Metric] = {}


def _declare(
    kind: Literal["counter", "gauge", "histogram"],
    name: str,
    meaning: str,
    *labels: str,
    bounds: tuple[float, ...] = (),
) -> Metric:
    metric = Metric(f"chat_stats_{name}", kind, labels, meaning, bounds)
    METRICS[metric.name] = metric
    return metric


REQUEST_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
COMPUTATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Counts of the process, added up over those of a service.
REQUESTS = _declare(
    "counter", "requests_total", "HTTP requests answered.", "endpoint", "cache", "method", "status"
)
REQUEST_DURATION = _declare(
    "histogram",
    "request_duration_seconds",
    "Time from a request to the end of its answer.",
    "endpoint",
    "cache",
    bounds=REQUEST_BOUNDS,
)
COMPUTATIONS = _declare(
    "counter", "computations_total", "Computations that gave a result.", "aggregation", "method"
)
COMPUTATION_DURATION = _declare(
    "histogram",
    "computation_duration_seconds",
    "Time that a computation took, with the methods that it tried in vain.",
    "method",
    bounds=COMPUTATION_BOUNDS,
)
COMPUTATION_FAILURES = _declare(
    "counter", "computation_failures_total", "Live computations that failed.", "aggregation", "error"
)
FALLBACKS = _declare(
    "counter", "fallbacks_total", "Computations by another method than rpc.", "aggregation", "method"
)
METHOD_CHANGES = _declare(
    "counter",
    "method_changes_total",
    "Changes of an aggregation's method, to this one.",
    "aggregation",
    "method",
)
CACHE_ERRORS = _declare(
    "counter", "cache_errors_total", "Redis trouble and entries that could not be read.", "kind"
)
EVENT_STREAMS_DROPPED = _declare(
    "counter", "event_streams_dropped_total", "Streams of events whose clients did not read in time."
)

# Of the processes that run now, added up.
PROCESSES = _declare("gauge", "processes", "Processes whose counts these are.")
COMPUTATIONS_RUNNING = _declare("gauge", "computations_running", "Computations under way.")
LOCAL_CACHE_ENTRIES = _declare("gauge", "local_cache_entries", "Answers in the processes' own memory.")
EVENT_STREAMS = _declare("gauge", "event_streams", "Clients that listen to events.")
BUILD_INFO = _declare("gauge", "build_info", "Always 1.", "version")

# Settings that alerts compare with.
REFRESH_INTERVAL = _declare("gauge", "refresh_interval_seconds", "CHAT_STATS_REFRESH_INTERVAL_SECONDS.")
FRESH = _declare("gauge", "fresh_seconds", "CHAT_STATS_FRESH_SECONDS.")

# What is looked at for a scrape.
REDIS_UP = _declare("gauge", "redis_up", "Whether the cache's Redis answers.")
POSTGRES_UP = _declare("gauge", "postgres_up", "Whether Postgres answers.")
STANDBY_UP = _declare("gauge", "standby_up", "Whether this standby is read.", "standby")
STANDBY_LAG = _declare(
    "gauge", "standby_lag_seconds", "Seconds by which this standby is behind the primary.", "standby"
)
QUEUE_UP = _declare("gauge", "queue_up", "Whether the queue's Redis answers.")
WORKER_UP = _declare("gauge", "worker_up", "Whether a worker has reported within the last seconds.")
QUEUE_JOBS = _declare("gauge", "queue_jobs", "Jobs that wait in the worker's queue or run.")
GENERATION_AGE = _declare("gauge", "generation_age_seconds", "Age of the last refresh of everything.")
GENERATION_DURATION = _declare("gauge", "generation_duration_seconds", "Time that this refresh took.")
GENERATION_ENTRIES = _declare("gauge", "generation_entries", "Entries that this refresh published.")
GENERATION_FAILURES = _declare("gauge", "generation_failures", "Parts that this refresh could not compute.")
ENTRY_AGE = _declare(
    "gauge", "entry_age_seconds", "Age of a cached entry that the worker keeps.", "aggregation", "window"
)
ENTRY_METHOD = _declare(
    "gauge", "entry_method", "1 for the method that computed it.", "aggregation", "window", "method"
)
ROLLUP_STATE = _declare("gauge", "rollup_state", "1 for the state that the rollup is in, else 0.", "state")
ROLLUP_TROUBLE = _declare(
    "gauge", "rollup_trouble", "1 for the reason why the rollup is damaged, else 0.", "reason"
)
ROLLUP_DRIFT = _declare(
    "gauge", "rollup_drift_buckets", "Buckets that differed from the requests at the last audit."
)
ROLLUP_DELTAS = _declare(
    "gauge", "rollup_unfolded_deltas", "Deltas that are not folded yet; a million stands for more."
)
ROLLUP_BYTES = _declare("gauge", "rollup_size_bytes", "Size of the rollup in Postgres.")
ROLLUP_FOLD_AGE = _declare("gauge", "rollup_fold_age_seconds", "Time since the last fold.")
ROLLUP_AUDIT_AGE = _declare("gauge", "rollup_audit_age_seconds", "Time since the last audit.")


@dataclass(slots=True)
class Counts:
    """Counters and histograms by metric and labels. A histogram is its buckets' counts, then the sum."""

    counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, dict[Labels, list[float]]] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)

    def increase(self, metric: Metric, labels: Labels = (), by: float = 1) -> None:
        values = self.counters.setdefault(metric.name, {})
        values[labels] = values.get(labels, 0) + by

    def observe(self, metric: Metric, seconds: float, labels: Labels = ()) -> None:
        cells = self._cells(metric.name, labels, len(metric.bounds) + 2)
        cells[bisect_left(metric.bounds, seconds)] += 1
        cells[-1] += seconds

    def add(self, other: "Counts", *, gauges: bool = True) -> None:
        """Add what another process (without `gauges`: one that has ended) counted."""
        for name, values in list(other.counters.items()):
            mine = self.counters.setdefault(name, {})
            for labels, value in list(values.items()):
                mine[labels] = mine.get(labels, 0) + value
        for name, histograms in list(other.histograms.items()):
            for labels, cells in list(histograms.items()):
                sums = self._cells(name, labels, len(cells))
                sums[:] = [one + another for one, another in zip(sums, cells, strict=True)]
        for name, value in other.gauges.items() if gauges else ():
            self.gauges[name] = self.gauges.get(name, 0) + value

    def encode(self) -> dict[str, Any]:
        """Return it as JSON has it, where the keys of an object are strings."""
        return {
            "counters": {name: list(values.items()) for name, values in self.counters.items()},
            "histograms": {name: list(values.items()) for name, values in self.histograms.items()},
            "gauges": self.gauges,
        }

    @classmethod
    def decode(cls, encoded: dict[str, Any]) -> "Counts":
        """Read what `encode` gave. Raises ValueError, KeyError or TypeError when it is something else."""
        return cls(
            {
                name: {tuple(labels): float(value) for labels, value in values}
                for name, values in encoded["counters"].items()
            },
            {
                name: {tuple(labels): [float(cell) for cell in cells] for labels, cells in values}
                for name, values in encoded["histograms"].items()
            },
            {name: float(value) for name, value in encoded["gauges"].items()},
        )

    def _cells(self, name: str, labels: Labels, size: int) -> list[float]:
        histograms = self.histograms.setdefault(name, {})
        if labels not in histograms:
            histograms[labels] = [0.0] * size
        return histograms[labels]


_counts = Counts()
#: Of each (endpoint, cache, method, status): the counts of the buckets of `REQUEST_DURATION`, then the sum.
_answers: dict[tuple[str, str, str, int], list[float]] = {}
_running = [0]
_gauges: dict[str, Callable[[], float]] = {COMPUTATIONS_RUNNING.name: lambda: _running[0]}


def answered(endpoint: str, cache: str, method: str, status: int, seconds: float) -> None:
    """Count one HTTP answer. `endpoint` is the name of a route or aggregation, never a path.

    `cache` and `method` are those of the answer's metadata, or `NONE`. Takes about 0.2 microseconds.
    """
    try:
        cells = _answers[endpoint, cache, method, status]
    except KeyError:
        cells = _answers[endpoint, cache, method, status] = [0.0] * (len(REQUEST_BOUNDS) + 2)
    cells[bisect_left(REQUEST_BOUNDS, seconds)] += 1
    cells[-1] += seconds


def running(compute: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Have the runs of a coroutine function that are under way counted as computations."""

    @functools.wraps(compute)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        _running[0] += 1
        try:
            return await compute(*args, **kwargs)
        finally:
            _running[0] -= 1

    return run


def computed(aggregation: str, method: str, seconds: float) -> None:
    _counts.increase(COMPUTATIONS, (aggregation, method))
    _counts.observe(COMPUTATION_DURATION, seconds, (method,))
    if method != "rpc":
        _counts.increase(FALLBACKS, (aggregation, method))


def computation_failed(aggregation: str, error: BaseException) -> None:
    _counts.increase(COMPUTATION_FAILURES, (aggregation, type(error).__name__))


def method_changed(aggregation: str, method: str) -> None:
    _counts.increase(METHOD_CHANGES, (aggregation, method))


def cache_error(kind: CacheTrouble) -> None:
    _counts.increase(CACHE_ERRORS, (kind,))


def event_stream_dropped() -> None:
    _counts.increase(EVENT_STREAMS_DROPPED)


def gauge(metric: Metric, value: Callable[[], float]) -> None:
    """Have `value` called for that metric of this process for each scrape."""
    _gauges[metric.name] = value


def counts() -> Counts:
    """Return a copy of what this process counted so far, and its gauges now. Safe from another thread."""
    total = Counts()
    total.add(_counts)
    for (endpoint, cache, method, status), cells in list(_answers.items()):
        total.increase(REQUESTS, (endpoint, cache, method, str(status)), sum(cells[:-1]))
        durations: dict[Labels, list[float]] = {(endpoint, cache): list(cells)}
        total.add(Counts(histograms={REQUEST_DURATION.name: durations}))
    total.gauges = {PROCESSES.name: 1, **{name: value() for name, value in list(_gauges.items())}}
    return total


def resume(counts: Counts) -> None:
    """Go on from what a process that has ended counted: a counter must not fall."""
    _counts.add(counts, gauges=False)
