"""`get_chat_request_stats()` gives what questions over HTTP give, without the service."""

import json
import random
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, quote

import asyncpg
import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.figures import FIGURES
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.rollup.retention import Retention
from chat_stats.service.rollup.upkeep import Rollup
from tests.questions.conftest import DAYS, DIMENSIONS, START, Ask, Compute, asking
from tests.questions.recount import HOSTILE, Request
from tests.questions.test_migrate import run
from tests.questions.test_own_rollups import add

pytestmark = pytest.mark.every_postgres

KNOWN = known_dimensions(DIMENSIONS)
CALL = """
SELECT row_to_json(f)::text FROM get_chat_request_stats(
    $1::text[], $2::text::jsonb, $3::timestamptz, $4::timestamptz, $5::text, $6::text
) AS f
"""

#: Values of each dimension that a filter may name: those of strangers, those that no request has, and none.
VALUES: dict[str, list[str | None]] = {
    "model_id": ["1", "2", "10", "4", "77", None],
    "provider_id": ["1", "2", "3", None],
    "status": ["completed", "failed", "", "no such", None],
    "error_kind": ["timeout", "rate_limited", "other", None],
    "user_id": [*HOSTILE, "user3", None],
    "key": ["1", "-3", "01", None],
    "key_id": ["2", "10", "x", None],
    "team": ["red", "it's", "", None],
}


def a_question(rng: random.Random) -> tuple[str, tuple[Any, ...]]:
    """Return a random question as a query string, and as the arguments of the function."""
    group_by = rng.sample(list(VALUES), rng.choice([0, 1, 1, 2, 3]))
    filters = {
        name + rng.choice(["", "!"]): rng.sample(VALUES[name], rng.choice([1, 1, 2, 3]))
        for name in rng.sample(list(VALUES), rng.choice([0, 1, 1, 2]))
    }
    start = rng.choice([None, START + timedelta(hours=rng.randrange(200), minutes=rng.randrange(60))])
    end = rng.choice([None, START + timedelta(days=DAYS, minutes=rng.randrange(60))])
    bucket = rng.choice([None, None, None, "1d", "1w", "1mo"])
    timezone = rng.choice(["UTC", "Europe/Berlin", "Asia/Kolkata"])
    if bucket is not None:
        group_by, end = group_by[:1], end or START + timedelta(days=DAYS)
    parts = [f"group_by={','.join(group_by)}", f"measures={','.join(FIGURES)}", "limit=10000"]
    parts += [f"{name}_date={at:%Y-%m-%dT%H:%M:%SZ}" for name, at in (("start", start), ("end", end)) if at]
    parts += [f"bucket={bucket}&timezone={timezone}"] if bucket else []
    for name, values in filters.items():
        none = "unresolved" if name.rstrip("!").endswith(("model_id", "provider_id")) else "__null__"
        escaped = [
            none if value is None else f"\\{value}" if value.endswith("__null__") else value
            for value in values
        ]
        parts += [f"{quote(name)}={quote(value)}" for value in escaped if len(value) <= 500]
    kept = {name: [each for each in values if len(each or "") <= 500] for name, values in filters.items()}
    given = {name: values[0] if len(values) == 1 else values for name, values in kept.items() if values}
    return "&".join(parts), (group_by, json.dumps(given), start, end, bucket, timezone)


def of_service(row: dict[str, Any], group_by: list[str]) -> tuple[Any, ...]:
    names = [
        row.get(name.replace("_id", "_name")) for name in group_by if name in ("model_id", "provider_id")
    ]
    values = [row[name] if row[name] is None else str(row[name]) for name in group_by]
    return (row.get("bucket_start", "")[:10], *values, *names)


def of_function(row: dict[str, Any], group_by: list[str]) -> tuple[Any, ...]:
    there = row["dimensions"]
    names = [there[name.replace("_id", "_name")] for name in group_by if name in ("model_id", "provider_id")]
    return (row["bucket_start"] or "", *(there[name] for name in group_by), *names)


