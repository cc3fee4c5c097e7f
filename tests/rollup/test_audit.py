"""The audit finds what bypassed the triggers: at once if it is recent, in a stated time if it is old."""

import asyncio
import math
from collections import Counter

import pytest

from chat_stats.service.database import queries
from chat_stats.service.database.pool import LOCK_CLASS
from chat_stats.service.errors import DatabaseUnavailable, SchemaError
from chat_stats.service.rollup import audit as auditing
from chat_stats.service.rollup.audit import BEGINNING, END
from chat_stats.service.rollup.connection import UPKEEP_LOCK, UpkeepConnection
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.conftest import Connection
from tests.rollup.conftest import Connect, ignored
from tests.rollup.workload import CATALOGUE

pytestmark = pytest.mark.every_postgres

#: A request in each hour of a year but every hundredth, and in the bucket that is being written now.
YEAR_HOURS = 365 * 24
YEAR = f"""
INSERT INTO chat_completion_requests (model_id, input_tokens, processing_time_ms, created_at)
SELECT 1, 10, 100, date_trunc('hour', now(), 'UTC') - n * interval '1 hour' + interval '7 minutes'
FROM generate_series(1, {YEAR_HOURS}) AS n WHERE n % 100 <> 0
UNION ALL SELECT 1, 10, 100, now()
"""
HOURS_AGO = "date_trunc('hour', now(), 'UTC') - {0} * interval '1 hour'"
INSERTED = "INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, {0})"
LAST_INSERTED = "id = (SELECT max(id) FROM chat_completion_requests)"
DELETED = "DELETE FROM chat_completion_requests WHERE date_trunc('hour', created_at, 'UTC') = {0}"

#: What an audit compares in these tests, so that a year is much.
RANGE_REQUESTS = 50
SWEEP_REQUESTS = 300
#: Audits of a pass over a year, and over a week.
YEAR_PASS = math.ceil(YEAR_HOURS / SWEEP_REQUESTS)
WEEK_PASS = math.ceil(7 * 24 / RANGE_REQUESTS)


async def bypass(connection: Connection, statement: str) -> None:
    """Execute a statement, which changes rows, without firing triggers."""
    await connection.execute("SET session_replication_role = replica")
    assert not (await connection.execute(statement)).endswith(" 0")
    await connection.execute("SET session_replication_role = origin")


async def audits_until_found(rollup: Rollup, most: int) -> int:
    """Return the number of the audit that finds a difference."""
    for number in range(1, most + 1):
        if await rollup.audit():
            return number
    pytest.fail(f"{most} audits found nothing")


