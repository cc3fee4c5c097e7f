"""No write of the gateway fails because of the rollup: what cannot be counted is noted, and answers scan."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chat_stats.service.errors import SchemaError
from chat_stats.service.rollup.upkeep import Rollup
from tests.cases import sampled
from tests.conftest import Connection, run_migrations
from tests.rollup.conftest import ignored
from tests.rollup.exactness import assert_exact, differences
from tests.rollup.own import add, states
from tests.rollup.workload import ORDINARY

pytestmark = pytest.mark.every_postgres

TABLE = "chat_completion_requests"
READY = "SELECT chat_stats_rollup_ready()"
REASONS = "SELECT DISTINCT reason FROM chat_stats_uncounted"

#: What can be done to the columns that the triggers read, how it is undone, and a word of the reason why
#: writes went uncounted meanwhile; None: they were counted.
CHANGES: dict[str, tuple[str, str, str | None]] = {
    **{
        f"{column} is renamed": (f"RENAME {column} TO other", f"RENAME other TO {column}", column)
        for column in ("model_id", "created_at", "status", "input_tokens", "processing_time_ms")
    },
    "cost_usd is renamed": ("RENAME cost_usd TO other", "RENAME other TO cost_usd", None),
    "status is dropped": ("DROP status", "ADD status text DEFAULT 'ok'", "status"),
    "cost_usd is dropped": ("DROP cost_usd", "ADD cost_usd numeric DEFAULT 0.25", None),
    "model_id becomes text": ("ALTER model_id TYPE text", "ALTER model_id TYPE bigint USING 1", "text"),
    "model_id becomes uuid": (
        "ALTER model_id TYPE uuid USING gen_random_uuid()",
        "ALTER model_id TYPE bigint USING 1",
        "uuid",
    ),
    "tokens become text": (
        "ALTER input_tokens TYPE text USING 'many'",
        "ALTER input_tokens TYPE bigint USING 3",
        "text",
    ),
    "tokens become money": (
        "ALTER output_tokens TYPE money USING 1::money",
        "ALTER output_tokens TYPE bigint USING 3",
        "money",
    ),
    "tokens become numeric": ("ALTER input_tokens TYPE numeric", "ALTER input_tokens TYPE bigint", None),
    "tokens become others": ("ALTER input_tokens TYPE bigint USING input_tokens + 1", "", None),
    "times become interval": (
        "ALTER processing_time_ms TYPE interval USING '1 s'",
        "ALTER processing_time_ms TYPE numeric USING 5",
        "interval",
    ),
    "times become text": (
        "ALTER processing_time_ms TYPE text",
        "ALTER processing_time_ms TYPE numeric USING processing_time_ms::numeric",
        "text",
    ),
    "times become int": ("ALTER processing_time_ms TYPE int USING 7", "", None),
    "costs become money": (
        "ALTER cost_usd TYPE money USING 1::money",
        "ALTER cost_usd TYPE numeric USING 2",
        "money",
    ),
    "costs become text": ("ALTER cost_usd TYPE text", "ALTER cost_usd TYPE numeric USING 2", "text"),
    "moments become text": (
        "ALTER created_at DROP DEFAULT, ALTER created_at TYPE text",
        "ALTER created_at TYPE timestamptz USING created_at::timestamptz",
        "text",
    ),
    "moments become timestamps without time zone": ("ALTER created_at TYPE timestamp", "", None),
    "status becomes an enum": (
        "ALTER status DROP DEFAULT, ALTER status TYPE mood USING 'ok'",
        "ALTER status TYPE text",
        None,
    ),
    "a default, a constraint, statistics and storage change": (
        "ALTER input_tokens SET DEFAULT 3, ALTER status SET STORAGE EXTERNAL, ALTER status SET STATISTICS 5, "
        "ALTER input_tokens SET (n_distinct = 3), SET (fillfactor = 70), "
        "ADD CONSTRAINT positive CHECK (input_tokens IS NULL OR input_tokens >= 0) NOT VALID",
        "",
        None,
    ),
    "tokens become generated": (
        "DROP input_tokens, ADD input_tokens bigint GENERATED ALWAYS AS (output_tokens * 2) STORED",
        "ALTER input_tokens DROP EXPRESSION",
        None,
    ),
}

#: What can be done to have a column that is generated when it is read, as there are since Postgres 18.
VIRTUAL = {
    "status is made again": [
        "DROP status",
        "ADD status text GENERATED ALWAYS AS ('ok' || output_tokens) VIRTUAL",
    ],
    "another takes the place of cost_usd": [
        "DROP cost_usd, ADD other numeric GENERATED ALWAYS AS (5) VIRTUAL",
        "RENAME other TO cost_usd",
    ],
}

#: What of ours can be dropped.
DROPPED = {
    **{
        f"the function {name}": f"DROP FUNCTION {name} CASCADE"
        for name in ("chat_stats_bucket", "chat_stats_is_success", "chat_stats_is_counted")
    },
    "the deltas": "DROP TABLE chat_stats_deltas",
    "the marks": "DROP TABLE chat_stats_uncounted",
    "both": "DROP TABLE chat_stats_deltas, chat_stats_uncounted",
}


@pytest.fixture
async def writers(rolled_up: Connection, database_url: str) -> AsyncIterator[list[asyncpg.Connection]]:
    """Two sessions that write: one has done so before, and so has plans; the other is new."""
    await rolled_up.execute("CREATE TYPE mood AS ENUM ('ok', 'sad')")
    opened = [await asyncpg.connect(database_url, statement_cache_size=0) for _ in range(2)]
    for _ in range(8):  # until plans are kept
        await write(opened[0], TABLE, truncate=False)
    yield opened
    for connection in opened:
        await connection.close()


async def write(connection: asyncpg.Connection, table: str, *, truncate: bool = True) -> None:
    """Write in each way that there is, with columns that none of the changes touches."""
    await connection.execute(f"INSERT INTO {table} (request_id) VALUES ('one')")
    for many in (3, 80):
        await connection.execute(
            f"INSERT INTO {table} (request_id) SELECT 'many' FROM generate_series(1, {many})"
        )
    await connection.execute(f"UPDATE {table} SET error_message = 'none' WHERE request_id IN ('one', 'many')")
    await connection.execute(f"DELETE FROM {table} WHERE request_id = 'many'")
    await connection.execute(f"DELETE FROM {table} WHERE request_id = 'none'")
    if truncate:
        await connection.execute(f"TRUNCATE {table}")
        await connection.execute(f"INSERT INTO {table} (request_id) VALUES ('last')")


@pytest.mark.parametrize(("change", "undo", "reason"), sampled(CHANGES))
async def test_writes_go_on_when(
    rolled_up: Connection,
    writers: list[asyncpg.Connection],
    database_url: str,
    change: str,
    undo: str,
    reason: str | None,
) -> None:
    await rolled_up.execute(f"ALTER TABLE {TABLE} {change}")
    for writer in writers:
        await write(writer, TABLE)
    reasons = [row["reason"] for row in await rolled_up.fetch(REASONS)]
    assert all(reason is not None and reason in text for text in reasons)
    assert bool(reasons) == (reason is not None)
    if reason is not None:
        assert not await rolled_up.fetchval(READY)
        status = await Rollup(rolled_up).status()
        assert status.state == "damaged"
        assert reason in status.reason
        assert "chat-stats rollup repair" in status.reason

    if undo:
        await rolled_up.execute(f"ALTER TABLE {TABLE} {undo}")
    await run_migrations(database_url)
    if reason is not None:
        assert not await rolled_up.fetchval(READY)
    await rolled_up.execute(
        f"INSERT INTO {TABLE} (model_id, output_tokens, created_at) "
        "VALUES (1, 5, '2024-03-01'), (2, 5, '2024-03-01')"
    )
    await Rollup(rolled_up).repair(ignored)
    assert await rolled_up.fetchval(READY)
    assert (await Rollup(rolled_up).status()).state == "on"
    await assert_exact(rolled_up)


@pytest.fixture
async def since_18(connection: asyncpg.Connection) -> None:
    if connection.get_server_version() < (18,):
        pytest.skip("Postgres 18 is the first with virtual columns")


@pytest.mark.usefixtures("since_18")
@pytest.mark.parametrize("changes", sampled(VIRTUAL))
async def test_writes_go_on_when_a_column_is_generated_as_it_is_read(
    rolled_up: Connection, writers: list[asyncpg.Connection], database_url: str, changes: list[str]
) -> None:
    for change in changes:
        await rolled_up.execute(f"ALTER TABLE {TABLE} {change}")
    for writer in writers:
        await write(writer, TABLE)
    assert not await rolled_up.fetchval(READY)
    await run_migrations(database_url)
    with pytest.raises(SchemaError, match="generated when it is read, and triggers cannot read it"):
        await Rollup(rolled_up).repair(ignored)
    await Rollup(rolled_up).disable()
    with pytest.raises(SchemaError, match=r"make it GENERATED ALWAYS AS \(\.\.\.\) STORED"):
        await Rollup(rolled_up).enable(ignored)
    assert await rolled_up.fetchval("SELECT total_requests FROM get_chat_request_summary()") == 1


@pytest.mark.usefixtures("since_18")
async def test_writes_go_on_in_a_transaction_older_than_a_column_generated_as_it_is_read(
    rolled_up: Connection, writers: list[asyncpg.Connection]
) -> None:
    for writer in writers:
        await writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM models")
    for change in VIRTUAL["status is made again"]:
        await rolled_up.execute(f"ALTER TABLE {TABLE} {change}")
    for writer in writers:
        await write(writer, TABLE, truncate=False)
        await writer.execute("COMMIT")
        await write(writer, TABLE)
    assert not await rolled_up.fetchval(READY)


@pytest.mark.usefixtures("since_18")
async def test_a_dimension_generated_as_it_is_read_harms_its_rollups_alone(rolled_up: Connection) -> None:
    await rolled_up.execute(f"ALTER TABLE {TABLE} ADD virtual text GENERATED ALWAYS AS ('t' || id) VIRTUAL")
    with pytest.raises(SchemaError, match="virtual of chat_completion_requests is generated when it is read"):
        await add(rolled_up, "virtuals", "virtual", dimensions="virtual")
    await add(rolled_up, "users", "user_id", dimensions="user_id")
    await rolled_up.execute(
        f"ALTER TABLE {TABLE} DROP user_id, ADD user_id text GENERATED ALWAYS AS ('u' || id) VIRTUAL"
    )
    await write(rolled_up, TABLE)
    assert await rolled_up.fetchval(READY)
    assert await differences(rolled_up) == []
    assert await states(rolled_up) == {"total": "on", "model": "on", "users": "damaged"}


@pytest.mark.parametrize("drop", sampled(DROPPED))
async def test_writes_go_on_without(
    rolled_up: Connection, writers: list[asyncpg.Connection], database_url: str, drop: str
) -> None:
    await rolled_up.execute(drop)
    for writer in writers:
        await write(writer, TABLE)
    assert (await Rollup(rolled_up).status()).state == "damaged"
    await run_migrations(database_url)
    await rolled_up.execute(ORDINARY, 100)
    await Rollup(rolled_up).enable(ignored)
    assert await rolled_up.fetchval(READY)
    await assert_exact(rolled_up)


async def test_writes_go_on_when_the_deltas_lack_a_column(
    rolled_up: Connection, writers: list[asyncpg.Connection]
) -> None:
    await rolled_up.execute("ALTER TABLE chat_stats_deltas DROP COLUMN cost_usd")
    for writer in writers:
        await write(writer, TABLE)
    assert not await rolled_up.fetchval(READY)


MOVES = {
    "renamed": ("ALTER TABLE chat_completion_requests RENAME TO elsewhere", "elsewhere"),
    "moved to another schema": (
        "CREATE SCHEMA other; ALTER TABLE chat_completion_requests SET SCHEMA other",
        "other.chat_completion_requests",
    ),
    "swapped": (
        "ALTER TABLE chat_completion_requests RENAME TO elsewhere; "
        "CREATE TABLE chat_completion_requests (LIKE elsewhere INCLUDING ALL)",
        "elsewhere",
    ),
    "replaced by a view": (
        "ALTER TABLE chat_completion_requests RENAME TO elsewhere; "
        "CREATE VIEW chat_completion_requests AS SELECT * FROM elsewhere",
        "elsewhere",
    ),
}


@pytest.mark.parametrize(("move", "place"), sampled(MOVES))
async def test_writes_go_on_when_the_table_is(
    rolled_up: Connection, writers: list[asyncpg.Connection], move: str, place: str
) -> None:
    await rolled_up.execute(move)
    for writer in writers:
        await write(writer, place)
    assert await rolled_up.fetchval("SELECT count(*) FROM chat_stats_uncounted") > 0


async def test_a_table_that_comes_back_after_a_swap_is_not_read_from_the_rollup_until_it_is_repaired(
    rolled_up: Connection, database_url: str
) -> None:
    await rolled_up.execute(MOVES["swapped"][0])
    assert not await rolled_up.fetchval(READY)
    await rolled_up.execute(ORDINARY, 50)
    await Rollup(rolled_up).enable(ignored)
    await assert_exact(rolled_up)
    await rolled_up.execute("INSERT INTO elsewhere (model_id, created_at) VALUES (1, '2024-01-01')")
    assert await rolled_up.fetchval(READY)

    await rolled_up.execute(
        "ALTER TABLE chat_completion_requests RENAME TO aside; "
        "ALTER TABLE elsewhere RENAME TO chat_completion_requests"
    )
    assert not await rolled_up.fetchval(READY)
    await Rollup(rolled_up).enable(ignored)
    assert await rolled_up.fetchval(READY)
    await assert_exact(rolled_up)


async def test_a_truncate_that_would_take_too_long_to_count_goes_through(rolled_up: Connection) -> None:
    await rolled_up.execute("SET session_replication_role = replica")
    await rolled_up.execute(ORDINARY, 60_000)
    await rolled_up.execute("SET session_replication_role = origin; SET statement_timeout = '150ms'")
    await rolled_up.execute(f"TRUNCATE {TABLE}")
    await rolled_up.execute("RESET statement_timeout")
    assert not await rolled_up.fetchval(READY)
    assert "statement_timeout" in (await Rollup(rolled_up).state()).reason
    await rolled_up.execute(ORDINARY, 100)
    await Rollup(rolled_up).repair(ignored)
    await rolled_up.execute("SET statement_timeout = '10s'")
    await rolled_up.execute(f"TRUNCATE {TABLE}")
    assert await rolled_up.fetchval(READY)
    await assert_exact(rolled_up)


async def test_a_write_that_is_rolled_back_leaves_no_mark(rolled_up: Connection) -> None:
    await rolled_up.execute(f"ALTER TABLE {TABLE} RENAME model_id TO other")
    transaction = rolled_up.transaction()
    await transaction.start()
    await rolled_up.execute(f"INSERT INTO {TABLE} (other) VALUES (1)")
    await transaction.rollback()
    await rolled_up.execute(f"ALTER TABLE {TABLE} RENAME other TO model_id")
    assert await rolled_up.fetchval(READY)
    await assert_exact(rolled_up)


async def test_a_counted_write_costs_no_transaction_id_of_its_own(rolled_up: Connection) -> None:
    insert = f"INSERT INTO {TABLE} (model_id, created_at) VALUES (1, now())"
    current = "SELECT pg_current_xact_id()::text::bigint"
    await rolled_up.execute(insert)
    before = await rolled_up.fetchval(current)
    await rolled_up.execute(f"BEGIN; {insert}; {insert}; {insert}; COMMIT")
    assert await rolled_up.fetchval(current) - before == 2


async def test_of_many_marks_the_first_of_each_reason_is_kept(rolled_up: Connection) -> None:
    await rolled_up.execute(f"ALTER TABLE {TABLE} RENAME model_id TO other")
    for _ in range(20):
        await rolled_up.execute(f"INSERT INTO {TABLE} (other) VALUES (1)")
    first = await rolled_up.fetchval("SELECT min(happened_at) FROM chat_stats_uncounted")
    await Rollup(rolled_up).cover_partitions()
    assert [tuple(row) for row in await rolled_up.fetch("SELECT happened_at FROM chat_stats_uncounted")] == [
        (first,)
    ]
    assert not await rolled_up.fetchval(READY)


async def test_a_repair_whose_cause_is_not_gone_says_so_and_leaves_the_rollup_unread(
    rolled_up: Connection, database_url: str
) -> None:
    await rolled_up.execute("DROP FUNCTION chat_stats_is_counted; DROP FUNCTION chat_stats_bucket CASCADE")
    await rolled_up.execute(ORDINARY, 10)
    with pytest.raises(SchemaError, match="chat-stats migrate"):
        await Rollup(rolled_up).repair(ignored)
    assert not await rolled_up.fetchval(READY)
    await run_migrations(database_url)
    await Rollup(rolled_up).repair(ignored)
    await assert_exact(rolled_up)


@pytest.mark.parametrize(
    ("column", "type_", "using"),
    [("cost_usd", "money", "1::money"), ("cost_usd", "text", "'1'"), ("input_tokens", "interval", "'1 s'")],
)
async def test_enable_refuses_a_column_that_it_cannot_read_before_the_first_trigger(
    requests: Connection, rollup: Rollup, column: str, type_: str, using: str
) -> None:
    await requests.execute(f"ALTER TABLE {TABLE} ALTER {column} TYPE {type_} USING {using}")
    with pytest.raises(SchemaError, match=rf"{column} is of type {type_}"):
        await rollup.enable(ignored)
    assert await requests.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'chat_stats%'") == 0
    await write(requests, TABLE)


async def test_an_enable_that_fails_later_takes_its_triggers_away(
    requests: Connection, rollup: Rollup
) -> None:
    await requests.execute("DROP FUNCTION chat_stats_rollup_repair")
    with pytest.raises(SchemaError, match="chat_stats_rollup_repair"):
        await rollup.enable(ignored)
    assert await requests.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'chat_stats%'") == 0


async def test_a_cost_that_is_no_number_counts_as_missing_and_migrate_says_so(
    requests: Connection, database_url: str
) -> None:
    before = await requests.fetchrow("SELECT * FROM get_chat_request_summary()")
    await requests.execute(f"ALTER TABLE {TABLE} ALTER cost_usd TYPE money USING 1::money")
    warned = await run_migrations(database_url)
    assert any("cost_usd is of type money" in warning for warning in warned)
    after = await requests.fetchrow("SELECT * FROM get_chat_request_summary()")
    assert before is not None
    assert after is not None
    assert after["total_cost_usd"] is None
    assert after["total_tokens"] == before["total_tokens"]


@pytest.mark.parametrize(
    "changes",
    [
        ["DROP cost_usd"],
        ["DROP cost_usd", "ADD cost_usd numeric DEFAULT 0.25"],
        ["RENAME cost_usd TO other", "RENAME other TO cost_usd"],
    ],
    ids=["dropped", "dropped and added", "renamed and named as before"],
)
async def test_of_costs_that_were_not_counted_meanwhile_nothing_is_read_until_the_repair(
    rolled_up: Connection, database_url: str, changes: list[str]
) -> None:
    cost = "SELECT total_cost_usd FROM get_chat_request_summary()"
    for change in changes:
        await rolled_up.execute(f"ALTER TABLE {TABLE} {change}")
        if "TO other" in change:
            await rolled_up.execute(f"INSERT INTO {TABLE} (model_id, other) VALUES (1, 1000)")
        assert not await rolled_up.fetchval(READY)
        state = await Rollup(rolled_up).state()
        assert state.trouble == "columns"
        assert state.reason.startswith("cost_usd of chat_completion_requests changed")
    scanned = await rolled_up.fetchval(cost)
    await run_migrations(database_url)
    await Rollup(rolled_up).repair(ignored)
    assert await rolled_up.fetchval(READY)
    assert await rolled_up.fetchval(cost) == scanned
    await assert_exact(rolled_up)
    assert await Rollup(rolled_up).verify(ignored) == 0


async def test_migrate_refuses_a_column_of_another_kind_and_names_it(
    requests: Connection, database_url: str
) -> None:
    await requests.execute(f"ALTER TABLE {TABLE} ALTER input_tokens TYPE interval USING '1 s'")
    with pytest.raises(SchemaError, match="input_tokens is of type interval; chat-stats reads int, bigint"):
        await run_migrations(database_url)


async def test_ids_of_another_type_are_followed_by_migrate_and_enable(
    rolled_up: Connection, database_url: str
) -> None:
    await rolled_up.execute(
        "CREATE TABLE renamed AS SELECT id AS old, gen_random_uuid() AS new FROM models;"
        "CREATE FUNCTION new_id(bigint) RETURNS uuid "
        "LANGUAGE sql AS 'SELECT new FROM renamed WHERE old = $1';"
        "ALTER TABLE models ALTER id DROP IDENTITY IF EXISTS;"
        "ALTER TABLE models ALTER id TYPE uuid USING new_id(id);"
        f"ALTER TABLE {TABLE} ALTER model_id TYPE uuid USING new_id(model_id)"
    )
    counts = "SELECT request_count FROM get_model_request_counts() ORDER BY 1"
    await run_migrations(database_url)
    scanned = await rolled_up.fetch(counts)
    await Rollup(rolled_up).enable(ignored)
    assert await rolled_up.fetchval(READY)
    assert await rolled_up.fetch(counts) == scanned