async def compare(connection: asyncpg.Connection, compute_all: Compute, seed: int, count: int) -> int:
    """Ask random questions in both ways; return how many rows there were."""
    rng = random.Random(seed)  # noqa: S311
    asked = [a_question(rng) for _ in range(count)]
    queries = [parse_question(parse_qsl(text, keep_blank_values=True), KNOWN) for text, _ in asked]
    computed = await compute_all(queries)
    rows = 0
    for (text, arguments), query in zip(asked, queries, strict=True):
        group_by, zone = arguments[0], arguments[5]
        found = [json.loads(record[0]) for record in await connection.fetch(CALL, *arguments)]
        for row in found:
            if row["bucket_start"] is not None:
                moment = await connection.fetchval(
                    "SELECT ($1::text::timestamptz AT TIME ZONE $2)::date::text", row["bucket_start"], zone
                )
                row["bucket_start"] = moment
        data: Any = computed[query].data
        expected = {of_service(row, group_by): {name: row[name] for name in FIGURES} for row in data}
        answered = {of_function(row, group_by): {name: row[name] for name in FIGURES} for row in found}
        assert len(answered) == len(found) == len(data), text
        assert answered.keys() == expected.keys(), text
        for key, figures in answered.items():
            assert figures == pytest.approx(expected[key], rel=1e-9), (text, key)
        if not arguments[4]:
            totals = [row["total_requests"] for row in found]
            assert totals == sorted(totals, reverse=True), text
        rows += len(found)
    return rows


async def test_the_function_agrees_with_random_questions(
    connection: asyncpg.Connection, compute_all: Compute, requests: list[Request], database_url: str
) -> None:
    await run(database_url, DIMENSIONS)
    assert await compare(connection, compute_all, 1, 25) > 200
    await Rollup(connection).enable(lambda _done: None)
    await connection.execute("UPDATE chat_completion_requests SET input_tokens = 7 WHERE model_id = 2")
    assert await compare(connection, compute_all, 2, 12) > 50
    await Retention(connection).purge(START + timedelta(days=4), lambda _done: None)
    assert await compare(connection, compute_all, 3, 12) > 50


async def test_json_that_text_cannot_hold_fails_no_question_about_the_others(
    connection: asyncpg.Connection, requests: list[Request], database_url: str
) -> None:
    """Python writes NUL so, and JavaScript a smiley that was cut in two. `jsonb` refuses both."""
    shown = {
        r'"a\u0000\u0000b"': "a\ufffd\ufffdb",
        r'"cut \uD83D"': "cut \ufffd",
        r'"\ude00\uDe00 cut"': "\ufffd\ufffd cut",
        r'"\ud83d\ude00 \\u0000 \\\u0000"': "\U0001f600 \\u0000 \\\ufffd",
        '"red"': "red",
        r'null, "other": "\u0000"': None,
    }
    await connection.execute("ALTER TABLE chat_completion_requests ADD labels_json json")
    await connection.executemany(
        "INSERT INTO chat_completion_requests (status, labels_json) VALUES ('of json', $1)",
        [(f'{{"team": {text}}}',) for text in shown],
    )
    declared = "label=labels_json->>team"
    await run(database_url, declared)
    ask = asking(database_url, declared)
    answer = await ask("group_by=label&measures=total_requests&status=of json")
    assert sorted(answer.data, key=str) == sorted(
        ({"label": each, "total_requests": 1} for each in shown.values()), key=str
    )
    assert answer.totals["suggested_rollup"] is None  # one needs a key of a jsonb column
    for each in filter(None, shown.values()):
        answer = await ask(f"measures=total_requests&label={quote(each)}")
        assert answer.data == [{"total_requests": 1}]
    call = "SELECT dimensions ->> 'label' FROM get_chat_request_stats('{label}', '{\"status\": \"of json\"}')"
    assert {row[0] for row in await connection.fetch(call)} == set(shown.values())


