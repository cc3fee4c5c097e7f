"""Which method answers when the one before it really fails."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import orjson
import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.rows import PERCENTILE_FIELDS, UNKNOWN_FROM_COUNTS
from chat_stats.service.compute import ladder, percentiles, usage
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.ladder import compute, compute_together
from chat_stats.service.compute.methods import Method, MethodLog
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ComputationTimedOut
from tests.sql import sample_answers as answers
from tests.sql.conftest import Ask, BuildGateway, Gateway, Role
from tests.sql.schemas import PLAIN
from tests.sql.slow_requests import CANCELED, slow_requests

Connection = asyncpg.Connection

MODELS = Query("models")
MODEL_ROWS = answers.model_rows(PLAIN, answers.OF_ALL)
UNKNOWN = (*UNKNOWN_FROM_COUNTS, *PERCENTILE_FIELDS)
COUNTED_MODEL_ROWS = [answers.known(row, UNKNOWN) for row in MODEL_ROWS]


def as_json(computed: Computed) -> Any:
    return orjson.loads(orjson.dumps(computed.data))


async def test_the_function_answers_when_it_works(ask: Ask) -> None:
    computed = await ask(MODELS)
    assert (computed.method, computed.unavailable) == (Method.RPC, ())
    assert as_json(computed) == MODEL_ROWS
    assert computed.totals["total_models"] == 4


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("DROP FUNCTION get_models_with_requests", id="missing"),
        pytest.param("DROP FUNCTION chat_stats_usage", id="lacks a function that it calls"),
        pytest.param(
            "REVOKE EXECUTE ON FUNCTION get_models_with_requests FROM PUBLIC, CURRENT_USER", id="refused"
        ),
        pytest.param(
            "CREATE FUNCTION fail() RETURNS int LANGUAGE sql AS 'SELECT 1/0';"
            "CREATE OR REPLACE FUNCTION chat_stats_has_cost() RETURNS boolean LANGUAGE sql "
            "AS 'SELECT fail() = 1'",
            id="broken",
        ),
        pytest.param(
            "DROP FUNCTION get_models_with_requests;"
            "CREATE FUNCTION get_models_with_requests(timestamptz, timestamptz) "
            "RETURNS TABLE (model text, requests int) LANGUAGE sql AS $$ SELECT 'a', 1 $$",
            id="foreign, with other columns",
        ),
        pytest.param(
            "CREATE FUNCTION get_models_with_requests(a timestamptz, b timestamptz, c int DEFAULT 0) "
            "RETURNS int LANGUAGE sql AS 'SELECT 1'",
            id="ambiguous",
        ),
    ],
)
async def test_the_grouped_statement_answers_when_the_function_is(
    owner: Connection, ask: Ask, trouble: str
) -> None:
    await owner.execute(trouble)
    computed = await ask(MODELS)
    assert (computed.method, computed.unavailable) == (Method.OPTIMIZED, ())
    assert as_json(computed) == MODEL_ROWS


async def test_the_grouped_statement_answers_when_the_function_takes_too_long(
    owner: Connection, ask: Ask
) -> None:
    await owner.execute(slow_requests("chat_stats_usage"))
    computed = await ask(MODELS, timeout=1)
    assert (computed.method, computed.unavailable) == (Method.OPTIMIZED, ())
    assert as_json(computed) == MODEL_ROWS


async def test_counts_answer_when_the_role_may_not_read_the_columns_of_the_grouped_statement(
    owner: Connection, reading_role: Role, ask: Ask
) -> None:
    await owner.execute(
        f"GRANT SELECT ON providers, models TO {reading_role.name};"
        "GRANT SELECT (id, model_id, created_at) ON chat_completion_requests "
        f"TO {reading_role.name}"
    )
    computed = await ask(MODELS, url=reading_role.url)
    assert (computed.method, computed.unavailable) == (Method.WITH_COUNTS, UNKNOWN)
    assert as_json(computed) == COUNTED_MODEL_ROWS


async def test_counts_answer_when_the_grouped_statement_takes_too_long(owner: Connection, ask: Ask) -> None:
    await owner.execute("DROP FUNCTION get_models_with_requests")
    await owner.execute(slow_requests("fallback_optimized"))
    computed = await ask(MODELS, timeout=1)
    assert (computed.method, computed.unavailable) == (Method.WITH_COUNTS, UNKNOWN)
    assert as_json(computed) == COUNTED_MODEL_ROWS


@pytest.mark.parametrize(
    "trouble",
    [
        "DROP FUNCTION chat_stats_level_percentiles",
        "DROP FUNCTION chat_stats_histograms",
        "REVOKE EXECUTE ON FUNCTION chat_stats_level_percentiles FROM PUBLIC, CURRENT_USER",
        "DROP FUNCTION chat_stats_level_percentiles;"
        "CREATE FUNCTION chat_stats_level_percentiles(text[], timestamptz, timestamptz, text, text, text) "
        "RETURNS TABLE (level text, percentile int) LANGUAGE sql AS $$ SELECT 'model', 1 $$",
    ],
    ids=["missing", "broken", "refused", "foreign"],
)
async def test_the_percentiles_have_a_plain_statement_of_their_own(
    owner: Connection,
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setattr(percentiles, "_last_trouble", {})
    await owner.execute(trouble)
    for _ in range(2):
        computed = await ask(MODELS)
        assert (computed.method, computed.unavailable) == (Method.RPC, ())
        assert as_json(computed) == MODEL_ROWS
    said = [message for message in caplog.messages if "percentiles" in message]
    assert len(said) == 1
    assert said[0].startswith("the percentiles of models are computed without their function: ")


async def heard_statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the statements that will be run."""
    heard: list[str] = []
    fetch = Snapshot.fetch

    async def hear(self: Snapshot, sql: str, *args: Any, **options: Any) -> list[asyncpg.Record]:
        heard.append(sql)
        return await fetch(self, sql, *args, **options)

    monkeypatch.setattr(Snapshot, "fetch", hear)
    return heard


