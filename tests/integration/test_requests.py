"""`/chat-requests` as a client sees it."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pyarrow.parquet
import pytest
from pydantic import SecretStr

from chat_stats.service.explorer.exports import _cell
from chat_stats.service.explorer.reading import MERGED_MODELS
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import PostgresServer, RedisServer
from tests.conftest import SettingsFactory, _create_database, make_settings, run_migrations
from tests.integration.conftest import OpenClient

PATH = "/chat-requests"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def get(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    response = await client.get(PATH, params=parameters)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def ids(client: httpx.AsyncClient, **parameters: Any) -> list[int]:
    body = await get(client, **parameters)
    assert body["metadata"]["total_count"] == body["metadata"]["returned_count"] == len(body["data"])
    return [row["id"] for row in body["data"]]


async def refused(client: httpx.AsyncClient, path: str = PATH, **parameters: Any) -> tuple[str, str]:
    response = await client.get(path, params=parameters)
    assert response.status_code == 422, response.text
    return response.json()["parameter"], response.json()["detail"]


async def fill(connection: asyncpg.Connection) -> None:
    """Requests 1 to 12 of models 1 (Alpha), 2 (50%_off) and 3 (ALPHABET); 13 to 15 are unresolved.

    | id | model | created_at   | status    |
    | 1  | 1     | noon         | completed |   4 and 5: at the same moment
    | 9  | 3     | -infinity    | completed |
    | 10 | 3     | infinity     | completed |
    | 11, 12 | 2 | none         | failed    |
    """
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, '=Two()', 'two');
        INSERT INTO models (id, provider_id, model_name, provider_model_id, model_id) VALUES
            (1, 1, 'Alpha', 'one/alpha', 'alpha'), (2, 1, '50%_o\\ff', 'one/half', NULL),
            (3, 2, 'ALPHABET', 'two/abc', 'abc'), (4, NULL, 'Alpha without provider', NULL, NULL);
    """)
    rows = [
        (1, 1, NOON, "completed"),
        (2, 2, NOON + timedelta(microseconds=1), "failed"),
        (3, 3, NOON + timedelta(microseconds=2), "completed"),
        (4, 1, NOON + timedelta(hours=1), "completed"),
        (5, 3, NOON + timedelta(hours=1), "pending"),
        (6, 1, NOON - timedelta(days=1), "completed"),
        (7, 2, NOON + timedelta(days=1), "completed"),
        (8, 1, NOON - timedelta(days=400), "failed"),
        (11, 2, None, "failed"),
        (12, 2, None, "failed"),
        (13, 4, NOON, "completed"),
        (14, 99, NOON, "completed"),
        (15, None, NOON, "completed"),
    ]
    await connection.executemany(
        "INSERT INTO chat_completion_requests (id, model_id, created_at, status, input_tokens, output_tokens,"
        " processing_time_ms, cost_usd) VALUES ($1, $2, $3, $4, $1::bigint, 1, $1::bigint * 10, 0.5)",
        rows,
    )
    await connection.execute("""
        INSERT INTO chat_completion_requests
            (id, model_id, created_at, status, input_tokens, output_tokens, processing_time_ms, cost_usd,
             request_id, user_id, error_message)
        VALUES
            (9, 3, '-infinity', 'completed', 9223372036854775807, 9, 'NaN', 'Infinity', 'r9', 'u', '=1+1'),
            (10, 3, 'infinity', 'completed', NULL, NULL, NULL, NULL, '-r10', '@u', E'a "b",\n</script>');
        ANALYZE;
    """)