async def test_different_values_are_counted_over_the_rows_by_their_dimension(
    connection: asyncpg.Connection, ask: Ask, requests: list[Request], database_url: str
) -> None:
    await run(database_url, DIMENSIONS)
    answer = await ask(
        f"group_by=team&measures=distinct_user_id&limit=1000&end_date={START + timedelta(days=DAYS):%Y-%m-%d}"
    )
    records = await connection.fetch(
        """
        SELECT dimensions ->> 'team' AS team, count(dimensions ->> 'user_id') AS users
        FROM get_chat_request_stats('{team,user_id}', p_end => $1, p_percentiles => false)
        GROUP BY 1
        """,
        START + timedelta(days=DAYS),
    )
    assert len(records) > 3
    assert {record["team"]: record["users"] for record in records} == {
        row["team"]: row["distinct_user_id"] for row in answer.data
    }


async def test_percentiles_are_computed_only_when_they_are_asked_for(
    connection: asyncpg.Connection, requests: list[Request]
) -> None:
    call = "SELECT * FROM get_chat_request_stats('{status}', p_percentiles => false)"
    records = await connection.fetch(call)
    assert len(records) == len({request.status and request.status.rstrip() for request in requests})
    assert {record["p95_processing_time_ms"] for record in records} == {None}
    assert await connection.fetch(
        "SELECT * FROM get_chat_request_stats('{status}') WHERE p95_processing_time_ms > 0"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("'{user}'", "unknown dimension user; known: provider_id, model_id, status, error_kind"),
        ("'{}', '{\"cost\": [1]}'", "unknown dimension cost; known: "),
        ("'{status,status}'", "one twice"),
        ("'{status,model_id,provider_id,error_kind}'", "more than 3 dimensions"),
        ("'{}', '[]'", "p_filters is an object"),
        ("'{}', p_bucket => '1y'", "unknown p_bucket 1y; known: 15m, 1h, 1d, 1w, 1mo"),
        ("'{}', p_bucket => '1d', p_start => '-infinity'", "cannot be infinite"),
    ],
)
async def test_what_is_wrong_is_named(connection: asyncpg.Connection, call: str, message: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=message.replace("(", r"\(")):
        await connection.fetch(f"SELECT * FROM get_chat_request_stats({call})")


async def test_a_question_about_no_requests_is_one_row_of_zeros(connection: asyncpg.Connection) -> None:
    [row] = await connection.fetch("SELECT * FROM get_chat_request_stats()")
    assert (row["dimensions"], row["total_requests"], row["p99_processing_time_ms"]) == ("{}", 0, 0)
    assert await connection.fetch("SELECT * FROM get_chat_request_stats('{status}')") == []


async def test_a_rollup_of_the_operators_own_is_read_where_it_has_all_dimensions(
    connection: asyncpg.Connection, compute_all: Compute, requests: list[Request], database_url: str
) -> None:
    await run(database_url, DIMENSIONS)
    await Rollup(connection).enable(lambda _done: None)
    await add(connection, "users", "user_id")
    await add(connection, "teams", "team", "error_kind", "status", "model_id")
    await connection.execute("UPDATE chat_completion_requests SET input_tokens = 7 WHERE model_id = 2")
    assert await compare(connection, compute_all, 4, 25) > 100
    await connection.execute("SELECT chat_stats_fold()")
    assert await compare(connection, compute_all, 5, 12) > 50
    await Retention(connection).purge(START + timedelta(days=4), lambda _done: None)
    assert await compare(connection, compute_all, 6, 12) > 50
    users = "SELECT sum(total_requests)::int FROM get_chat_request_stats('{user_id}'{filters})"
    for filters in ("", ', \'{"user_id": ["@kept@", "@requests@ %s", null]}\''):
        text = users.replace("{filters}", filters)
        before = await connection.fetchval(text)
        await connection.execute(
            "UPDATE chat_stats_rollup_users_lifetime SET requests = requests + 1 WHERE by_user_id IS NULL"
        )
        assert await connection.fetchval(text) == before + 1
    await connection.execute("UPDATE chat_stats_rollups SET ready = false")
    left = await connection.fetchval("SELECT count(*)::int FROM chat_completion_requests")
    assert await connection.fetchval(users.replace("{filters}", "")) == left < len(requests)
