"""What others plant in a schema of the search_path never runs with the rights of the owner or the service."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.catalogue.timeseries import Series
from chat_stats.service.compute.ladder import compute
from chat_stats.service.compute.methods import LADDER
from chat_stats.service.database.pool import Database
from chat_stats.service.database.rendering import declared
from chat_stats.service.errors import SchemaError
from chat_stats.service.explorer.explorer import Explorer
from chat_stats.service.explorer.exports import FORMATS
from chat_stats.service.explorer.plot import sample as sample_points
from chat_stats.service.explorer.query import Filters, RequestQuery
from chat_stats.service.explorer.requests import Requests
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup, open_rollup
from chat_stats.service.settings import ALL_COLUMNS, Settings
from chat_stats.worker.importer.load import ImportOptions, import_log
from chat_stats.worker.local_servers import PostgresServer
from tests.conftest import run_migrations
from tests.sql import methods
from tests.sql.conftest import BuildGateway, Gateway, connect
from tests.sql.planting import Planter, called_names, planter
from tests.sql.sample import END, START
from tests.sql.schemas import PLAIN, Variant

pytestmark = [pytest.mark.every_postgres, pytest.mark.slow]

OpenDatabase = Callable[[str], Awaitable[Database]]

VARIANTS = (
    Variant(
        "uuid ids, varchar status, int tokens, timestamps without zone",
        provider_ids="uuid",
        model_ids="uuid",
        request_ids="uuid",
        tokens="int",
        status="varchar(20)",
        created_at="timestamp",
    ),
    Variant(
        "int ids and times", provider_ids="int", model_ids="int", request_ids="int", tokens="int", times="int"
    ),
    Variant(
        "floats, a status of the planter's own type",
        times="double precision",
        costs="double precision",
        status="request_status",
    ),
)

ALL, RANGE = TimeRange(), TimeRange(None, START + timedelta(minutes=7), END)

WRITES = """
INSERT INTO {schema}.chat_completion_requests (id, model_id, input_tokens, output_tokens, status, created_at)
SELECT {id}, m.id, 1, 2, 'completed', '2026-03-02 10:00' FROM {schema}.models AS m;
UPDATE {schema}.chat_completion_requests SET input_tokens = 5 WHERE status = 'completed';
DELETE FROM {schema}.chat_completion_requests WHERE status IS NULL
"""


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
async def test_nothing_that_others_planted_runs(
    variant: Variant,
    postgres: PostgresServer,
    build_gateway: BuildGateway,
    database_of: OpenDatabase,
    tmp_path: Path,
) -> None:
    gateway = await build_gateway(variant)
    schema = gateway.admin_url.partition("search_path=")[2]
    async with planter(postgres, gateway.admin_url, schema) as planting:
        await plant(planting, gateway)
        assert await planting.count() > 15_000
        await run_migrations(gateway.url)
        await run_migrations(gateway.url)
        assert planting.ran() == set()
        await planting.functions(await own_functions(planting), of=schema)
        with pytest.raises(SchemaError, match="is in the way that another role created"):
            await run_migrations(gateway.url)
        assert planting.ran() == set()

        database = await database_of(gateway.url)
        await read(database, variant)
        settings = Settings(database_url=gateway.url, _env_file=None)
        async with open_rollup(settings) as rollup:
            await rollup.enable(lambda _: None)
            assert (await rollup.status()).state == "on"
            await write(gateway, schema)
            await read(database, variant)
            assert await rollup.fold() > 0
            await read(database, variant)
            await maintain(rollup)
        await import_one(settings, variant, tmp_path)
        await call_as_dashboards_do(gateway)
        async with connect(gateway.url) as connection:
            purge = await Retention(connection).purge(datetime(2026, 3, 2, tzinfo=UTC), lambda _: None)
            assert (purge.requests > 0, purge.differing) == (True, 0)
        await read(database, variant, purged=True)
        await truncate(gateway, schema)
        async with open_rollup(settings) as rollup:
            await rollup.fold()
            assert await rollup.verify(lambda _: None) == 0
            await rollup.disable()
        assert planting.ran() == set()

        # What would have been seen.
        async with connect(gateway.url) as connection:
            await connection.fetch("SELECT 1::numeric >= 1::bigint, format('%s', 1::bigint), count(1::int)")
        assert planting.ran() == {
            "operator of numeric and bigint",
            "function format(text, bigint)",
            "function count(integer)",
        }


async def plant(planting: Planter, gateway: Gateway) -> None:
    if gateway.variant.status == "request_status":
        async with connect(gateway.admin_url) as admin:
            await admin.execute(f"ALTER TYPE request_status OWNER TO {planting.mark}")
        await planting.casts("request_status")
    await planting.types()
    await planting.operators()
    await planting.functions(called_names())


async def own_functions(planting: Planter) -> list[str]:
    """Return the names of our functions, and of those that put them in place."""
    names = await planting.connection.fetch(
        "SELECT DISTINCT p.proname::text FROM pg_proc AS p "
        "WHERE p.pronamespace = $1::regnamespace AND p.proowner <> $2::regrole",
        planting.schema,
        planting.mark,
    )
    assert names
    return [record[0] for record in names]


#: With every kind of expression, condition and order.
QUESTIONS = (
    f"measures={','.join(FIGURES)}&group_by=model_id,error_kind&order_by=-p95_processing_time_ms&model_id=2",
    "group_by=provider_id,status&bucket=1d&window=7d&compare=previous&provider_id!=1&status=__null__",
    "group_by=status&error_kind!=timeout&order_by=status",
)


async def read(database: Database, variant: Variant, *, purged: bool = False) -> None:
    """Compute all that there is, by each method; read single requests, plots and exports of them.

    Of a time series and of percentiles, only the function counts requests that were purged.
    """
    queries = [
        Query(name, range_, model_id=str(variant.id("models", 2)) if name == "model" else None)
        for name in AGGREGATIONS
        for range_ in (ALL, RANGE)
    ]
    queries += [Query("models", RANGE, provider_id=str(variant.id("providers", 1)))]
    queries += [
        Query("timeseries", RANGE, series=Series(bucket, group_by, "Europe/Berlin"))
        for bucket, group_by in (
            ("15m", "none"),
            ("1h", "model"),
            ("1d", "provider"),
            ("1w", "none"),
            ("1mo", "model"),
        )
    ]
    async with database.snapshot(wait_seconds=20) as snapshot:
        for query in queries:
            aggregation = AGGREGATIONS[query.aggregation]
            for method in LADDER if aggregation.from_usage else LADDER[: 1 if purged else 2]:
                await methods.run(method, snapshot, query)
        for text in QUESTIONS:
            known = known_dimensions("user_id" if variant.has_optional_columns else "")
            await compute(snapshot, parse_question(parse_qsl(text), known), timeout=60)
        for filters in (
            Filters(),
            Filters(RANGE, status="completed"),
            Filters(RANGE, model_id=str(variant.id("models", 2))),
            Filters(model_id=UNRESOLVED),
        ):
            requests = Requests(timeout=60, columns=(ALL_COLUMNS,))
            reading = await requests.open(snapshot, filters)
            fields = reading.columns.shown(nested=True)
            async for _ in requests.batches(reading, RequestQuery(filters, 5, 1), fields):
                pass
            await requests.total(reading)
            await sample_points(reading, 10)
    settings = Settings(database_url="postgresql://unused", request_columns=(ALL_COLUMNS,), _env_file=None)
    explorer = Explorer(settings, database)
    columns = await explorer.columns()
    for format_ in FORMATS.values():
        fields = columns.shown(nested=format_.nested)
        async for _ in explorer.page(RequestQuery(Filters(), 100), columns, fields, format_):
            pass
    await explorer.plot(Filters(), 10)
    await explorer.close()


async def write(gateway: Gateway, schema: str) -> None:
    """Insert, update and delete as a role that may do nothing else, and cannot see our tables."""
    ids = gateway.variant.request_ids
    new_id = "gen_random_uuid()" if ids == "uuid" else f"(1000 + row_number() OVER ())::{ids}"
    async with connect(gateway.admin_url) as admin:
        await admin.execute(
            f"CREATE ROLE {schema}_writer; GRANT USAGE ON SCHEMA {schema} TO {schema}_writer;"
            f"GRANT ALL ON {schema}.chat_completion_requests TO {schema}_writer;"
            f"GRANT SELECT ON {schema}.models TO {schema}_writer;"
            f"SET SESSION AUTHORIZATION {schema}_writer; SET search_path = pg_catalog"
        )
        await admin.execute(WRITES.format(schema=schema, id=new_id))


async def truncate(gateway: Gateway, schema: str) -> None:
    async with connect(gateway.admin_url) as admin:
        await admin.execute(
            f"SET SESSION AUTHORIZATION {schema}_writer; SET search_path = pg_catalog;"
            f"TRUNCATE {schema}.chat_completion_requests"
        )


async def maintain(rollup: Rollup) -> None:
    assert await rollup.audit() == 0
    assert await rollup.verify(lambda _: None) == 0
    assert await rollup.repair(lambda _: None) == 0
    await rollup.estimate_requests()
    await rollup.disable()
    await rollup.enable(lambda _: None)


async def import_one(settings: Settings, variant: Variant, folder: Path) -> None:
    """Import a file, where the ids have a type that the import can make."""
    file = folder / "log.csv"
    file.write_text(
        "model,input_tokens,output_tokens,created_at,status\nnew,1,2,2026-03-02T10:00:00Z,completed\n"
    )
    if variant.provider_ids == "uuid":
        assert (await import_log(settings, file, ImportOptions())).loaded == 1


async def call_as_dashboards_do(gateway: Gateway) -> None:
    """Call the functions as they are found in the search_path of the role, with arguments of their types."""
    async with connect(gateway.url) as connection:
        for call in (
            "get_provider_request_stats(NULL::timestamptz, NULL::timestamptz)",
            "get_models_with_requests('2026-01-01'::timestamptz, now())",
            "get_chat_request_timeseries('1d'::text, 'model'::text, 'UTC'::text, NULL::timestamptz, "
            "NULL::timestamptz, NULL::text, NULL::text, NULL::text)",
            "get_chat_request_stats('{model_id,status,error_kind}'::text[], "
            "'{\"status!\": [\"x\", null]}'::jsonb, NULL::timestamptz, now(), '1d'::text, 'UTC'::text, true)",
            "get_chat_request_stats('{provider_id}'::text[], '{\"model_id!\": \"9\"}'::jsonb, "
            "NULL::timestamptz, NULL::timestamptz, NULL::text, 'UTC'::text, true)",
        ):
            assert await connection.fetch(f"SELECT * FROM {call}")


async def test_a_table_with_a_name_of_ours_that_others_own_is_refused_and_its_trigger_never_runs(
    postgres: PostgresServer, build_gateway: BuildGateway
) -> None:
    gateway = await build_gateway(PLAIN)
    schema = gateway.admin_url.partition("search_path=")[2]
    async with planter(postgres, gateway.admin_url, schema) as planting:
        await planting.connection.execute(f"CREATE TABLE {schema}.chat_stats_deltas (model_id int8)")
        with pytest.raises(SchemaError, match="chat_stats_deltas"):
            await run_migrations(gateway.url)
        with pytest.raises(SchemaError, match="chat_stats_deltas"):
            await run_migrations(gateway.admin_url)


async def test_a_superuser_does_not_adopt_a_function_of_ours_that_others_own(
    postgres: PostgresServer, build_gateway: BuildGateway
) -> None:
    gateway = await build_gateway(PLAIN)
    schema = gateway.admin_url.partition("search_path=")[2]
    async with planter(postgres, gateway.admin_url, schema) as planting:
        await planting.connection.execute(
            f"CREATE FUNCTION {schema}.chat_stats_fold() RETURNS bigint LANGUAGE sql AS 'SELECT 1::int8'"
        )
        with pytest.raises(SchemaError, match="chat_stats_fold"):
            await run_migrations(gateway.admin_url)


@pytest.mark.parametrize("name", ["it's", "back\\slash", "per%cent", "$dollar$"])
async def test_a_schema_whose_name_would_end_a_literal_is_refused(
    build_gateway: BuildGateway, name: str
) -> None:
    gateway = await build_gateway(Variant("odd schema", schema=name.replace("'", "''")))
    with pytest.raises(SchemaError, match="in its name"):
        await run_migrations(gateway.url)


async def test_no_session_ever_sees_a_function_that_is_half_done(build_gateway: BuildGateway) -> None:
    """Each file that creates a function does so in one statement, also with psql, which commits each."""
    for name in declared().sql():
        if not name.startswith("functions/"):
            continue
        text = declared().render(name)
        assert text.count("CREATE OR REPLACE FUNCTION") == 1, name
        function = name.rpartition("/")[2].removesuffix(".sql")
        before, _, installed = text.partition(f"SELECT chat_stats_install('{function}', $install$")
        assert "CREATE OR REPLACE FUNCTION" not in before, name
        assert installed.count("$install$);") == 1, name
    gateway = await build_gateway(PLAIN)
    await run_migrations(gateway.url)
    async with connect(gateway.url) as connection:
        unfilled = await connection.fetch(
            "SELECT proname FROM pg_proc WHERE prosrc ~ '(stats|gateway)_schema\\.' AND proname NOT LIKE "
            "'chat\\_stats\\_with\\_schemas'"
        )
    assert unfilled == []
