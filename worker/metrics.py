"""What the worker counts: refreshes, folds and audits, in one process and on no request path."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.errors import CacheUnavailable
from chat_stats.service.observability.known_labels import FAILURES

#: What the worker's own `/metrics` shows, beside its computations and its process.
REGISTRY = CollectorRegistry(auto_describe=False)

REFRESH_DURATION = Histogram(
    "chat_stats_refresh_duration_seconds",
    "Time that a refresh took.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    registry=REGISTRY,
)
REFRESH_FAILURES = Counter(
    "chat_stats_refresh_failures_total", "Refreshes that failed.", ["error"], registry=REGISTRY
)
REFRESH_PART_FAILURES = Counter(
    "chat_stats_refresh_part_failures_total",
    "Aggregations over a window that a refresh could not compute.",
    ["aggregation"],
    registry=REGISTRY,
)
TOTALS_DURATION = Histogram(
    "chat_stats_totals_duration_seconds",
    "Time that publishing totals between two refreshes took.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    registry=REGISTRY,
)
TOTALS_FAILURES = Counter(
    "chat_stats_totals_failures_total",
    "Totals between two refreshes that could not be published.",
    ["error"],
    registry=REGISTRY,
)
FOLDED_DELTAS = Counter(
    "chat_stats_folded_deltas_total", "Deltas of the rollup that were folded.", registry=REGISTRY
)
FOLD_FAILURES = Counter(
    "chat_stats_fold_failures_total", "Folds of the rollup that failed.", ["error"], registry=REGISTRY
)
AUDITS = Counter("chat_stats_audits_total", "Audits of the rollup.", registry=REGISTRY)
AUDIT_FAILURES = Counter(
    "chat_stats_audit_failures_total", "Audits of the rollup that failed.", ["error"], registry=REGISTRY
)
PURGED_REQUESTS = Counter(
    "chat_stats_purged_requests_total", "Requests that the worker purged.", registry=REGISTRY
)
PURGE_FAILURES = Counter(
    "chat_stats_purge_failures_total",
    "Purges by the worker that failed, or found the rollup to differ.",
    ["error"],
    registry=REGISTRY,
)
LAST_PURGE = Gauge(
    "chat_stats_last_purge_timestamp_seconds",
    "Unix time of the last purge by this worker that succeeded; 0: none has.",
    registry=REGISTRY,
)


# From 0, as in `known_labels`: so that the first failure is seen to increase them.
for _error in (*FAILURES, CacheUnavailable):
    for _failures in (REFRESH_FAILURES, TOTALS_FAILURES, FOLD_FAILURES, AUDIT_FAILURES, PURGE_FAILURES):
        _failures.labels(_error.__name__)
for _aggregation in AGGREGATIONS.values():
    if _aggregation.kept_computed:
        REFRESH_PART_FAILURES.labels(_aggregation.name)


def count_failure(counter: Counter, error: BaseException) -> None:
    counter.labels(type(error).__name__).inc()
