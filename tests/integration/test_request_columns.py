"""Columns of single requests that only some gateways have."""

import csv
import io
import json
from typing import Any

import asyncpg
import httpx
import pyarrow.parquet
import pytest

from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient

PATH = "/chat-requests"

KNOWN = """
    ALTER TABLE chat_completion_requests
        ADD api_key_id uuid, ADD is_anonymous boolean, ADD metadata jsonb,
        ADD input_cost_usd numeric(14, 8), ADD prompt text;
    DELETE FROM chat_completion_requests WHERE id <> 1;
    UPDATE chat_completion_requests SET
        api_key_id = '6f9619ff-8b86-d011-b42d-00cf4fc964ff', is_anonymous = true,
        metadata = '{"team": "a\\nb", "n": 12345678901234567890, "list": [1.50, null]}',
        input_cost_usd = 0.00012345, prompt = 'a secret';
"""
SHOWN = {
    "api_key_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    "is_anonymous": True,
    "metadata": {"team": "a\nb", "n": 12345678901234567890, "list": [1.5, None]},
    "input_cost_usd": 0.00012345,
}
STANDARD = [
    *("id", "request_id", "model_id", "input_tokens", "output_tokens", "total_tokens", "processing_time_ms"),
    *("status", "error_message", "user_id", "cost_usd", "created_at"),
]
#: Of the table that the migrations create.
OWN = ["key_id", "labels"]


async def first(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    response = await client.get(PATH, params={"limit": 1, **parameters})
    assert response.status_code == 200, response.text
    row: dict[str, Any] = response.json()["data"][0]
    return row


async def test_known_columns_are_shown_where_they_exist_and_no_others(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with())
    assert list(await first(client)) == [*STANDARD, "models"]
    assert await first(client, fields="metadata,id") == {"metadata": None, "id": 5}
    await gateway.execute(KNOWN)
    client = await client_of(settings_with())
    row = await first(client)
    assert list(row) == [*STANDARD, *SHOWN, "models"]
    assert {name: row[name] for name in SHOWN} == SHOWN
    chosen = await first(client, fields="output_cost_usd,is_anonymous")
    assert chosen == {"output_cost_usd": None, "is_anonymous": True}
    refused = await client.get(PATH, params={"fields": "prompt"})
    assert refused.status_code == 422
    assert "output_cost_usd" in refused.json()["detail"]
    plot = (await client.get(f"{PATH}/plot-data")).json()
    assert plot["recent_requests"] == plot["data"]["recent_requests"] == [row]


async def test_every_format_has_the_further_columns(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(KNOWN)
    cells = next(csv.DictReader(io.StringIO((await client.get(PATH, params={"format": "csv"})).text)))
    assert list(cells)[-4:] == list(SHOWN)
    assert (cells["is_anonymous"], cells["input_cost_usd"]) == ("true", "0.00012345")
    assert json.loads(cells["metadata"]) == SHOWN["metadata"]
    lines = (await client.get(PATH, params={"format": "ndjson"})).text.splitlines()
    assert {name: json.loads(lines[0])[name] for name in SHOWN} == SHOWN
    file = (await client.get(PATH, params={"format": "parquet"})).content
    table = pyarrow.parquet.read_table(io.BytesIO(file))
    types = {field.name: str(field.type) for field in table.schema}
    assert [types[name] for name in SHOWN] == ["string", "bool", "string", "double"]
    (row,) = table.to_pylist()
    assert {**row, "metadata": json.loads(row["metadata"])}.items() >= SHOWN.items()


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("prompt, metadata,prompt", ["prompt", "metadata"]),
        ("", []),
        ("*", [*OWN, *SHOWN, "prompt"]),
        ("prompt,*", ["prompt", *OWN, *SHOWN]),
        ("user_id,is_anonymous", ["is_anonymous"]),
    ],
)
async def test_the_setting_chooses_the_columns(
    client_of: OpenClient,
    settings_with: SettingsFactory,
    gateway: asyncpg.Connection,
    wanted: str,
    names: list[str],
) -> None:
    await gateway.execute(KNOWN)
    client = await client_of(settings_with(request_columns=wanted))
    assert list(await first(client)) == [*STANDARD, *names, "models"]
    document = (await client.get("http://test/openapi.json")).json()
    parameters = document["paths"]["/api/monitoring/chat-requests"]["get"]["parameters"]
    pattern = next(each["schema"]["pattern"] for each in parameters if each["name"] == "fields")
    assert all(f"|{name}" in pattern for name in names) or "*" in wanted


