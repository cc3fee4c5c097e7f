"""Labels that counters have from the start, at 0.

A counter that appears with its first event is not seen to increase by it: Prometheus' `rate` and `increase`
compare two samples, and an alert would miss exactly the first fallback or the first error.
"""

from itertools import product
from typing import get_args

from chat_stats.service import errors
from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.catalogue.schemas import Metadata
from chat_stats.service.observability import metrics
from chat_stats.service.observability.metrics import NONE, Labels

METHODS: tuple[str, ...] = get_args(Metadata.model_fields["method"].annotation)
_FALLBACKS = [method for method in METHODS if method.startswith("fallback")]
CACHE_STATES: tuple[str, ...] = get_args(Metadata.model_fields["cache"].annotation)

#: Why a computation, a refresh or an upkeep of the rollup fails.
FAILURES = (
    errors.DatabaseUnavailable,
    errors.DatabaseBusy,
    errors.ComputationTimedOut,
    errors.SchemaError,
)
_FAILURES = [error.__name__ for error in FAILURES]

#: By the name of the metric; of the first two, a worker has none.
KNOWN_LABELS: dict[str, list[Labels]] = {
    metrics.REQUESTS.name: [
        *product(AGGREGATIONS, CACHE_STATES, METHODS[:1], ["200"]),
        *product(AGGREGATIONS, [NONE], [NONE], ["503"]),
    ],
    metrics.COMPUTATION_FAILURES.name: list(product(AGGREGATIONS, _FAILURES)),
    metrics.COMPUTATIONS.name: list(product(AGGREGATIONS, METHODS)),
    metrics.FALLBACKS.name: list(product(AGGREGATIONS, _FALLBACKS)),
    metrics.METHOD_CHANGES.name: list(product(AGGREGATIONS, METHODS)),
    metrics.CACHE_ERRORS.name: [(kind,) for kind in get_args(metrics.CacheTrouble)],
}

OF_THE_SERVICE = frozenset((metrics.REQUESTS.name, metrics.COMPUTATION_FAILURES.name))