@pytest.fixture
async def year(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A connection to a year of requests, with the rollup on, and audits that compare little of it."""
    monkeypatch.setattr(auditing, "RANGE_REQUESTS", RANGE_REQUESTS)
    monkeypatch.setattr(auditing, "SWEEP_REQUESTS", SWEEP_REQUESTS)
    await connection.execute(CATALOGUE)
    await connection.execute(YEAR)
    await Rollup(connection).enable(ignored)
    return connection


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, str | None]]:
    """The ranges that were compared so far."""
    ranges: list[tuple[str | None, str | None]] = []
    in_snapshot = UpkeepConnection.in_snapshot

    async def spied(self: UpkeepConnection, statement: str, *args: str | None) -> Counter[str]:
        ranges.append((args[0], args[1]))
        return await in_snapshot(self, statement, *args)

    monkeypatch.setattr(UpkeepConnection, "in_snapshot", spied)
    return ranges


async def requests_in(connection: Connection, start: str | None, end: str | None) -> int:
    condition = (
        "$1::text IS NULL AND $2::text IS NULL AND created_at IS NULL"
        " OR created_at >= $1::text::timestamptz AND (created_at < $2::text::timestamptz OR $2 = 'infinity')"
    )
    return await connection.fetchval(
        f"SELECT count(*) FROM chat_completion_requests WHERE {condition}", start, end
    )


@pytest.mark.parametrize(
    "moment",
    [
        "now()",
        "now() - interval '1 hour'",
        "now() - interval '20 hours'",
        "now() + interval '20 minutes'",
        "now() + interval '10 years'",
        "NULL",
        "'infinity'",
        "'-infinity'",
    ],
)
async def test_the_first_audit_finds_rows_that_bypassed_the_triggers(year: Connection, moment: str) -> None:
    rollup = Rollup(year)
    for _ in range(3):  # so that the sweeps are elsewhere
        assert await rollup.audit() == 0
    await bypass(year, INSERTED.format(moment))
    assert await rollup.audit() == 1
    status = await rollup.status()
    assert (status.state, status.drift) == ("damaged", 1)
    assert not await year.fetchval("SELECT chat_stats_rollup_ready()")
    assert await rollup.repair(ignored) == 1
    assert await rollup.audit() == 0

    await bypass(year, f"UPDATE chat_completion_requests SET input_tokens = 11 WHERE {LAST_INSERTED}")
    assert await rollup.audit() == 1
    await rollup.repair(ignored)
    await bypass(year, f"DELETE FROM chat_completion_requests WHERE {LAST_INSERTED}")
    assert await rollup.audit() == 1


@pytest.mark.parametrize("hours_ago", [26, 75, 7 * 24 - 2])
@pytest.mark.parametrize("statement", [INSERTED, DELETED])
async def test_a_bad_hour_of_the_last_week_is_found_in_one_pass_of_its_sweep(
    year: Connection, statement: str, hours_ago: int
) -> None:
    await bypass(year, statement.format(HOURS_AGO.format(hours_ago)))
    assert await audits_until_found(Rollup(year), WEEK_PASS) <= WEEK_PASS


@pytest.mark.parametrize("hours_ago", [8 * 24 + 1, 200 * 24 + 5, YEAR_HOURS - 1])
@pytest.mark.parametrize("statement", [INSERTED, DELETED])
async def test_one_bad_hour_in_a_year_is_found_in_one_pass_over_all_time(
    year: Connection, statement: str, hours_ago: int
) -> None:
    rollup = Rollup(year)
    assert await rollup.audit() == 0  # just before: it compared the latest of these hours
    await bypass(year, statement.format(HOURS_AGO.format(hours_ago)))
    assert await audits_until_found(rollup, YEAR_PASS + 1) <= YEAR_PASS + 1


@pytest.mark.parametrize("moment", [HOURS_AGO.format(300 * 24), "'0044-03-15 BC'", "'2001-01-01'"])
async def test_rows_of_hours_that_the_rollup_knows_nothing_of_are_found(
    year: Connection, moment: str
) -> None:
    await bypass(year, INSERTED.format(moment))
    assert await audits_until_found(Rollup(year), YEAR_PASS) <= YEAR_PASS


async def test_what_the_rollup_has_of_hours_without_requests_is_found(year: Connection) -> None:
    await bypass(year, "DELETE FROM chat_completion_requests WHERE created_at < now() - interval '100 days'")
    assert await audits_until_found(Rollup(year), YEAR_PASS) <= YEAR_PASS


async def test_a_pass_leaves_no_gap(year: Connection, compared: list[tuple[str | None, str | None]]) -> None:
    for _ in range(YEAR_PASS):
        assert await Rollup(year).audit() == 0
    assert await year.fetchval(
        "SELECT range_agg(tstzrange(r.start::timestamptz, r.end::timestamptz))"
        " = tstzmultirange(tstzrange($3::text::timestamptz, $4::text::timestamptz))"
        ' FROM unnest($1::text[], $2::text[]) AS r (start, "end")'
        " WHERE isfinite(r.start::timestamptz)",
        *zip(*compared, strict=True),
        BEGINNING,
        END,
    )


async def test_an_audit_compares_a_bounded_number_of_requests(
    year: Connection, compared: list[tuple[str | None, str | None]]
) -> None:
    await year.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at)"
        " SELECT 1, now() + n * interval '1 hour' FROM generate_series(1, 1000) AS n"
    )
    rollup = Rollup(year)
    for _ in range(YEAR_PASS + 5):
        compared.clear()
        assert await rollup.audit() == 0
        counts = [await requests_in(year, start, end) for start, end in compared]
        assert max(counts) <= SWEEP_REQUESTS
        assert sum(counts) <= SWEEP_REQUESTS + 3 * RANGE_REQUESTS


async def test_an_audit_compares_a_bounded_number_of_the_rollups_rows(
    year: Connection, compared: list[tuple[str | None, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "RANGE_ROWS", 10)
    monkeypatch.setattr(auditing, "SWEEP_REQUESTS", 100_000)
    rollup = Rollup(year)
    for _ in range(3):
        assert await rollup.audit() == 0
    for start, end in compared:
        days = await year.fetchval(
            "SELECT count(*) FROM chat_stats_rollup_model_slots WHERE chat_stats_bucket_at(day, 0::smallint)"
            " BETWEEN $1::text::timestamptz - interval '1 day' AND $2::text::timestamptz",
            start,
            end,
        )
        assert days <= 12
    await bypass(year, INSERTED.format(HOURS_AGO.format(300 * 24)))
    assert await audits_until_found(rollup, 365 // 10 + 1)


@pytest.mark.parametrize(
    "moment",
    [
        "NULL",
        *(
            pytest.param(moment, marks=pytest.mark.slow)
            for moment in ("now()", "'infinity'", "'-infinity'", HOURS_AGO.format(2000))
        ),
    ],
)
async def test_a_bucket_with_more_requests_than_an_audit_may_read_is_compared_less_often(
    year: Connection, compared: list[tuple[str | None, str | None]], moment: str
) -> None:
    """Ten times as many in one bucket: ten times less often, and still found."""
    crowd = 10 * SWEEP_REQUESTS
    await year.execute(
        "INSERT INTO chat_completion_requests (model_id, created_at)"
        f" SELECT 1, {moment} FROM generate_series(1, {crowd})"
    )
    rollup = Rollup(year)
    await rollup.fold()
    comparisons, audits = 0, 4 * YEAR_PASS
    for _ in range(audits):
        compared.clear()
        assert await rollup.audit() == 0
        comparisons += sum([await requests_in(year, *ends) > SWEEP_REQUESTS for ends in compared])
    assert 0 < comparisons <= audits / 10
    await bypass(year, INSERTED.format(moment))
    assert await audits_until_found(rollup, YEAR_PASS + 2 * crowd // RANGE_REQUESTS)


async def test_reading_how_far_a_range_goes_takes_the_indexes(year: Connection) -> None:
    await year.execute("ANALYZE")
    state = (await UpkeepConnection(year).fetch(queries.load("rollup_audit_state")))[0]
    for name, arguments in (
        ("rollup_audit_range", (END, state["end_of_now"], 50, 1000)),
        ("rollup_audit_range", (state["day_ago"], BEGINNING, 300, 100)),
        ("rollup_audit_untimed", (50,)),
    ):
        statement = queries.load(name).replace("stats_schema.", "").replace("gateway_schema.", "")
        plan = await year.fetch(f"EXPLAIN {statement}", *arguments)
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan on chat_completion_requests" not in text
        assert "chat_completion_requests" in text


async def test_an_audit_neither_waits_for_writers_nor_counts_what_they_did_not_commit(
    year: Connection, connect: Connect
) -> None:
    writer = await connect()
    async with writer.transaction():
        await writer.execute(INSERTED.format("now()"))
        await writer.execute("UPDATE chat_completion_requests SET input_tokens = 12 WHERE id % 2 = 0")
        async with asyncio.timeout(20):
            assert await Rollup(year).audit() == 0
    assert await Rollup(year).audit() == 0  # not folded yet
    await Rollup(year).fold()
    assert await Rollup(year).audit() == 0


async def test_purged_requests_are_no_difference(year: Connection, small_purges: None) -> None:
    rollup = Rollup(year)
    await Retention(year).purge(
        await year.fetchval("SELECT date_trunc('day', now()) - interval '90 days'"), ignored
    )
    for _ in range(YEAR_PASS + 1):
        assert await rollup.audit() == 0
    await year.execute(
        "UPDATE chat_stats_purged_model SET slot_input_tokens[1] = 7"
        " WHERE day = (SELECT min(day) FROM chat_stats_purged_model)"
    )
    assert await audits_until_found(rollup, YEAR_PASS)


async def test_an_audit_leaves_alone_what_is_being_repaired(year: Connection, connect: Connect) -> None:
    other = await connect()
    await other.execute(f"SELECT pg_advisory_lock({LOCK_CLASS}, {UPKEEP_LOCK})")
    await year.execute("UPDATE chat_stats_rollup_model_slots SET slots = '{}', slot_requests = '{}'")
    assert await Rollup(year).audit() == 0
    assert (await Rollup(year).status()).audited_at is None


async def test_drift_that_could_not_be_recorded_is_found_again(
    year: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bypass(year, INSERTED.format(HOURS_AGO.format(8 * 24)))

    async def lose_the_connection(_self: Rollup, _drift: int) -> None:
        raise DatabaseUnavailable("the database cannot be reached")

    with monkeypatch.context() as lost:
        lost.setattr(Rollup, "record_audit", lose_the_connection)
        with pytest.raises(DatabaseUnavailable):
            await Rollup(year).audit()
    assert await Rollup(year).audit() == 1


async def test_before_migrate_has_run_an_audit_says_that_it_must(year: Connection) -> None:
    await year.execute("ALTER TABLE chat_stats_rollup_state DROP COLUMN audits")
    with pytest.raises(SchemaError, match="chat-stats migrate"):
        await Rollup(year).audit()


async def test_an_audit_does_not_take_back_what_an_earlier_one_found(year: Connection) -> None:
    await bypass(year, INSERTED.format("now()"))
    assert await Rollup(year).audit() == 1
    assert await Rollup(year).audit() == 0
    assert (await Rollup(year).status()).drift == 1
