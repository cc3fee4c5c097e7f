"""The questions from whose answers `/metrics/usage` is made; the worker keeps them computed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

from chat_stats.service.catalogue.aggregation import Query
from chat_stats.service.catalogue.dimensions import Dimension, Dimensions, parse_dimension
from chat_stats.service.catalogue.question_parameters import parse_question

#: Percentiles, by the quantile that Prometheus calls them.
QUANTILES = {
    "0.5": "p50_processing_time_ms",
    "0.95": "p95_processing_time_ms",
    "0.99": "p99_processing_time_ms",
}

#: Rows of an answer: the values with labels of their own are among them.
ROWS = 1000

_TOTALS = (
    "total_requests,failed_requests,pending_requests,total_input_tokens,total_output_tokens,total_cost_usd"
)


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """Totals over all time, or (`of_times`) percentiles of the last hour."""

    dimension: Dimension
    query: Query
    of_times: bool = False


def usage_questions(names: Iterable[str], known: Dimensions) -> list[UsageQuestion]:
    """Return the questions for these dimensions; `InvalidParameter` names an unknown one."""
    return [
        question
        for name in names
        for question in _questions(parse_dimension("usage_metrics", name, known), known)
    ]


def _questions(dimension: Dimension, known: Dimensions) -> Iterator[UsageQuestion]:
    group_by = "provider_id,model_id" if dimension.kind == "model" else dimension.name
    asked = f"group_by={group_by}&limit={ROWS}"
    yield UsageQuestion(dimension, _parse(f"{asked}&window=all&measures={_TOTALS}", known))
    if dimension.kind == "model":
        measures = ",".join(("total_requests", *QUANTILES.values()))
        yield UsageQuestion(dimension, _parse(f"{asked}&window=1h&measures={measures}", known), of_times=True)


def _parse(text: str, known: Dimensions) -> Query:
    return parse_question(parse_qsl(text), known)
