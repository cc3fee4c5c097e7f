"""What a question may ask for: the measures, and what is derived from them. SQL: `macros/figures.sql.j2`.

Sums add up over groups, so everything is derived from sums, of a row, of the other groups or of all: a mean
is never made of means.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chat_stats.service.catalogue.rows import PERCENTILE_FIELDS


@dataclass(frozen=True, slots=True)
class Figure:
    """`needs` names measures of `service.catalogue.measures`, by which it is derived."""

    name: str
    type: Literal["int", "float"]
    needs: tuple[str, ...]
    meaning: str

    @property
    def is_percentile(self) -> bool:
        return self.name in PERCENTILE_FIELDS


_COST = "cost_usd"

FIGURES = {
    figure.name: figure
    for figure in (
        Figure("total_requests", "int", (), "All requests."),
        Figure("successful_requests", "int", ("successful",), "Requests that succeeded."),
        Figure(
            "failed_requests",
            "int",
            ("successful", "pending"),
            "Requests that neither succeeded nor are pending.",
        ),
        Figure("pending_requests", "int", ("pending",), "Requests that are under way."),
        Figure(
            "success_rate",
            "float",
            ("successful",),
            "Share of successful requests, from 0 to 1; 0 without requests.",
        ),
        Figure("total_input_tokens", "int", ("input_tokens",), "Input tokens."),
        Figure("total_output_tokens", "int", ("output_tokens",), "Output tokens."),
        Figure("total_tokens", "int", ("input_tokens", "output_tokens"), "Input plus output."),
        Figure("avg_input_tokens", "float", ("input_tokens",), "Input tokens per request."),
        Figure("avg_output_tokens", "float", ("output_tokens",), "Output tokens per request."),
        Figure("avg_total_tokens", "float", ("input_tokens", "output_tokens"), "Tokens per request."),
        Figure(
            "avg_processing_time_ms",
            "float",
            ("timed", "time_ms"),
            "Mean over the requests that have a time, in milliseconds; 0 when there are none.",
        ),
        *(
            Figure(
                name,
                "float",
                (),
                f"Time that {name[1:3]} % of the requests with one did not exceed, in milliseconds, within "
                "2.5 %; 0 when there are none.",
            )
            for name in PERCENTILE_FIELDS
        ),
        Figure(
            "tokens_per_second",
            "float",
            ("output_tokens", "time_ms"),
            "Output tokens divided by the processing times in seconds; 0 without times.",
        ),
        Figure("total_cost_usd", "float", (_COST,), "Cost in dollars."),
        Figure("avg_cost_usd", "float", (_COST,), "Cost per request in dollars."),
    )
}

#: Before the name of a dimension: how many different values of it there are. They do not add up.
DISTINCT = "distinct_"

DEFAULT_FIGURES = (
    "total_requests",
    "failed_requests",
    "total_tokens",
    "avg_processing_time_ms",
    "total_cost_usd",
)


def figure_of(name: str) -> Figure:
    if name.startswith(DISTINCT):
        return Figure(name, "int", (), f"Different values of `{name.removeprefix(DISTINCT)}`.")
    return FIGURES[name]


def needed(names: Iterable[str]) -> set[str]:
    """Return the measures that these figures are derived from."""
    return {"requests", *(measure for name in names for measure in figure_of(name).needs)}


def of_cost(names: Iterable[str]) -> tuple[str, ...]:
    """Return those that cannot be known where requests have no cost."""
    return tuple(name for name in names if _COST in figure_of(name).needs)
