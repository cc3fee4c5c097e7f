"""Every metric by name: those of the service, and those that the worker alone has."""

from typing import Literal, cast

from prometheus_client import Counter, Gauge, Histogram

from chat_stats.service.observability.metrics import METRICS, Metric
from chat_stats.service.observability.usage_metrics import USAGE_METRICS
from chat_stats.worker import metrics as worker_metrics


def _of_the_worker() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for declared in vars(worker_metrics).values():
        if isinstance(declared, Counter | Gauge | Histogram):
            (family,) = declared.collect()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            kind = cast("Literal['counter', 'gauge', 'histogram']", family.type)
            found[name] = Metric(name, kind, tuple(declared._labelnames), family.documentation)
    return found


OF_THE_WORKER = _of_the_worker()
DECLARED = {**METRICS, **OF_THE_WORKER, **USAGE_METRICS}
