"""Questions by any dimension come from a rollup that has it, with the figures of a count of the requests."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.rollup.own import OwnRollups
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import DAYS, DIMENSIONS, START, Ask, asking
from tests.questions.recount import Request, between, figures, grouped, value
from tests.questions.test_answers import approximately, shown
from tests.questions.test_migrate import run

pytestmark = [pytest.mark.every_postgres, pytest.mark.slow]

ALL = ",".join(FIGURES)
WITHOUT_PERCENTILES = ",".join(name for name in FIGURES if not name.startswith("p"))
END = START + timedelta(days=DAYS)
#: Ragged at both ends: within a bucket, a day, and beyond what there is.
RAGGED = (
    (START + timedelta(hours=7, minutes=3, seconds=1), END - timedelta(days=2, hours=5, minutes=1)),
    (START + timedelta(days=1), START + timedelta(days=1, minutes=11)),
    (None, START + timedelta(days=7, minutes=40)),
    (START + timedelta(days=6, hours=23, minutes=59), None),
)


async def add(
    connection: asyncpg.Connection,
    name: str,
    *by: str,
    percentiles: bool = True,
    dimensions: str = DIMENSIONS,
) -> None:
    rollups = OwnRollups(Rollup(connection), known_dimensions(dimensions))
    await rollups.add(await rollups.declare(name, by, percentiles=percentiles), lambda _done: None)


@pytest.fixture
async def kept(connection: asyncpg.Connection, requests: list[Request]) -> asyncpg.Connection:
    """Rollups by users; by teams, kinds of errors, statuses and models without percentiles; and by keys."""
    await Rollup(connection).enable(lambda _done: None)
    await add(connection, "users", "user_id")
    await add(connection, "teams", "team", "error_kind", "status", "model_id", percentiles=False)
    await add(connection, "keys", "key_id", "provider_id")
    return connection


def kept_value(request: Request, name: str) -> Any:
    """Return the value as a rollup keeps it: a long one by its beginning."""
    found = value(request, name)
    return found[:95] if isinstance(found, str) and len(found) > 128 else found


def _kept_row(row: dict[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    values = (row[name] for name in names)
    return tuple(
        each[:95] if isinstance(each, str) and len(each) == 128 and "~" in each else each for each in values
    )


def check(answer: Any, requests: list[Request], names: tuple[str, ...], asked: str, source: str) -> None:
    measures = asked.split(",")
    assert answer.totals["source"] == source
    of = value if source == "scan" else kept_value
    expected: dict[tuple[Any, ...], list[Request]] = {}
    for request in requests:
        expected.setdefault(tuple(of(request, name) for name in names), []).append(request)
    rows = {_kept_row(row, names): row for row in answer.data}
    assert set(rows) == set(expected)
    for group, members in expected.items():
        wanted = {name: number for name, number in figures(members).items() if name in measures}
        assert {name: rows[group][name] for name in measures} == approximately(wanted), group
    wanted = {name: number for name, number in figures(requests).items() if name in measures}
    assert answer.totals["total"] == approximately(wanted)


def _bounds(start: datetime | None, end: datetime | None) -> str:
    moments = (("start_date", start), ("end_date", end))
    return "&".join(f"{name}={moment:%Y-%m-%dT%H:%M:%S}" for name, moment in moments if moment is not None)


async def test_every_figure_is_that_of_a_recount_over_any_range_folded_or_not(
    ask: Ask, kept: asyncpg.Connection, requests: list[Request]
) -> None:
    for _ in range(2):
        answer = await ask(f"group_by=user_id&measures={ALL}&limit=10000")
        check(answer, requests, ("user_id",), ALL, "rollup:users")
        for start, end in RAGGED:
            bounds = f"&{_bounds(start, end)}"
            inside = between(requests, start or START, end or END)
            answer = await ask(f"group_by=user_id&measures={ALL}&limit=10000{bounds}")
            check(answer, inside, ("user_id",), ALL, "rollup:users")
            three = ("team", "error_kind", "model_id")
            answer = await ask(
                f"group_by={','.join(three)}&measures={WITHOUT_PERCENTILES}&limit=10000{bounds}"
            )
            check(answer, inside, three, WITHOUT_PERCENTILES, "rollup:teams")
        # Deltas that are not folded.
        await kept.execute("UPDATE chat_completion_requests SET input_tokens = input_tokens WHERE id % 3 = 0")
    filters: list[tuple[str, Callable[[Request], bool], tuple[str, ...], str]] = [
        ("user_id=u1", lambda each: each.user_id == "u1", (), "users"),
        ("user_id=u1&user_id=u2", lambda each: each.user_id in ("u1", "u2"), ("user_id",), "users"),
        ("user_id!=u1", lambda each: each.user_id != "u1", ("user_id",), "users"),
        (
            "key_id=10&provider_id=1",
            lambda each: each.key_id == 10 and value(each, "provider_id") == 1,
            ("key_id",),
            "keys",
        ),
        (
            "model_id=unresolved",
            lambda each: value(each, "model_id") == "unresolved",
            ("key_id", "model_id"),
            "keys",
        ),
        ("team=red&status=OK", lambda each: each.team == "red" and each.status == "OK", ("status",), "teams"),
    ]
    for text, condition, names, source in filters:
        asked = WITHOUT_PERCENTILES if source == "teams" else ALL
        for bounds, members in (
            ("", requests),
            (f"&start_date={RAGGED[0][0]:%Y-%m-%dT%H:%M:%S}", between(requests, RAGGED[0][0], END)),
        ):
            answer = await ask(f"group_by={','.join(names)}&measures={asked}&limit=10000&{text}{bounds}")
            check(answer, list(filter(condition, members)), names, asked, f"rollup:{source}")


async def test_the_first_groups_of_all_time_are_those_of_a_scan_whatever_is_not_folded(
    ask: Ask, kept: asyncpg.Connection
) -> None:
    measures = "total_requests,total_cost_usd,success_rate"
    orders = ("-total_cost_usd", "total_requests", "-success_rate", "user_id", "-user_id")
    # (Rollups shorten long values.)
    await kept.execute("UPDATE chat_completion_requests SET user_id = 'x' WHERE length(user_id) > 100")
    await kept.execute("SELECT chat_stats_fold()")
    for _ in range(2):
        for order in orders:
            question = f"group_by=user_id&measures={measures}&order_by={order}&limit="
            await kept.execute("UPDATE chat_stats_rollups SET ready = false")
            scanned = await ask(f"{question}10000")
            await kept.execute("UPDATE chat_stats_rollups SET ready = true")
            for limit in (1, 3, 10000):
                found = await ask(f"{question}{limit}")
                assert (found.totals["source"], scanned.totals["source"]) == ("rollup:users", "scan")
                assert found.data == scanned.data[:limit]
                for name in ("total", "total_groups"):
                    assert found.totals[name] == scanned.totals[name]
        by_cost = sorted(scanned.data, key=lambda row: row["total_cost_usd"])
        # A group that goes, one that comes, one of NULL, and two that change places.
        await kept.execute("DELETE FROM chat_completion_requests WHERE user_id = 'user3'")
        await kept.execute("UPDATE chat_completion_requests SET user_id = 'late' WHERE id % 50 = 0")
        await kept.execute("UPDATE chat_completion_requests SET user_id = NULL WHERE id % 51 = 0")
        for row, cost in ((by_cost[0], 1000), (by_cost[-1], 0)):
            await kept.execute(
                "UPDATE chat_completion_requests SET cost_usd = $1 WHERE user_id IS NOT DISTINCT FROM $2",
                cost,
                row["user_id"],
            )


MANY = """
INSERT INTO chat_completion_requests (model_id, user_id, cost_usd, processing_time_ms, status, created_at)
SELECT
    1, 'u' || n % $1::int, (hashint4(n) & 16383) / 1000.0, CASE WHEN n % 3 > 0 THEN n END, 'completed', now()
