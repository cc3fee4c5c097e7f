"""What the API's answers must say of the sample (`tests.sql.sample`), worked out by hand from its requests.

Statistics: requests; successes, failures, pending, success rate; input, output, total tokens; mean; p50, p90,
p95, p99; cost.

A percentile is the middle of the bin from 1.04^(n-1) to 1.04^n that holds the time of that rank. Those of
1000, 2000, 2, 3 and 4 are 1014.61, 1976.37, 1.99, 3.06 and 4.02.
"""

from typing import Any

from tests.sql import sample
from tests.sql.sample import Row
from tests.sql.schemas import Variant

NAMES = (
    "total_requests",
    "successful_requests",
    "failed_requests",
    "pending_requests",
    "success_rate",
    "total_input_tokens",
    "total_output_tokens",
    "total_tokens",
    "avg_processing_time_ms",
    "p50_processing_time_ms",
    "p90_processing_time_ms",
    "p95_processing_time_ms",
    "p99_processing_time_ms",
    "total_cost_usd",
)


def stats(*values: float) -> Row:
    return dict(zip(NAMES, values, strict=True))


OF_ALL = {
    # ranks 1 and 2 of 1000, 2000
    1: stats(4, 3, 1, 0, 0.75, 600, 70, 670, 1500, 1014.61, 1976.37, 1976.37, 1976.37, 0.07),
    # ranks 2 and 3 of 1, 2, 2
    2: stats(3, 2, 1, 0, 0.6667, 18, 180, 198, 1.67, 1.99, 1.99, 1.99, 1.99, 0.18),
    4: stats(3, 2, 0, 1, 0.6667, 33, 0, 33, 3.5, 3.06, 4.02, 4.02, 4.02, 0.3),
    3: stats(2, 1, 1, 0, 0.5, 9, 1, 10, 0, 0, 0, 0, 0, 0),
}
OF_RANGE = {
    1: stats(2, 2, 0, 0, 1, 300, 30, 330, 1500, 1014.61, 1976.37, 1976.37, 1976.37, 0.03),
    2: stats(2, 1, 1, 0, 0.5, 13, 130, 143, 2, 1.99, 1.99, 1.99, 1.99, 0.13),
    3: stats(2, 1, 1, 0, 0.5, 9, 1, 10, 0, 0, 0, 0, 0, 0),
    4: stats(2, 2, 0, 0, 1, 21, 0, 21, 3.5, 3.06, 4.02, 4.02, 4.02, 0.3),
}

#: models_with_requests, statistics. Times of provider 1: 1, 2, 2, 1000, 2000 (of the range: without the 1);
#: of provider 2: 0, 3, 4.
PROVIDERS_OF_ALL = {
    1: (2, stats(7, 5, 2, 0, 0.7143, 618, 250, 868, 601, 1.99, 1976.37, 1976.37, 1976.37, 0.25)),
    2: (2, stats(5, 3, 1, 1, 0.6, 42, 1, 43, 2.33, 3.06, 4.02, 4.02, 4.02, 0.3)),
}
PROVIDERS_OF_RANGE = {
    1: (2, stats(4, 3, 1, 0, 0.75, 313, 160, 473, 751, 1.99, 1976.37, 1976.37, 1976.37, 0.16)),
    2: (2, stats(4, 3, 1, 0, 0.75, 30, 1, 31, 2.33, 3.06, 4.02, 4.02, 4.02, 0.3)),
}

#: Requests 13 to 26: each completed, of 1000 tokens in and out, 1000 ms and 9 USD, within the range.
UNRESOLVED = stats(14, 14, 0, 0, 1, 14000, 14000, 28000, 1000, 1014.61, 1014.61, 1014.61, 1014.61, 126)

#: Times of 22: 0, 1, 2, 2, 3, 4, 15 of 1000, 2000; so ranks 11, 20, 21 and 22. Of the range, without the 1.
SUMMARY_OF_ALL = stats(
    26, 22, 3, 1, 0.8462, 14660, 14251, 28911, 773.27, 1014.61, 1014.61, 1014.61, 1976.37, 126.55
)
SUMMARY_OF_RANGE = stats(
    22, 20, 2, 0, 0.9091, 14343, 14161, 28504, 810.05, 1014.61, 1014.61, 1014.61, 1976.37, 126.46
)
NOTHING = stats(*(0,) * len(NAMES))


def model_rows(variant: Variant, expected: dict[int, Row], *, provider: int | None = None) -> list[Row]:
    return sample.model_rows(variant, expected, provider=provider)


def provider_rows(variant: Variant, expected: dict[int, tuple[int, Row]]) -> list[Row]:
    rows = sample.provider_rows(variant, {id_: (models, 0) for id_, (models, _) in expected.items()})
    return [row | stats_ for row, (_, stats_) in zip(rows, expected.values(), strict=True)]


def known(row: Row, unknown: tuple[str, ...]) -> Row:
    """Return a row with 0 for what is not known."""
    row = row | {name: 0 for name in unknown if name in row}
    return row | {"stats": known(row["stats"], unknown)} if "stats" in row else row


def in_answer(unknown: tuple[str, ...], *parts: Any) -> tuple[str, ...]:
    """Return those of the fields that an answer has: in a row, its statistics, or its metadata."""
    names = {name for part in parts for name in (*part, *part.get("stats", {}))}
    return tuple(name for name in unknown if name in names)