async def test_a_column_that_the_table_lacks_is_named(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(settings_with(request_columns="promt,id,region"))
    for query in ("", "?format=csv", "/plot-data"):
        response = await client.get(f"{PATH}{query}")
        assert response.status_code == 503
        assert response.json()["detail"] == (
            "CHAT_STATS_REQUEST_COLUMNS names columns that chat_completion_requests lacks, "
            "or that the service may not read: promt, region"
        )


async def test_a_column_that_is_dropped_later_is_noticed(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(KNOWN)
    assert "metadata" in await first(client)
    await gateway.execute("ALTER TABLE chat_completion_requests DROP metadata")
    assert (await client.get(PATH)).status_code == 503
    assert "metadata" not in await first(client)
    await gateway.execute("ALTER TABLE chat_completion_requests DROP is_anonymous")
    plot = f"{PATH}/plot-data"
    assert (await client.get(plot)).status_code == 503
    assert "is_anonymous" not in (await client.get(plot)).json()["data"]["recent_requests"][0]


TYPES = [
    ("smallint", "-7", -7, "int64"),
    ("real", "0.1", 0.1, "double"),
    ("real", "Infinity", None, "double"),
    ("double precision", "1.5e-7", 1.5e-7, "double"),
    ("numeric", "NaN", None, "double"),
    ("numeric", "1e400", None, "double"),
    ("numeric", "123456.789", 123456.789, "double"),
    ("money_of_gateway", "0.25", 0.25, "double"),
    ("json", '{"a":\n [1,\r\n 2]}', {"a": [1, 2]}, "string"),
    ("json", "null", None, "string"),
    ("json", '"\\ud800"', '"\\ud800"', "string"),
    ("jsonb", "[" * 2000 + "]" * 2000, "[" * 2000 + "]" * 2000, "string"),
    ("text[]", '{a,NULL,"b c"}', ["a", None, "b c"], "string"),
    ("int[]", "{{1,2},{3,4}}", [[1, 2], [3, 4]], "string"),
    ("date", "2026-03-01", "2026-03-01", "date32[day]"),
    ("date", "infinity", None, "date32[day]"),
    ("date", "0044-03-15 BC", None, "date32[day]"),
    ("timestamptz", "2026-03-01T12:00:00+01", "2026-03-01T11:00:00Z", "timestamp[us, tz=UTC]"),
    ("timestamp", "2026-03-01T12:00:00", "2026-03-01T12:00:00Z", "timestamp[us, tz=UTC]"),
    ("timestamptz", "-infinity", None, "timestamp[us, tz=UTC]"),
    ("char(5)", "ab", "ab", "string"),
    ("interval", "1 day", "1 day", "string"),
    ("inet", "10.0.0.1", "10.0.0.1", "string"),
    ("bytea", "\\x00ff", "\\x00ff", "string"),
    ("level", "high", "high", "string"),
    ("level[]", "{high,NULL}", "{high,NULL}", "string"),
    ("pair", "(1,)", "(1,)", "string"),
    ("bigint", None, None, "int64"),
    ("pair", None, None, "string"),
]


async def test_values_have_the_type_of_their_column(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(
        "CREATE TYPE level AS ENUM ('high'); CREATE DOMAIN money_of_gateway AS numeric CHECK (value >= 0);"
        "CREATE TYPE pair AS (a int, b text); DELETE FROM chat_completion_requests WHERE id <> 1"
    )
    for at, (type_, text, _, _) in enumerate(TYPES):
        literal = "NULL" if text is None else f"$text${text}$text$"
        await gateway.execute(
            f"ALTER TABLE chat_completion_requests ADD c{at} {type_};"
            f"UPDATE chat_completion_requests SET c{at} = {literal}::{type_}"
        )
    client = await client_of(settings_with(request_columns="*"))
    expected = {f"c{at}": value for at, (_, _, value, _) in enumerate(TYPES)}
    row = await first(client)
    assert {name: row[name] for name in expected} == expected
    lines = (await client.get(PATH, params={"format": "ndjson"})).text.splitlines()
    assert [json.loads(line) for line in lines] == [row]
    file = (await client.get(PATH, params={"format": "parquet"})).content
    types = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(io.BytesIO(file))}
    assert [types[name] for name in expected] == [type_ for _, _, _, type_ in TYPES]
    assert (await client.get(PATH, params={"format": "csv"})).status_code == 200


async def test_odd_names_of_columns_are_shown_and_never_run_or_hide_a_field(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    names = ['a"b', "{c}", "$1", "select", "Groß, und klein", "odd_moment", "*", "; DROP TABLE models; --"]
    for name in names:
        await gateway.execute(
            f"ALTER TABLE chat_completion_requests ADD {_quoted(name)} text DEFAULT 'further'"
        )
    await gateway.execute(
        "ALTER TABLE chat_completion_requests ADD provider_id text DEFAULT 'own', ADD models text,"
        "ADD total_tokens int"
    )
    client = await client_of(settings_with(request_columns="*"))
    row = await first(client)
    names.remove("*")
    assert list(row) == [*STANDARD, *OWN, *names, "models"]
    assert {row[name] for name in names} == {"further"}
    assert row["models"]["provider_id"] == 1
    ids = []
    cursor: str | None = None
    for _ in range(6):
        parameters = {} if cursor is None else {"cursor": cursor}
        page = (await client.get(PATH, params={"limit": 1, **parameters})).json()
        ids.append(page["data"][0]["id"])
        cursor = page["metadata"]["next_cursor"]
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]


async def test_a_column_that_the_role_may_not_read_is_left_out_or_named(
    client_of: OpenClient, as_reader: Any, gateway: asyncpg.Connection
) -> None:
    await gateway.execute(KNOWN)
    role = httpx.URL(as_reader.database_url.get_secret_value()).username
    columns = ", ".join(name for name in STANDARD if name != "total_tokens")
    await gateway.execute(
        f"REVOKE SELECT ON chat_completion_requests FROM {role}; GRANT SELECT "
        f"({columns}, is_anonymous) ON chat_completion_requests TO {role}"
    )
    for wanted in (None, ("*",)):
        client = await client_of(as_reader.model_copy(update={"request_columns": wanted}))
        assert list(await first(client)) == [*STANDARD, "is_anonymous", "models"]
    client = await client_of(as_reader.model_copy(update={"request_columns": ("metadata",)}))
    assert "may not read: metadata" in (await client.get(PATH)).json()["detail"]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
