"""The gateway's traffic as metrics: made from what the worker keeps computed, without a query.

A counter must not fall, and must not jump: Prometheus takes both for traffic. So a value that has labels of
its own keeps them, and one that is among the others stays there. Values get labels as they appear, those with
most requests first, until there are `CHAT_STATS_USAGE_METRICS_TOP`; Redis remembers which.

chat-stats:v2:usage:model_id:50   values that have labels (a set)
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.errors import TROUBLE
from chat_stats.service.cache.store import Cache
from chat_stats.service.catalogue.dimensions import Dimension
from chat_stats.service.catalogue.question_parameters import NULL
from chat_stats.service.catalogue.rows import Row
from chat_stats.service.catalogue.usage_questions import QUANTILES
from chat_stats.service.errors import Unavailable
from chat_stats.service.observability import usage_metrics as metrics
from chat_stats.service.observability.metrics import Counts, Labels, Metric
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Stats

#: Label value of all that have no labels of their own.
OTHERS = "others"

Gauges = dict[str, dict[Labels, float]]


class UsageMetrics:
    """One per process."""

    def __init__(self, settings: Settings, stats: Stats, cache: Cache) -> None:
        self._questions = settings.usage_questions
        self._top = settings.usage_metrics_top
        self._stats = stats
        self._cache = cache
        #: What Redis remembers, for when it is away.
        self._labelled: dict[str, frozenset[bytes]] = {}

    async def collect(self) -> tuple[Counts, Gauges]:
        """Return all metrics; raises `Unavailable` when none of the answers is cached."""
        made = _Made()
        # Totals come before times, which show the same models.
        for question in self._questions:
            entry = await self._stats.known(question.query)
            if entry is None:
                continue
            rows: list[Row] = orjson.loads(entry.body)
            if question.of_times:
                made.add_times(rows, entry, self._labelled.get(question.dimension.name, frozenset()))
            else:
                labelled = await self._choose(question.dimension, rows)
                made.add_totals(question.dimension, rows, entry, labelled)
                age = entry.age_seconds(self._cache.clock.now())
                made.put(metrics.AGE, (question.dimension.name,), age)
        if not made.gauges:
            raise Unavailable("the worker has not computed the gateway's usage yet")
        return made.counts, made.gauges

    async def _choose(self, dimension: Dimension, rows: list[Row]) -> frozenset[bytes]:
        """Return which values have labels of their own, after giving them to new ones while there is room."""
        name, redis = dimension.name, self._cache.redis
        key = self._cache.key("usage", name, str(self._top))
        stored = await self._cache.attempt(lambda: redis.smembers(key))  # type: ignore[arg-type,return-value]
        labelled = self._labelled.get(name, frozenset()) if stored is None else frozenset(stored)
        room = max(0, self._top - len(labelled))
        new = [value for row in rows if (value := _identity(dimension, row)) not in labelled][:room]
        if new and stored is not None:
            with suppress(*TROUBLE):  # they are chosen again from what this process remembers
                await redis.sadd(key, *new)  # type: ignore[misc]
        self._labelled[name] = labelled.union(new)
        return self._labelled[name]


class _Made:
    """The metrics, as they grow."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.gauges: Gauges = {}

    def put(self, metric: Metric, labels: Labels, value: float) -> None:
        values = self.gauges.setdefault(metric.name, {})
        values[labels] = values.get(labels, 0.0) + value

    def add_totals(
        self, dimension: Dimension, rows: list[Row], entry: Entry, labelled: frozenset[bytes]
    ) -> None:
        by_model = dimension.kind == "model"
        others: Labels = (OTHERS, OTHERS, OTHERS) if by_model else (dimension.name, OTHERS)
        has_cost = "total_cost_usd" not in entry.unavailable
        self._add(others, entry.totals["others"], by_model=by_model, has_cost=has_cost)
        for row in rows:
            own = _labels(dimension, row) if _identity(dimension, row) in labelled else others
            self._add(own, row, by_model=by_model, has_cost=has_cost)

    def _add(self, labels: Labels, figures: Mapping[str, Any], *, by_model: bool, has_cost: bool) -> None:
        """Add figures; to what is there, should two values have the same labels."""
        requests, failed, pending, tokens, cost = _OF_MODELS if by_model else _OF_VALUES
        self.counts.increase(requests, labels, figures["total_requests"])
        self.counts.increase(failed, labels, figures["failed_requests"])
        self.put(pending, labels, figures["pending_requests"])
        self.counts.increase(tokens, (*labels, "input"), figures["total_input_tokens"])
        self.counts.increase(tokens, (*labels, "output"), figures["total_output_tokens"])
        if has_cost:
            self.counts.increase(cost, labels, figures["total_cost_usd"])

    def add_times(self, rows: list[Row], entry: Entry, labelled: frozenset[bytes]) -> None:
        """Add percentiles of models that have labels: those of the others cannot be added up."""
        for quantile, name in QUANTILES.items():
            self.put(metrics.ALL_TIME, (quantile,), entry.totals["total"][name] / 1000)
            for row in rows:
                if _key(row["provider_id"], row["model_id"]) in labelled:
                    self.put(metrics.TIME, (*_model_labels(row), quantile), row[name] / 1000)


_OF_MODELS = metrics.REQUESTS, metrics.FAILED, metrics.PENDING, metrics.TOKENS, metrics.COST
_OF_VALUES = (
    metrics.REQUESTS_BY,
    metrics.FAILED_BY,
    metrics.PENDING_BY,
    metrics.TOKENS_BY,
    metrics.COST_BY,
)


def _identity(dimension: Dimension, row: Row) -> bytes:
    """Return what names the value of a row in Redis."""
    if dimension.kind == "model":
        return _key(row["provider_id"], row["model_id"])
    return _key(row[dimension.name])


def _key(*values: Any) -> bytes:
    return orjson.dumps(values)


def _labels(dimension: Dimension, row: Row) -> Labels:
    if dimension.kind == "model":
        return _model_labels(row)
    value = row[dimension.name_field if dimension.is_id else dimension.name]
    return dimension.name, NULL if value is None else str(value)


def _model_labels(row: Row) -> Labels:
    return str(row["provider_name"]), str(row["model_name"]), str(row["model_id"])