FROM generate_series(1, $2::int) AS n
"""


async def test_the_first_of_many_groups_of_all_time_are_those_of_a_scan(
    ask: Ask, kept: asyncpg.Connection
) -> None:
    """Of so many that a sample of them tells which need not be sorted."""
    await kept.execute(MANY, 9000, 12000)
    await kept.execute("SELECT chat_stats_fold()")
    for _ in range(2):
        for order in (
            "-total_cost_usd",
            "total_cost_usd",
            "-avg_processing_time_ms",
            "avg_processing_time_ms",
        ):
            question = (
                f"group_by=user_id&measures=total_cost_usd,avg_processing_time_ms&order_by={order}&limit=20"
            )
            await kept.execute("UPDATE chat_stats_rollups SET ready = false")
            scanned = await ask(question)
            await kept.execute("UPDATE chat_stats_rollups SET ready = true")
            found = await ask(question)
            assert (found.totals["source"], scanned.totals["source"]) == ("rollup:users", "scan")
            assert found.data == scanned.data
        await kept.execute(MANY, 300, 300)  # not folded


@pytest.mark.parametrize(
    ("source", "question"),
    [
        ("teams", "group_by=team,error_kind,model_id&status=failed"),
        ("teams", "group_by=model_id,provider_id,team&status=completed&error_kind=__null__"),
        ("teams", "group_by=model_id&team=red&status=completed&error_kind=__null__"),
        ("keys", "group_by=key_id,model_id"),
    ],
)
async def test_the_first_groups_of_models_are_those_of_a_scan_with_one_of_all_unresolved_ones(
    ask: Ask, kept: asyncpg.Connection, source: str, question: str
) -> None:
    measures = "total_requests,total_tokens,total_cost_usd" + ",p95_processing_time_ms" * (source == "keys")
    ranges = ("", *(f"&{_bounds(start, end)}" for start, end in RAGGED))
    for _ in range(2):
        for order in ("-total_cost_usd", "model_id"):
            for text in ranges:
                asked = f"{question}&measures={measures}&order_by={order}{text}&limit="
                await kept.execute("UPDATE chat_stats_rollups SET ready = false")
                scanned = await ask(f"{asked}10000")
                await kept.execute("UPDATE chat_stats_rollups SET ready = true")
                for limit in (2, 10000):
                    found = await ask(f"{asked}{limit}")
                    assert (found.totals["source"], scanned.totals["source"]) == (f"rollup:{source}", "scan")
                    assert found.data == scanned.data[:limit]
                    for name in ("total", "total_groups"):
                        assert found.totals[name] == scanned.totals[name]
        assert "unresolved" in {row["model_id"] for row in scanned.data}
        await kept.execute(
            "UPDATE chat_completion_requests SET input_tokens = input_tokens + 7 WHERE id % 3 = 0"
        )


async def test_a_series_in_any_time_zone_has_the_figures_of_a_recount(
    ask: Ask, kept: asyncpg.Connection, requests: list[Request]
) -> None:
    zone = ZoneInfo("Australia/Adelaide")
    users = ["u1", "user3"]
    for bucket, length in (("1d", timedelta(days=1)), ("1h", timedelta(hours=1))):
        start = (
            datetime(2026, 3, 27, tzinfo=zone) if bucket == "1d" else datetime(2026, 3, 28, 10, tzinfo=zone)
        )
        end = start + (timedelta(days=5) if bucket == "1d" else timedelta(hours=20))
        answer = await ask(
            f"group_by=user_id&user_id=u1&user_id=user3&bucket={bucket}&timezone={zone.key}&measures={ALL}"
            f"&start_date={start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}&end_date={end.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
        )
        assert answer.totals["source"] == "rollup:users"
        groups = grouped(requests, ["user_id"])
        for user in users:
            rows = [row for row in answer.data if row["user_id"] == user]
            assert len(rows) == (5 if bucket == "1d" else 20)
            for place, row in enumerate(rows):
                members = between(groups[user,], start + place * length, start + (place + 1) * length)
                assert shown(row) == approximately(figures(members))
    answer = await ask(
        f"group_by=user_id&user_id=u1&bucket=1mo&measures={ALL}&start_date=2026-03-01&end_date=2026-04-30"
    )
    assert [row["total_requests"] for row in answer.data] == [
        len([each for each in requests if each.user_id == "u1" and each.created_at.month == month])
        for month in (3, 4)
    ]


#: Every other day as an earlier form wrote it: histograms in the order of the slots.
AS_EARLIER = """
UPDATE chat_stats_rollup_users_slots AS t SET bins_ascend = NULL, (bin_slots, bins, counts) = (
    SELECT array_agg(u.slot), array_agg(u.bin), CASE WHEN t.counts IS NOT NULL THEN array_agg(u.n) END
    FROM (SELECT * FROM unnest(t.bin_slots, t.bins, t.counts) AS c (slot, bin, n) ORDER BY c.slot, c.bin) AS u
)
WHERE t.bins_ascend AND (t.day - date '2020-01-01') % 2 = 0
"""


async def test_a_daily_series_has_the_figures_of_a_recount_whatever_is_not_folded(
    ask: Ask, kept: asyncpg.Connection, requests: list[Request]
) -> None:
    """Of most days and users a rollup has one row; of others more: edges, deltas, a change of the clock."""
    await kept.execute("SELECT chat_stats_fold()")
    groups = grouped(requests, ["user_id"])
    for turn in range(2):
        for zone in (UTC, ZoneInfo("Europe/London")):
            start, end = RAGGED[0][0].astimezone(zone), RAGGED[0][1].astimezone(zone)
            for filters, users in (("&user_id=u1", ["u1"]), ("&user_id=u1&user_id=user3", ["u1", "user3"])):
                for by in ("&group_by=user_id", ""):
                    answer = await ask(
                        f"bucket=1d&timezone={'UTC' if zone is UTC else zone}{by}{filters}&measures={ALL}"
                        f"&start_date={start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}&end_date={end.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
                    )
                    assert answer.totals["source"] == "rollup:users"
                    for members in [[user] for user in users] if by else [users]:
                        wanted = between([each for user in members for each in groups[user,]], start, end)
                        rows = [row for row in answer.data if not by or row["user_id"] == members[0]]
                        days = {
                            datetime.fromisoformat(row["bucket_start"]).astimezone(zone).date(): row
                            for row in rows
                        }
                        assert len(days) == len(rows) == (end.date() - start.date()).days + 1
                        for day, row in days.items():
                            of_day = [
                                each for each in wanted if each.created_at.astimezone(zone).date() == day
                            ]
                            assert shown(row) == approximately(figures(of_day)), (zone, by, day)
                    inside = between([each for user in users for each in groups[user,]], start, end)
                    assert answer.totals["total"] == approximately(figures(inside))
        # Deltas of some days, that are not folded.
        await kept.execute(
            "UPDATE chat_completion_requests SET input_tokens = input_tokens "
            "WHERE created_at >= $1 AND created_at < $2",
            START + timedelta(days=3),
            START + timedelta(days=4, hours=7),
        )
        assert (await kept.execute(AS_EARLIER) != "UPDATE 0") is (turn == 0)


async def test_purged_requests_stay_and_a_rollup_added_later_says_what_it_lacks(
    ask: Ask, kept: asyncpg.Connection, requests: list[Request]
) -> None:
    before = START + timedelta(days=4)
    await Retention(kept).purge(before, lambda _done: None)
    answer = await ask(f"group_by=user_id&measures={ALL}&limit=10000")
    check(answer, requests, ("user_id",), ALL, "rollup:users")
    assert answer.totals["incomplete_before"] is None
    await add(kept, "late", "team", "user_id")
    left = between(requests, before, END)
    answer = await ask(f"group_by=team,user_id&measures={ALL}&limit=10000")
    check(answer, left, ("team", "user_id"), ALL, "rollup:late")
    assert answer.totals["incomplete_before"] == f"{before:%Y-%m-%dT%H:%M:%SZ}"
    answer = await ask(f"group_by=team,user_id&measures={ALL}&limit=10000&start_date={before:%Y-%m-%d}")
    check(answer, left, ("team", "user_id"), ALL, "rollup:late")
    assert answer.totals["incomplete_before"] is None


async def test_what_no_rollup_has_is_scanned_with_a_command_that_would_help(
    ask: Ask, kept: asyncpg.Connection, database_url: str
) -> None:
    for text, suggested in (
        ("group_by=user_id,model_id", "chat-stats rollup add user_id_model_id --by user_id,model_id"),
        ("group_by=key&user_id=u1", "chat-stats rollup add user_id_key --by user_id,key"),
        (
            "group_by=model_id,key&not_team=red&status=failed&status=ok&user_id=u1",
            "chat-stats rollup add by_5_dimensions --by user_id,status,model_id,key,team",
        ),
        ("group_by=team&measures=p95_processing_time_ms", "chat-stats rollup add team --by team"),
        ("group_by=team&measures=total_requests", None),
        ("group_by=model_id", None),
    ):
        answer = await ask(f"{text}&{'' if 'measures' in text else 'measures=total_requests'}")
        assert answer.totals["suggested_rollup"] == suggested, text
        assert (answer.totals["source"] == "scan") == (suggested is not None)
    # There is a rollup by the same dimensions, without percentiles, beside which none can be added.
    answer = await ask("group_by=model_id,team,error_kind&status=failed&measures=p95_processing_time_ms")
    assert (answer.totals["source"], answer.totals["suggested_rollup"]) == ("scan", None)
    # A dimension that is declared otherwise now is another one.
    other = asking(database_url, DIMENSIONS.replace("user_id", "user_id=error_message"))
    answer = await other("group_by=user_id&measures=total_requests")
    assert answer.totals["source"] == "scan"
    await kept.execute("UPDATE chat_stats_rollups SET ready = false WHERE name = 'users'")
    answer = await ask("group_by=user_id&measures=total_requests")
    assert (answer.totals["source"], answer.totals["suggested_rollup"]) == ("scan", None)


async def test_dates_are_the_same_text_whatever_style_writers_readers_and_the_database_have(
    kept: asyncpg.Connection, database_url: str
) -> None:
    declared = f"{DIMENSIONS}, day"
    await kept.execute("ALTER TABLE chat_completion_requests ADD day date DEFAULT '2026-02-03'")
    await run(database_url, declared)
    await add(kept, "days", "day", dimensions=declared)
    database = await kept.fetchval("SELECT current_database()")
    await kept.execute(f"ALTER DATABASE {database} SET datestyle = 'SQL, DMY'; SET datestyle = 'German'")
    await kept.execute("UPDATE chat_completion_requests SET user_id = 'written by another style'")
    count = await kept.fetchval("SELECT count(*) FROM chat_completion_requests")
    ask = asking(database_url, declared)
    for names, source in (("day", "rollup:days"), ("day,user_id", "scan")):
        answer = await ask(f"group_by={names}&measures=total_requests")
        assert answer.totals["source"] == source
        assert [(row["day"], row["total_requests"]) for row in answer.data] == [("2026-02-03", count)]
        function = "SELECT dimensions ->> 'day', total_requests FROM get_chat_request_stats($1::text[])"
        assert [tuple(row) for row in await kept.fetch(function, names.split(","))] == [("2026-02-03", count)]


async def test_texts_of_any_collation_are_told_apart_by_their_bytes(
    ask: Ask, connection: asyncpg.Connection, requests: list[Request], database_url: str
) -> None:
    collation = "ucs_basic"
    with suppress(asyncpg.FeatureNotSupportedError):  # without ICU
        await connection.execute(
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        collation = "any_case"
    await connection.execute(
        f'ALTER TABLE chat_completion_requests ALTER status TYPE text COLLATE "POSIX", '
        f"ALTER error_message TYPE text COLLATE {collation}, ALTER user_id TYPE text COLLATE {collation}; "
        f"ALTER TABLE models ALTER model_name TYPE text COLLATE {collation}"
    )
    await run(database_url, DIMENSIONS)
    named = [each for each in requests if each.model_id == 1]

    async def check_all(source: str) -> None:
        for names in (("user_id",), ("error_kind", "status", "user_id")):
            answer = await ask(f"group_by={','.join(names)}&measures={WITHOUT_PERCENTILES}&limit=10000")
            check(answer, requests, names, WITHOUT_PERCENTILES, source)
        asked = "user_id=u1&error_kind!=timeout&measures=total_requests,distinct_status"
        [row] = (await ask(asked)).data
        members = [
            each for each in requests if each.user_id == "u1" and value(each, "error_kind") != "timeout"
        ]
        assert row["total_requests"] == len(members)
        values = await ask("name=user_id&prefix=u1", values=True)
        assert "U1" not in [each["value"] for each in values.data]
        [model] = (await ask("name=model_id&prefix=aLP", values=True)).data
        assert model["total_requests"] == len(named)

    await check_all("scan")
    function = (
        "SELECT sum(total_requests) "
        "FROM get_chat_request_stats('{error_kind,user_id}', jsonb_build_object('user_id', 'u1'))"
    )
    of_user = sum(each.user_id == "u1" for each in requests)
    assert await connection.fetchval(function) == of_user
    await Rollup(connection).enable(lambda _done: None)
    await add(connection, "all_texts", "user_id", "error_kind", "status")
    await check_all("rollup:all_texts")
    assert await connection.fetchval(function) == of_user
    assert await Rollup(connection).verify(lambda _done: None) == 0