ANSWERS = [Query(name) for name in ("providers", "models", "counts", "summary")]


async def test_all_answers_of_a_range_are_made_from_the_rows_of_one_statement(
    live: Gateway, database_of: Callable[[str], Awaitable[Database]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await database_of(live.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        apart = {query: (await compute(snapshot, query, timeout=20)).data for query in ANSWERS}
        heard = await heard_statements(monkeypatch)
        together = await compute_together(snapshot, ANSWERS, timeout=20)
    assert {query: each.data for query, each in together.items() if isinstance(each, Computed)} == apart
    reading = [sql for sql in heard if "_usage(" in sql or "_percentiles(" in sql]
    assert len(reading) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        "DROP FUNCTION get_model_request_counts",
        "REVOKE EXECUTE ON FUNCTION get_model_request_counts FROM PUBLIC, CURRENT_USER",
    ],
    ids=["missing", "refused"],
)
async def test_an_answer_whose_function_does_not_work_is_computed_without_it_and_the_others_with_theirs(
    owner: Connection, live: Gateway, database_of: Callable[[str], Awaitable[Database]], trouble: str
) -> None:
    await owner.execute(trouble)
    database = await database_of(live.url)
    async with database.snapshot(wait_seconds=5) as snapshot:
        computed = await compute_together(snapshot, ANSWERS, timeout=20)
    methods = {query.aggregation: getattr(each, "method", each) for query, each in computed.items()}
    assert methods == {
        "providers": Method.RPC,
        "models": Method.RPC,
        "summary": Method.RPC,
        "counts": Method.OPTIMIZED,
    }


async def test_percentiles_that_take_too_long_are_0_and_named(owner: Connection, ask: Ask) -> None:
    await owner.execute(slow_requests("chat_stats_level_percentiles"))
    computed = await ask(MODELS, timeout=1)
    assert (computed.method, computed.unavailable) == (Method.RPC, PERCENTILE_FIELDS)
    unknown = dict.fromkeys(PERCENTILE_FIELDS, 0)
    assert as_json(computed) == [{**row, "stats": {**row["stats"], **unknown}} for row in MODEL_ROWS]


async def test_slices_answer_when_the_counts_take_too_long(owner: Connection, ask: Ask) -> None:
    await owner.execute("DROP FUNCTION get_models_with_requests")
    await owner.execute(slow_requests("fallback_optimized|fallback_with_counts"))
    computed = await ask(MODELS, timeout=2)
    assert (computed.method, computed.unavailable) == (Method.SLICES, UNKNOWN)
    assert as_json(computed) == COUNTED_MODEL_ROWS


async def test_thirteen_thousand_models_are_counted_by_one_statement(
    owner: Connection, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.execute("DROP FUNCTION get_models_with_requests")
    await owner.execute(
        "INSERT INTO models (id, provider_id, model_name) "
        "SELECT n, 5000000001, 'many' FROM generate_series(6000000001, 6000013000) AS n"
    )
    await owner.execute(slow_requests("fallback_optimized", delay=CANCELED))
    heard = await heard_statements(monkeypatch)
    computed = await ask(MODELS)
    assert computed.method is Method.WITH_COUNTS
    assert as_json(computed) == COUNTED_MODEL_ROWS
    assert len([sql for sql in heard if "fallback_with_counts" in sql]) == 1


async def test_the_time_of_a_method_is_for_all_of_its_statements(
    owner: Connection, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "SLICE_ROWS", 1)
    await owner.execute("DROP FUNCTION get_models_with_requests")
    # Each slice has one row and takes 0.2 s, within its time: 26 of them are too long for the method.
    await owner.execute(
        slow_requests("fallback_(optimized|with)", otherwise="pg_sleep(0.2) IS NOT NULL", delay=CANCELED)
    )
    await owner.execute("ALTER ROLE CURRENT_USER SET enable_seqscan = off")
    await owner.execute("ALTER ROLE CURRENT_USER SET enable_sort = off")
    with pytest.raises(ComputationTimedOut):
        await ask(MODELS, timeout=2)


async def test_a_slice_that_takes_too_long_is_cut_smaller(
    owner: Connection, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "SLICE_ROWS", 16)
    monkeypatch.setattr(usage, "SMALLEST_SLICE_ROWS", 4)
    await owner.execute("DROP FUNCTION get_models_with_requests")
    # 16 rows take 0.48 seconds, of 0.25; 4 rows take 0.12. Only an index ends a slice early.
    await owner.execute(
        slow_requests("fallback_(optimized|with)", otherwise="pg_sleep(0.03) IS NOT NULL", delay=CANCELED)
    )
    await owner.execute("ALTER ROLE CURRENT_USER SET enable_seqscan = off")
    await owner.execute("ALTER ROLE CURRENT_USER SET enable_sort = off")
    computed = await ask(MODELS, timeout=2)
    assert computed.method is Method.SLICES
    assert as_json(computed) == COUNTED_MODEL_ROWS


async def test_each_method_gets_half_of_the_time_of_the_one_before(owner: Connection, ask: Ask) -> None:
    await owner.execute(slow_requests("."))
    # Whatever has its due time is canceled as if that had passed. What has another answers, and the last one.
    await owner.execute("""
        CREATE OR REPLACE FUNCTION get_through() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
        DECLARE due text := CASE
            WHEN current_query() ~ 'chat_stats_usage' THEN '20s'
            WHEN current_query() ~ 'fallback_optimized' THEN '10s'
            WHEN current_query() ~ 'fallback_with_counts' THEN '5s'
            ELSE '2500ms'
        END;
        share interval := due::interval - current_setting('statement_timeout')::interval;
        BEGIN
            IF share BETWEEN '0' AND '1s' AND due <> '2500ms' THEN
                RAISE EXCEPTION 'in time' USING ERRCODE = 'query_canceled';
            END IF;
            RETURN due <> '2500ms' OR share BETWEEN '0' AND '1s';
        END $$
    """)
    computed = await ask(MODELS, timeout=20)
    assert computed.method is Method.SLICES
    assert as_json(computed) == COUNTED_MODEL_ROWS


async def test_the_step_down_is_logged_once_and_so_is_the_way_back(
    owner: Connection, ask: Ask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "METHOD_LOG", log := MethodLog())
    monkeypatch.setattr(percentiles, "_last_trouble", {})
    await owner.execute("ALTER FUNCTION get_models_with_requests RENAME TO hidden")
    await ask(MODELS)
    await ask(MODELS)
    await owner.execute("ALTER FUNCTION hidden RENAME TO get_models_with_requests")
    await ask(MODELS)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert (
        "models is computed by fallback_optimized: get_models_with_requests is missing" in caplog.messages[0]
    )
    assert caplog.messages[1] == "models is computed by rpc again"
    assert log.fallbacks == {"fallback_optimized": 2}


async def test_a_database_without_the_functions_still_answers(build_gateway: BuildGateway, ask: Ask) -> None:
    unmigrated = await build_gateway(PLAIN)
    for name in AGGREGATIONS:
        model_id = str(PLAIN.id("models", 1)) if name == "model" else None
        assert (await ask(Query(name, model_id=model_id), url=unmigrated.url)).method is Method.OPTIMIZED