@pytest.fixture
async def log(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a database with these requests, for a test that changes them."""
    await fill(connection)
    return connection


@pytest.fixture(scope="session")
def kept_logs() -> dict[int, str]:
    """Databases with these requests, for all tests that only read: their URLs by the port of their server."""
    return {}


@pytest.fixture
async def kept(postgres: PostgresServer, redis: RedisServer, kept_logs: dict[int, str]) -> Settings:
    """Settings for a database that is only read."""
    if postgres.port not in kept_logs:
        url = postgres.url(await _create_database(postgres))
        await run_migrations(url)
        connection = await asyncpg.connect(url)
        await fill(connection)
        await connection.close()
        kept_logs[postgres.port] = url
    return make_settings(kept_logs[postgres.port], redis.url)


@pytest.fixture
async def reader(client_of: OpenClient, kept: Settings) -> httpx.AsyncClient:
    return await client_of(kept)


ALL = [10, 7, 5, 4, 3, 2, 1, 6, 8, 9, 12, 11]


async def test_the_newest_requests_come_first_and_those_without_a_time_last(
    reader: httpx.AsyncClient,
) -> None:
    assert await ids(reader) == ALL


async def test_a_row_nests_its_model_and_the_model_its_provider(reader: httpx.AsyncClient) -> None:
    body = await get(reader, model_id=2, status="completed")
    assert body["data"] == [
        {
            "id": 7,
            "request_id": None,
            "model_id": 2,
            "input_tokens": 7,
            "output_tokens": 1,
            "total_tokens": 8,
            "processing_time_ms": 70,
            "status": "completed",
            "error_message": None,
            "user_id": None,
            "cost_usd": 0.5,
            "created_at": "2026-03-02T12:00:00Z",
            "models": {
                "id": 2,
                "model_id": None,
                "model_name": "50%_o\\ff",
                "model_identifier": "one/half",
                "provider_model_id": "one/half",
                "provider_id": 1,
                "providers": {"id": 1, "name": "One", "slug": "one"},
            },
        }
    ]


async def test_numbers_beyond_reason_are_null_and_sums_stay_within_64_bits(reader: httpx.AsyncClient) -> None:
    rows = {row["id"]: row for row in (await get(reader))["data"]}
    assert rows[9]["total_tokens"] == 2**63 - 1
    assert rows[10]["total_tokens"] == 0
    for name in ("processing_time_ms", "cost_usd", "created_at"):
        assert rows[9][name] is rows[10][name] is None


FILTERED: list[tuple[dict[str, Any], list[int]]] = [
    ({"model_id": 3}, [10, 5, 3, 9]),
    ({"model_id": 4}, []),
    ({"model_id": 4711}, []),
    ({"model_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff"}, []),
    ({"provider_id": 1}, [7, 4, 2, 1, 6, 8, 12, 11]),
    ({"provider_id": 1, "model_id": 3}, []),
    ({"model_name": "alpha"}, [10, 5, 4, 3, 1, 6, 8, 9]),
    ({"model_name": "%"}, [7, 2, 12, 11]),
    ({"model_name": "_"}, [7, 2, 12, 11]),
    ({"model_name": "\\"}, [7, 2, 12, 11]),
    ({"model_name": "a_p"}, []),
    ({"model_name": ""}, ALL),
    ({"status": "failed"}, [2, 8, 12, 11]),
    ({"status": "failed", "model_id": 2}, [2, 12, 11]),
    ({"status": "completed", "model_name": "ABE", "start_date": "2026-01-01"}, [10, 3]),
    ({"start_date": "2026-03-01T12:00:00.000001Z"}, [10, 7, 5, 4, 3, 2]),
    ({"end_date": "2026-03-01T12:00:00.000001Z"}, [1, 6, 8, 9]),
    ({"start_date": "2026-03-01", "end_date": "2026-03-01"}, [5, 4, 3, 2, 1]),
    ({"start_date": "2026-03-01", "end_date": "2026-03-01", "provider_id": 2}, [5, 3]),
    ({"window": "24h"}, []),
]


@pytest.mark.parametrize("rollup", [False, True], ids=["counted", "rolled up"])
async def test_every_filter_applies_to_the_rows_and_to_their_number(
    client: httpx.AsyncClient, log: asyncpg.Connection, settings: Settings, rollup: bool
) -> None:
    if rollup:
        async with open_rollup(settings) as switch:
            await switch.enable(lambda _requests: None)
    for filters, expected in FILTERED:
        assert (filters, await ids(client, **filters)) == (filters, expected)


async def test_the_total_count_comes_from_the_rollup_if_it_is_on(
    client: httpx.AsyncClient, log: asyncpg.Connection, settings: Settings
) -> None:
    assert (await get(client))["metadata"]["method"] == "query"
    async with open_rollup(settings) as switch:
        await switch.enable(lambda _requests: None)
    assert (await get(client))["metadata"]["method"] == "rpc"
    assert (await get(client, status="failed"))["metadata"]["method"] == "query"


async def test_many_models_give_the_same_order(client: httpx.AsyncClient, log: asyncpg.Connection) -> None:
    await log.execute(
        "INSERT INTO models (id, provider_id, model_name) "
        "SELECT n, 2, 'alphas' FROM generate_series(5, $1) AS n",
        5 + MERGED_MODELS,
    )
    assert await ids(client) == ALL
    assert await ids(client, model_name="alpha") == [10, 5, 4, 3, 1, 6, 8, 9]
    assert await ids(client, provider_id=2, status="completed") == [10, 3, 9]


@pytest.mark.parametrize("size", [1, 2, 5, 11, 12])
async def test_pages_by_cursor_give_all_rows_in_order(reader: httpx.AsyncClient, size: int) -> None:
    seen: list[int] = []
    parameters: dict[str, Any] = {"limit": size}
    while True:
        body = await get(reader, **parameters)
        assert body["metadata"]["total_count"] == len(ALL)
        seen += [row["id"] for row in body["data"]]
        if body["metadata"]["next_cursor"] is None:
            break
        parameters["cursor"] = body["metadata"]["next_cursor"]
    assert seen == ALL


async def test_pages_by_offset_give_all_rows_in_order(reader: httpx.AsyncClient) -> None:
    for offset in range(len(ALL) + 2):
        body = await get(reader, limit=3, offset=offset)
        assert [row["id"] for row in body["data"]] == ALL[offset : offset + 3]
        assert (body["metadata"]["offset"], body["metadata"]["limit"]) == (offset, 3)
        assert (body["metadata"]["next_cursor"] is None) == (offset + 3 >= len(ALL))


async def test_concurrent_writes_neither_repeat_nor_hide_a_row(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    first = await get(client, limit=5)
    await log.execute("INSERT INTO chat_completion_requests (id, model_id) VALUES (100, 1)")
    second = await get(client, limit=100, cursor=first["metadata"]["next_cursor"])
    assert [row["id"] for row in first["data"] + second["data"]] == ALL
    assert (await get(client, limit=2))["data"][1]["id"] == 100


async def test_the_pages_of_a_window_share_the_moment_at_which_it_ends(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    await log.execute(
        "UPDATE chat_completion_requests SET created_at = now() - interval '1 hour' + interval '2 s' "
        "+ id * interval '1 microsecond' WHERE id <= 4"
    )
    first = await get(client, limit=2, window="1h")
    assert first["metadata"]["total_count"] == 4
    await log.execute("SELECT pg_sleep(2.1)")
    second = await get(client, window="1h", cursor=first["metadata"]["next_cursor"])
    assert [row["id"] for row in second["data"]] == [2, 1]
    assert await ids(client, window="1h") == []


async def test_metadata(reader: httpx.AsyncClient) -> None:
    metadata = (await get(reader, limit=2, model_name="ALPHA", start_date="2026-01-01"))["metadata"]
    assert metadata["filters"] == {
        "model_id": None,
        "provider_id": None,
        "model_name": "ALPHA",
        "status": None,
        "window": None,
        "start_date": "2026-01-01T00:00:00Z",
        "end_date": None,
    }
    assert (metadata["total_count"], metadata["returned_count"]) == (6, 2)
    assert (metadata["window"], metadata["start_date"]) == (None, "2026-01-01T00:00:00Z")
    assert (metadata["unavailable"], metadata["generation"]) == ([], None)
    age = datetime.now(UTC) - datetime.fromisoformat(metadata["timestamp"])
    assert abs(age) < timedelta(seconds=5)


@pytest.mark.parametrize("parameters", [{}, {"limit": 5000}, {"format": "csv"}], ids=str)
async def test_the_headers_say_that_the_cache_was_bypassed(
    reader: httpx.AsyncClient, parameters: dict[str, Any]
) -> None:
    headers = (await reader.get(PATH, params=parameters)).headers
    assert headers["cache-status"] == "chat-stats; fwd=bypass"
    assert (headers["age"], headers["cache-control"]) == ("0", "public, no-cache")


async def test_only_the_chosen_fields_in_their_order(reader: httpx.AsyncClient) -> None:
    body = await get(reader, fields="provider_name,id,model_name", model_id=3, limit=2)
    assert [list(row.items()) for row in body["data"]] == [
        [("provider_name", "=Two()"), ("id", 10), ("model_name", "ALPHABET")],
        [("provider_name", "=Two()"), ("id", 5), ("model_name", "ALPHABET")],
    ]
    assert body["metadata"]["next_cursor"] is not None


@pytest.mark.parametrize("limit", [100, 5000], ids=["small", "streamed"])
async def test_json_is_the_same_streamed_or_not(reader: httpx.AsyncClient, limit: int) -> None:
    body = await get(reader, limit=limit)
    assert [row["id"] for row in body["data"]] == ALL
    assert body["metadata"]["returned_count"] == len(ALL)


async def test_csv_is_safe_to_open_in_a_spreadsheet(reader: httpx.AsyncClient) -> None:
    fields = "id,request_id,user_id,error_message,provider_name,created_at"
    response = await reader.get(
        PATH, params={"fields": fields, "model_id": 3}, headers={"Accept": "text/csv"}
    )
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["content-disposition"].startswith('attachment; filename="chat-requests-')
    assert response.text.endswith("\r\n")
    rows = list(csv.reader(io.StringIO(response.text, newline="")))
    assert rows[0] == fields.split(",")
    assert rows[1] == ["10", "'-r10", "'@u", 'a "b",\n</script>', "'=Two()", ""]
    assert rows[2] == ["5", "", "", "", "'=Two()", "2026-03-01T13:00:00Z"]
    assert rows[4] == ["9", "r9", "u", "'=1+1", "'=Two()", ""]


FORMULAS = [
    *(
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1+1",
        "\n",
        " =1+1",
        "\ufeff=1",
        "\u00a0=1",
        "\x00=1",
    ),
    *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", " \u3000\uff1d1", "\u200b=1", "\ufe661"),
]
TEXTS = ["a=1", "1-1", "", " a", "'=1", "(=1)", "\u2212", "a\n=1+1", "e@mail"]


def test_no_cell_is_a_formula_however_it_begins() -> None:
    assert [_cell(text) for text in FORMULAS] == [f"'{text}" for text in FORMULAS]
    assert [_cell(text) for text in TEXTS] == TEXTS
    assert [_cell(value) for value in (-1, -0.5, None, True)] == [-1, -0.5, None, "true"]


async def test_ndjson_has_the_rows_of_json(reader: httpx.AsyncClient) -> None:
    response = await reader.get(PATH, headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in response.text.splitlines()] == (await get(reader))["data"]


async def test_parquet_has_typed_columns(reader: httpx.AsyncClient) -> None:
    response = await reader.get(PATH, params={"format": "parquet"})
    assert response.headers["content-type"] == "application/vnd.apache.parquet"
    table = pyarrow.parquet.read_table(io.BytesIO(response.content))
    types = {field.name: str(field.type) for field in table.schema}
    assert types["id"] == types["model_id"] == types["provider_id"] == types["total_tokens"] == "int64"
    assert (types["cost_usd"], types["created_at"]) == ("double", "timestamp[us, tz=UTC]")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ALL
    assert rows[4]["created_at"] == NOON + timedelta(microseconds=2)
    assert rows[4]["provider_name"] == "=Two()"


@pytest.mark.parametrize("format_", ["csv", "ndjson", "parquet"])
async def test_an_empty_download_is_complete(reader: httpx.AsyncClient, format_: str) -> None:
    response = await reader.get(PATH, params={"format": format_, "model_id": 4, "fields": "id,model_name"})
    assert response.status_code == 200
    if format_ == "parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(response.content)).num_rows == 0
    else:
        assert response.text == {"csv": "id,model_name\r\n", "ndjson": ""}[format_]


async def test_parquet_says_what_to_install_if_it_is_missing(
    reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    parameter, detail = await refused(reader, format="parquet")
    assert (parameter, "pip install 'chat-stats[parquet]'" in detail) == ("format", True)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"limit": 0}, "limit", "from 1 to 100000"),
    ({"limit": 100_001}, "limit", "from 1 to 100000"),
    ({"offset": -1}, "offset", "from 0 to"),
    ({"fields": "id,passwort"}, "fields", "known: id,"),
    ({"fields": "models", "format": "csv"}, "fields", "known: id,"),
    ({"format": "xml"}, "format", "known: json, csv, ndjson, parquet"),
    ({"window": "2d"}, "window", "known: 1h"),
    ({"start_date": "yesterday"}, "start_date", "ISO 8601"),
    ({"model_id": "gpt-4"}, "model_id", "UUID"),
    ({"provider_id": "x"}, "provider_id", "UUID"),
    ({"model_name": "\0"}, "model_name", "NUL"),
    ({"cursor": "x"}, "cursor", "next_cursor"),
    ({"cursor": "x", "offset": 1}, "cursor", "not both"),
]


async def test_a_bad_parameter_is_named_with_what_is_allowed(reader: httpx.AsyncClient) -> None:
    for parameters, named, allowed in BAD:
        parameter, detail = await refused(reader, **parameters)
        assert parameter == named
        assert allowed in detail


async def test_a_status_that_no_request_has_is_an_empty_answer(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    for status in ("FAILED", "", "new"):
        assert await ids(client, status=status) == []
    await log.execute("UPDATE chat_completion_requests SET status = 'new' WHERE id = 1")
    assert await ids(client, status="new") == [1]


@pytest.mark.parametrize(
    "type_", ["status_of_request", "integer", "short_status", "uuid", "timestamptz", "char(6)"]
)
async def test_a_status_that_its_type_cannot_hold_is_an_empty_answer(
    client: httpx.AsyncClient, log: asyncpg.Connection, type_: str
) -> None:
    await log.execute(
        "CREATE TYPE status_of_request AS ENUM ('failed');"
        "CREATE DOMAIN short_status AS varchar(6) CHECK (value <> 'pending');"
        "ALTER TABLE chat_completion_requests ALTER COLUMN status DROP DEFAULT, "
        f"ALTER COLUMN status TYPE {type_} USING NULL"
    )
    for status in ("pending", "99999999999999999999", "\N{SNOWMAN}"):
        assert await ids(client, status=status) == []
        assert await ids(client, status=status, model_id="unresolved") == []
        plot = (await client.get(f"{PATH}/plot-data", params={"status": status})).json()
        assert (plot["data"]["recent_requests"], plot["metadata"]["total_count"]) == ([], 0)


UNRESOLVED: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [15, 14, 13]),
    ({"start_date": "2026-03-01", "end_date": "2026-03-01"}, [15, 14, 13]),
    ({"window": "24h"}, []),
    ({"status": "completed"}, [15, 14, 13]),
    ({"status": "failed"}, []),
    ({"provider_id": 1}, []),
    ({"model_name": "Alpha"}, []),
]


@pytest.mark.parametrize("rollup", [False, True], ids=["counted", "rolled up"])
async def test_requests_without_a_model_that_exists_are_listed_and_counted(
    client: httpx.AsyncClient, log: asyncpg.Connection, settings: Settings, rollup: bool
) -> None:
    if rollup:
        async with open_rollup(settings) as switch:
            await switch.enable(lambda _requests: None)
    for filters, expected in UNRESOLVED:
        assert (filters, await ids(client, model_id="unresolved", **filters)) == (filters, expected)
    rows = (await get(client, model_id="unresolved"))["data"]
    assert [(row["model_id"], row["models"]) for row in rows] == [(None, None), (99, None), (4, None)]
    assert (await get(client, model_id="unresolved"))["metadata"]["filters"]["model_id"] == "unresolved"
    # Deleting a model moves its requests there.
    await log.execute(
        "DELETE FROM models WHERE id = 2; UPDATE chat_completion_requests SET created_at = NULL WHERE id = 13"
    )
    assert await ids(client, model_id="unresolved") == [7, 2, 15, 14, 13, 12, 11]
    assert await ids(client) == [10, 5, 4, 3, 1, 6, 8, 9]


async def test_unresolved_requests_are_paged_downloaded_and_plotted(
    client: httpx.AsyncClient, log: asyncpg.Connection
) -> None:
    await log.execute(
        "INSERT INTO chat_completion_requests (id, model_id, created_at, input_tokens) "
        "SELECT n, CASE n % 3 WHEN 0 THEN 1000 + n END, '2026-04-01Z'::timestamptz + n * interval '1 s', n "
        "FROM generate_series(100, 100 + 3 * $1::int) AS n",
        MERGED_MODELS + 5,
    )
    expected = [*range(100 + 3 * (MERGED_MODELS + 5), 99, -1), 15, 14, 13]
    assert await ids(client, model_id="unresolved", limit=1000) == expected
    seen: list[int] = []
    place: dict[str, Any] = {}
    while place.get("cursor", "") is not None:
        page = await get(client, model_id="unresolved", limit=50, **place)
        seen += [row["id"] for row in page["data"]]
        place = {"cursor": page["metadata"]["next_cursor"]}
    assert seen == expected
    cursor = (await get(client, model_id="unresolved", limit=1))["metadata"]["next_cursor"]
    assert (await refused(client, cursor=cursor))[0] == "cursor"

    asked: dict[str, Any] = {
        "model_id": "unresolved",
        "limit": 2000,
        "fields": "id,model_id,model_name,provider_id",
    }
    text = (await client.get(PATH, params={**asked, "format": "csv"})).text
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(text))] == expected
    lines = (await client.get(PATH, params={**asked, "format": "ndjson"})).text.splitlines()
    assert json.loads(lines[-2]) == {"id": 14, "model_id": 99, "model_name": None, "provider_id": None}
    table = await client.get(PATH, params={**asked, "format": "parquet"})
    assert pyarrow.parquet.read_table(io.BytesIO(table.content)).to_pylist()[-1] == {
        "id": 13,
        "model_id": 4,
        "model_name": None,
        "provider_id": None,
    }

    plot = (await client.get(f"{PATH}/plot-data", params={"model_id": "unresolved", "points": 50})).json()
    assert plot["metadata"]["total_count"] == len(expected)
    assert [row["id"] for row in plot["data"]["recent_requests"]] == expected[:10]
    assert plot["metadata"]["sampling"]["method"] == "time_slots"
    assert set(plot["data"]["plot_data"]["tokens"]) <= {id_ + (1 if id_ < 16 else 0) for id_ in expected}


async def test_an_accept_that_allows_nothing_is_406(reader: httpx.AsyncClient) -> None:
    response = await reader.get(PATH, headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert response.headers["content-type"] == "application/problem+json"


async def test_unchanged_rows_are_a_304(client: httpx.AsyncClient, log: asyncpg.Connection) -> None:
    tag = (await client.get(PATH)).headers["etag"]
    assert (await client.get(PATH, headers={"If-None-Match": tag})).status_code == 304
    await log.execute("UPDATE chat_completion_requests SET input_tokens = 12345 WHERE id = 1")
    assert (await client.get(PATH, headers={"If-None-Match": tag})).status_code == 200


async def test_reading_rows_needs_a_key_if_keys_are_set(client_of: OpenClient, kept: Settings) -> None:
    client = await client_of(kept.model_copy(update={"api_keys": (SecretStr("secret"),)}))
    for path in (PATH, f"{PATH}?format=csv", f"{PATH}/plot-data"):
        assert (await client.get(path)).status_code == 401
        response = await client.get(path, headers={"X-API-Key": "secret"})
        assert response.status_code == 200
        assert response.headers["cache-control"].startswith("private")


async def test_a_count_that_takes_too_long_is_null_and_named_as_unavailable(
    client_of: OpenClient, settings_with: SettingsFactory, log: asyncpg.Connection
) -> None:
    # A view that is slow for each row, so that counting is slow and reading one row is not.
    await log.execute(
        "ALTER TABLE chat_completion_requests RENAME TO requests;"
        "CREATE VIEW chat_completion_requests AS SELECT * FROM requests WHERE pg_sleep(0.1) IS NOT NULL"
    )
    client = await client_of(settings_with(query_timeout_seconds=2.4))
    body = await get(client, limit=1, model_id=1)
    assert body["metadata"]["total_count"] is None
    assert body["metadata"]["unavailable"] == ["total_count"]


@pytest.mark.parametrize("path", [PATH, f"{PATH}?limit=2000", f"{PATH}?format=csv", f"{PATH}/plot-data"])
async def test_head_gets_the_headers_of_get(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, path: str
) -> None:
    head, got = await client.head(path), await client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    wanted = ("etag", "content-type", "cache-control", "vary")
    assert [head.headers.get(name) for name in wanted] == [got.headers.get(name) for name in wanted]
    assert (await client.head(PATH, params={"limit": 0})).status_code == 422
