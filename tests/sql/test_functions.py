"""Properties of the functions that callers rely on, beyond the rows of the sample."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.compute.methods import Method
from chat_stats.service.database.pool import Database
from tests.sql import methods, sample
from tests.sql.calls import FUNCTIONS, NARROWED, rows_of
from tests.sql.conftest import Gateway
from tests.sql.sample import END, MICROSECOND, START
from tests.sql.schemas import PLAIN, Variant

pytestmark = pytest.mark.every_postgres

Connection = asyncpg.Connection

BIGINT_MAX = 2**63 - 1


async def test_the_columns_are_the_promised_ones(owner: Connection, live: Gateway) -> None:
    for name, columns in FUNCTIONS.items():
        statement = await owner.prepare(f"SELECT * FROM {name}({'NULL' if name in NARROWED else ''})")
        assert tuple(attribute.name for attribute in statement.get_attributes()) == columns


async def test_each_bound_of_the_range_may_be_given_alone_and_by_name(
    owner: Connection, live: Gateway
) -> None:
    for name in FUNCTIONS:
        first = f"{PLAIN.id('models', 1)}, " if name in NARROWED else ""
        for bounds in ("p_start => $1", "p_end => $1"):
            await rows_of(owner, f"{name}({first}{bounds})", START)


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(START, START + MICROSECOND, {1: 1}, id="the start counts"),  # request 1
        pytest.param(END - MICROSECOND, END, {1: 1}, id="the microsecond before the end counts"),  # 2
        pytest.param(START - MICROSECOND, START, {2: 1}, id="the end does not count"),  # 5 alone
        pytest.param(START, None, {1: 3, 2: 2, 3: 2, 4: 2}, id="no end"),  # as the day, and request 3
        pytest.param(None, END, {2: 3, 4: 3, 1: 2, 3: 2}, id="no start"),  # as the day, and 5 and 12
        pytest.param(START, START, {}, id="an empty range"),
        pytest.param(END, START, {}, id="a range that ends before it starts"),
    ],
)
async def test_a_range_is_half_open(
    reader: Connection, variant: Variant, start: Any, end: Any, expected: dict[int, int]
) -> None:
    rows = await rows_of(reader, "get_model_request_counts($1, $2)", start, end)
    assert [(row["model_id"], row["request_count"]) for row in rows] == [
        (variant.id("models", model), count) for model, count in expected.items()
    ]


@pytest.mark.parametrize("variant", [PLAIN], ids=str)
async def test_models_that_are_gone_or_idle_or_without_a_provider_have_no_row(
    reader: Connection, variant: Variant
) -> None:
    for model in (*sample.MODELS_THAT_DO_NOT_COUNT, sample.MODEL_WITHOUT_REQUESTS):
        assert await rows_of(reader, f"get_model_request_stats({variant.id('models', model)})") == []
    assert await rows_of(reader, "get_model_request_stats(NULL)") == []
    assert await rows_of(reader, "get_models_with_requests_by_provider(NULL)") == []


async def test_no_requests_at_all_is_an_empty_result_and_a_summary_of_zeros(
    owner: Connection, live: Gateway
) -> None:
    await owner.execute("TRUNCATE chat_completion_requests")
    for name in FUNCTIONS:
        assert await rows_of(owner, f"{name}({PLAIN.id('models', 1) if name in NARROWED else ''})") == []
    assert await rows_of(owner, "get_chat_request_summary()") == [sample.SUMMARY_OF_NOTHING]


async def test_a_success_is_known_by_any_of_its_usual_names(owner: Connection, live: Gateway) -> None:
    successes = [
        "completed",
        "complete",
        "success",
        "successful",
        "succeeded",
        "ok",
        "200",
        "OK",
        "Completed",
    ]
    others = ["failed", "error", "timeout", "", "not ok", "500", None]
    pending = ["pending", "PARTIAL"]
    await owner.execute("TRUNCATE chat_completion_requests")
    await owner.executemany(
        "INSERT INTO chat_completion_requests (id, model_id, status) VALUES ($1, 5000000001, $2)",
        list(enumerate([*successes, *others, *pending])),
    )
    [row] = await rows_of(owner, "get_chat_request_summary()")
    assert (row["successful_requests"], row["failed_requests"], row["pending_requests"]) == (9, 7, 2)
    assert row["success_rate"] == 0.5  # 9/18


async def test_sums_beyond_bigint_are_shown_as_its_limit_by_every_method(
    owner: Connection, live: Gateway, database_of: Callable[[str], Awaitable[Database]]
) -> None:
    await owner.execute("TRUNCATE chat_completion_requests")
    # Model 1: each sum is beyond the limit. Model 2: only their total is.
    await owner.execute(
        f"INSERT INTO chat_completion_requests (id, model_id, input_tokens, output_tokens) VALUES "
        f"(1, 5000000001, {BIGINT_MAX}, {BIGINT_MAX}), (2, 5000000001, 1, {BIGINT_MAX}), "
        f"(3, 5000000002, {BIGINT_MAX}, 1)"
    )
    expected = {
        1: sample.stats(2, BIGINT_MAX, BIGINT_MAX, BIGINT_MAX, 0),
        2: sample.stats(1, BIGINT_MAX, 1, BIGINT_MAX, 0),
    }
    assert await rows_of(owner, "get_models_with_requests()") == sample.model_rows(PLAIN, expected)
    for model, stats in expected.items():
        assert await rows_of(owner, f"get_model_request_stats({PLAIN.id('models', model)})") == [stats]
    [summary] = await rows_of(owner, "get_chat_request_summary()")
    assert summary["total_input_tokens"] == summary["total_tokens"] == BIGINT_MAX

    database = await database_of(live.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        for method in (Method.RPC, Method.OPTIMIZED):
            data, _ = await methods.run(method, snapshot, Query("models"))
            assert [
                row["stats"].items() >= stats.items()
                for row, stats in zip(data, expected.values(), strict=True)
            ] == [True, True]


async def test_means_are_rounded_half_up_to_two_places_by_every_method(
    owner: Connection, live: Gateway, database_of: Callable[[str], Awaitable[Database]]
) -> None:
    await owner.execute("TRUNCATE chat_completion_requests")
    times = {1: ("0", "0.01"), 2: ("1", "1", "2"), 3: ("0.03", "0.04"), 4: ("2.675",)}
    means = {2: 1.33, 1: 0.01, 3: 0.04, 4: 2.68}  # 0.005, 1.333.., 0.035, 2.675; by number of requests
    await owner.executemany(
        "INSERT INTO chat_completion_requests (id, model_id, processing_time_ms) "
        "VALUES ($1, $2, $3::text::numeric)",
        [
            (model * 10 + number, PLAIN.id("models", model), time)
            for model, times_of_model in times.items()
            for number, time in enumerate(times_of_model)
        ],
    )
    rows = await rows_of(owner, "get_models_with_requests()")
    assert [row["stats"]["avg_processing_time_ms"] for row in rows] == list(means.values())
    database = await database_of(live.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        data, _ = await methods.run(Method.OPTIMIZED, snapshot, Query("models"))
    assert [row["stats"]["avg_processing_time_ms"] for row in data] == list(means.values())


async def test_functions_of_one_value_are_put_in_place_of_their_calls(
    owner: Connection, live: Gateway
) -> None:
    calls = (
        "chat_stats_bucket(created_at), chat_stats_day(created_at), chat_stats_slot(created_at), "
        "chat_stats_interval_start('1d', created_at, 'UTC'), chat_stats_is_success(concat(status)), "
        "chat_stats_is_pending(concat(status)), "
        "chat_stats_bin(processing_time_ms), chat_stats_bin_value(id::smallint), "
        "chat_stats_saturate(cost_usd), chat_stats_mean(cost_usd, id), chat_stats_month(created_at::date), "
        "chat_stats_bucket_at(created_at::date, id::smallint)"
    )
    plan = await owner.fetch(f"EXPLAIN (VERBOSE, COSTS off) SELECT {calls} FROM chat_completion_requests")
    assert [line[0] for line in plan if "chat_stats_" in line[0]] == []


async def test_a_padded_status_counts_as_without_its_blanks(owner: Connection, live: Gateway) -> None:
    for status in ("'ok'", "'Succeeded'::char(20)"):
        assert await owner.fetchval(f"SELECT chat_stats_is_success(concat({status}))")
    for status in ("NULL::text", "'failed'::char(20)", "''"):
        assert not await owner.fetchval(f"SELECT chat_stats_is_success(concat({status}))")
