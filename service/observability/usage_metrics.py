"""The metrics of `/metrics/usage`, declared once: the gateway's traffic, and not this process's."""

from chat_stats.service.observability.metrics import Metric

#: By name.
USAGE_METRICS: dict[str, Metric] = {}

_MODEL = ("provider", "model", "model_id")
_VALUE = ("dimension", "value")


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return _add(Metric(f"chat_stats_usage_{name}_total", "counter", labels, meaning))


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return _add(Metric(f"chat_stats_usage_{name}", "gauge", labels, meaning))


def _add(metric: Metric) -> Metric:
    USAGE_METRICS[metric.name] = metric
    return metric


# By model, and by the values of any other dimension.
REQUESTS = _counter("requests", "Requests of the gateway.", *_MODEL)
FAILED = _counter("failed_requests", "Requests that failed.", *_MODEL)
PENDING = _gauge("pending_requests", "Requests that are under way.", *_MODEL)
TOKENS = _counter("tokens", "Tokens; direction is input or output.", *_MODEL, "direction")
COST = _counter("cost_usd", "Cost in dollars.", *_MODEL)
TIME = _gauge(
    "processing_time_seconds", "Percentile of the last hour's processing times.", *_MODEL, "quantile"
)
ALL_TIME = _gauge("all_processing_time_seconds", "The same of all requests.", "quantile")
REQUESTS_BY = _counter("dimension_requests", "Requests by the values of a dimension.", *_VALUE)
FAILED_BY = _counter("dimension_failed_requests", "Requests that failed, by these.", *_VALUE)
PENDING_BY = _gauge("dimension_pending_requests", "Requests that are under way, by these.", *_VALUE)
TOKENS_BY = _counter("dimension_tokens", "Tokens by these.", *_VALUE, "direction")
COST_BY = _counter("dimension_cost_usd", "Cost in dollars by these.", *_VALUE)
AGE = _gauge("age_seconds", "Age of the numbers by a dimension.", "dimension")
