"""`/chat-requests` in its formats: fields, CSV, NDJSON, Parquet."""

import csv
import io
import json
from datetime import timedelta

import httpx
import pyarrow.parquet
import pytest

from chat_stats.service.explorer.exports import _cell
from tests.integration.requests_log import ALL, NOON, PATH, get, refused


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
    assert parameter == "format"
    assert "chat-stats[parquet]" in detail
    assert "CHAT_STATS_EXTRAS=parquet" in detail
    assert "pip" not in detail, "a container has none"


async def test_an_accept_that_allows_nothing_is_406(reader: httpx.AsyncClient) -> None:
    response = await reader.get(PATH, headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert response.headers["content-type"] == "application/problem+json"
