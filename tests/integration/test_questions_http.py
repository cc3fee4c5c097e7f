"""Questions by any dimension over HTTP: cached, revalidated, checked, and as downloads."""

import asyncio
import io
from urllib.parse import parse_qsl

import asyncpg
import httpx
import orjson
import pyarrow.parquet
import pytest

from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.catalogue.question_schemas import dimensions_answer, query_answer
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient, OpenFlow

DIMENSIONS = "user_id, team=tags->>team"
QUERY = "chat-requests/query"


@pytest.fixture
async def labelled(gateway: asyncpg.Connection) -> asyncpg.Connection:
    """The gateway with users, and teams in a json column."""
    await gateway.execute("""
        ALTER TABLE chat_completion_requests ADD COLUMN tags json;
        UPDATE chat_completion_requests SET user_id = 'u' || model_id WHERE model_id < 3;
        UPDATE chat_completion_requests SET tags = '{"team": "=cmd()"}' WHERE model_id = 2;
        UPDATE chat_completion_requests SET error_message = 'HTTP 429' WHERE status = 'failed';
    """)
    return gateway


@pytest.fixture
async def asked(
    labelled: asyncpg.Connection, client_of: OpenClient, settings_with: SettingsFactory
) -> httpx.AsyncClient:
    return await client_of(settings_with(dimensions=DIMENSIONS))


async def test_an_answer_is_as_the_document_says(asked: httpx.AsyncClient) -> None:
    known = Settings(database_url="postgresql://x/x", dimensions=DIMENSIONS, _env_file=None).known_dimensions
    for text in ("", "group_by=model_id,user_id,error_kind&bucket=1d&window=7d&compare=previous&measures="):
        response = await asked.get(QUERY, params=dict(parse_qsl(text)))
        assert response.status_code == 200, response.text
        query_answer(known).model_validate_json(response.content)
    for text in ("", "name=user_id&prefix=u", "name=model_id"):
        response = await asked.get("chat-requests/dimensions", params=dict(parse_qsl(text)))
        assert response.status_code == 200, response.text
        dimensions_answer().model_validate_json(response.content)


async def test_a_question_is_computed_once_and_then_a_hit_however_it_is_written(
    asked: httpx.AsyncClient,
) -> None:
    first = await asked.get(
        f"{QUERY}?group_by=status&measures=total_tokens,total_requests&user_id=u1&user_id=u2"
    )
    again = await asked.get(
        f"{QUERY}?user_id=u2&user_id=u1&measures=total_requests,total_tokens&group_by=status"
    )
    assert (first.json()["metadata"]["cache"], again.json()["metadata"]["cache"]) == ("miss", "hit")
    assert again.json()["data"] == first.json()["data"]
    assert again.json()["data"] == [
        {"status": "completed", "total_requests": 4, "total_tokens": 38},
        {"status": "failed", "total_requests": 1, "total_tokens": 33},
    ]
    assert again.json()["metadata"]["method"] == "query"
    assert again.headers["etag"] == first.headers["etag"]
    unchanged = await asked.get(str(first.url), headers={"If-None-Match": first.headers["etag"]})
    assert unchanged.status_code == 304


async def test_a_change_of_the_others_alone_is_another_etag(
    asked: httpx.AsyncClient,
    labelled: asyncpg.Connection,
    client_of: OpenClient,
    settings_with: SettingsFactory,
) -> None:
    target = f"{QUERY}?group_by=user_id&limit=1&measures=total_requests"
    before = await asked.get(target)
    await labelled.execute("INSERT INTO chat_completion_requests (user_id) VALUES ('u9')")
    other = await client_of(settings_with(dimensions=DIMENSIONS))
    after = await other.get(target, headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.json()["data"] == before.json()["data"]
    assert after.json()["metadata"]["others"] == {"total_requests": 4}


async def test_a_thousand_concurrent_requests_make_one_computation(
    asked: httpx.AsyncClient, labelled: asyncpg.Connection
) -> None:
    responses = await asyncio.gather(*(asked.get(f"{QUERY}?group_by=team,user_id") for _ in range(1000)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.json()["metadata"]["computed_at"] for response in responses}) == 1


async def test_the_fast_path_answers_a_question_that_it_knows(
    labelled: asyncpg.Connection, client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(dimensions=DIMENSIONS, local_cache_seconds=60))
    target = f"{QUERY}?group_by=user_id&measures=total_requests&" + "&".join(
        f"user_id={'x' * 60}{number}" for number in range(8)
    )
    await client.get(target)
    services = client._transport.app.state.services  # type: ignore[attr-defined]
    assert any(b"group_by=user_id" in query for _, query, _ in services.fast_path._targets)
    assert (await client.get(target)).json()["metadata"]["cache"] == "hit"


REFUSED = [
    ("measures=total_requests,latency", "measures", "p95_processing_time_ms"),
    ("measures=", "measures", "total_requests"),
    ("group_by=user", "group_by", "user_id"),
    ("group_by=status,status", "group_by", "twice"),
    ("group_by=status,user_id,team,model_id", "group_by", "the limit is 3"),
    ("order_by=-team", "order_by", "not in group_by"),
    ("order_by=price", "order_by", "total_cost_usd"),
    ("limit=0", "limit", "from 1 to 10000"),
    ("limit=10001", "limit", "from 1 to 10000"),
    ("limit=1&limit=2", "limit", "once"),
    ("usr_id=1", "usr_id", "user_id"),
    ("usr_id!=1", "usr_id!", "not_user_id"),
    ("model_id=x", "model_id", "unresolved"),
    ("model_id!=__null__", "model_id!", "unresolved"),
    ("user_id=%00", "user_id", "NUL"),
    ("not_user_id=%00", "not_user_id", "NUL"),
    ("user_id=" + "x" * 501, "user_id", "500"),
    ("&".join(f"user_id={number}" for number in range(101)), "user_id", "100"),
    ("bucket=2d", "bucket", "15m"),
    ("timezone=UTC", "timezone", "bucket"),
    ("bucket=1d&timezone=Mars/Base", "timezone", "Europe/Berlin"),
    ("bucket=15m&start_date=2020-01-01", "bucket", "too many"),
    ("compare=previous", "compare", "start"),
    ("compare=lately&window=7d", "compare", "previous"),
    ("compare=0001-01-01&start_date=9000-01-01", "compare", ""),
    ("start_date=0001-01-02&end_date=2026-01-01&compare=previous", "compare", "calendar"),
    ("cursor=abc", "cursor", "next_cursor"),
    ("format=xml", "format", "ndjson"),
    ("window=1y", "window", "365d"),
]


@pytest.mark.parametrize(("text", "parameter", "hint"), REFUSED, ids=lambda value: str(value)[:40])
async def test_what_cannot_be_asked_is_refused_by_name_with_what_is_known(
    asked: httpx.AsyncClient, text: str, parameter: str, hint: str
) -> None:
    response = await asked.get(f"{QUERY}?{text}")
    if hint == "" and response.status_code == 200:
        return  # a range of that length fits
    assert (response.status_code, response.json()["parameter"]) == (422, parameter), response.text
    assert hint in response.json()["detail"]


async def test_too_many_points_are_refused(asked: httpx.AsyncClient, labelled: asyncpg.Connection) -> None:
    await labelled.execute(
        "INSERT INTO chat_completion_requests (user_id, created_at) "
        "SELECT 'p' || g, now() FROM generate_series(1, 100) AS g"
    )
    response = await asked.get(f"{QUERY}?group_by=user_id&bucket=1h&window=30d&limit=100")
    assert (response.status_code, response.json()["parameter"]) == (422, "limit")
    assert "20,000" in response.json()["detail"]
    fewer = await asked.get(f"{QUERY}?group_by=user_id&bucket=1h&window=30d&limit=20")
    assert fewer.status_code == 200


async def test_a_lone_underscore_is_let_through(asked: httpx.AsyncClient) -> None:
    assert (await asked.get(f"{QUERY}?_=1&_=2")).status_code == 200


async def test_pages_of_a_window_go_on_where_the_last_one_ended(asked: httpx.AsyncClient) -> None:
    target = f"{QUERY}?group_by=model_id&limit=1&window=7d&measures=total_requests"
    seen = []
    cursor = ""
    while cursor is not None:
        response = await asked.get(target + (f"&cursor={cursor}" if cursor else ""))
        body = response.json()
        seen += [row["model_id"] for row in body["data"]]
        assert body["metadata"]["window"] == "7d"
        assert body["metadata"]["others"]["total_requests"] + body["data"][0]["total_requests"] == 5
        cursor = body["metadata"]["next_cursor"]
    assert seen == [1, 2]
    page = await asked.get(target)
    other = await asked.get(
        f"{QUERY}?group_by=model_id&limit=2&window=7d&cursor={page.json()['metadata']['next_cursor']}"
    )
    assert other.json()["parameter"] == "cursor"


async def test_downloads_hold_the_rows_flat(asked: httpx.AsyncClient) -> None:
    target = f"{QUERY}?group_by=team,model_id&measures=total_requests,avg_cost_usd&window=7d&compare=previous"
    target += "&format="
    as_csv = await asked.get(target + "csv")
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert as_csv.text.splitlines() == [
        "team,model_id,model_name,total_requests,avg_cost_usd,previous_total_requests,previous_avg_cost_usd,"
        "change_total_requests,change_avg_cost_usd",
        ",1,Alpha,3,0.25,0,0.0,,",
        "'=cmd(),2,Beta,2,0.0,0,0.0,,",
    ]
    as_ndjson = await asked.get(target + "ndjson")
    lines = [orjson.loads(line) for line in as_ndjson.text.splitlines()]
    assert [(line["team"], line["total_requests"]) for line in lines] == [(None, 3), ("=cmd()", 2)]
    as_parquet = await asked.get(target + "parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(as_parquet.content))
    assert table.column("total_requests").to_pylist() == [3, 2]
    assert str(table.schema.field("avg_cost_usd").type) == "double"
    assert "parquet" in as_parquet.headers["content-disposition"]
    assert as_parquet.headers["cache-status"].startswith("chat-stats; hit")


async def test_a_download_of_a_series_has_moments(asked: httpx.AsyncClient) -> None:
    target = f"{QUERY}?bucket=1d&start_date=2020-01-01&end_date=2020-01-01&timezone=Europe/Berlin&format="
    as_csv = await asked.get(target + "csv")
    assert as_csv.text.splitlines()[1].startswith("2020-01-01T00:00:00+01:00,1,0,15,10.0,1.0")
    as_parquet = await asked.get(target + "parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(as_parquet.content))
    assert str(table.schema.field("bucket_start").type) == "timestamp[us, tz=UTC]"


async def test_the_dimensions_say_what_they_are(asked: httpx.AsyncClient) -> None:
    response = await asked.get("chat-requests/dimensions")
    assert response.json()["data"] == [
        {"name": "provider_id", "type": "bigint", "rollups": [], "trouble": None},
        {"name": "model_id", "type": "bigint", "rollups": [], "trouble": None},
        {"name": "status", "type": "text", "rollups": [], "trouble": None},
        {"name": "error_kind", "type": "text", "rollups": [], "trouble": None},
        {"name": "user_id", "type": "text", "rollups": [], "trouble": None},
        {"name": "team", "type": "text", "rollups": [], "trouble": None},
    ]


@pytest.mark.parametrize(
    ("text", "parameter"),
    [("prefix=u", "prefix"), ("name=usr", "name"), ("name=user_id&limit=0", "limit"), ("nme=user_id", "nme")],
)
async def test_values_that_cannot_be_asked_for_are_refused_by_name(
    asked: httpx.AsyncClient, text: str, parameter: str
) -> None:
    response = await asked.get(f"chat-requests/dimensions?{text}")
    assert (response.status_code, response.json()["parameter"]) == (422, parameter)


@pytest.mark.parametrize(
    ("dimension", "complaint"),
    [
        ("tenant", "chat_completion_requests has no column tenant"),
        ("tags", "the column tags is json: name a key, as in team=tags->>team"),
        ("team=user_id->>team", "the column user_id is text, not json or jsonb"),
        ("at=created_at", "the column created_at is timestamp with time zone, which cannot be grouped by"),
    ],
)
async def test_a_dimension_that_the_requests_lack_is_named_and_the_others_go_on(
    labelled: asyncpg.Connection,
    client_of: OpenClient,
    settings_with: SettingsFactory,
    dimension: str,
    complaint: str,
) -> None:
    client = await client_of(settings_with(dimensions=f"user_id, {dimension}"))
    name = dimension.partition("=")[0]
    response = await client.get(f"{QUERY}?group_by={name}")
    assert response.status_code == 503
    assert response.json()["detail"] == f"CHAT_STATS_DIMENSIONS, {dimension}: {complaint}"
    assert (await client.get(f"{QUERY}?group_by=user_id")).status_code == 200
    listed = {row["name"]: row for row in (await client.get("chat-requests/dimensions")).json()["data"]}
    assert (listed[name]["type"], listed[name]["trouble"]) == (None, complaint)
    assert listed["user_id"]["trouble"] is None


async def test_costs_are_named_as_unavailable_where_requests_have_none(
    asked: httpx.AsyncClient, labelled: asyncpg.Connection
) -> None:
    await labelled.execute("ALTER TABLE chat_completion_requests DROP COLUMN cost_usd")
    body = (await asked.get(f"{QUERY}?measures=total_requests,total_cost_usd,avg_cost_usd")).json()
    assert body["data"] == [{"total_requests": 6, "total_cost_usd": 0.0, "avg_cost_usd": 0.0}]
    assert body["metadata"]["unavailable"] == ["total_cost_usd", "avg_cost_usd"]


async def test_errors_have_a_kind_where_requests_have_no_message(
    asked: httpx.AsyncClient, labelled: asyncpg.Connection
) -> None:
    await labelled.execute("ALTER TABLE chat_completion_requests DROP COLUMN error_message")
    body = (await asked.get(f"{QUERY}?group_by=error_kind&measures=failed_requests")).json()
    assert body["data"] == [
        {"error_kind": None, "failed_requests": 0},
        {"error_kind": "other", "failed_requests": 1},
    ]


async def test_the_settings_say_what_makes_a_kind_of_error(
    labelled: asyncpg.Connection, client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(error_kinds="too_fast = 429|slow down%; odd=x"))
    body = (await client.get(f"{QUERY}?group_by=error_kind&error_kind!=__null__")).json()
    assert [row["error_kind"] for row in body["data"]] == ["too_fast"]


async def test_questions_of_the_settings_are_kept_computed(
    labelled: asyncpg.Connection, another_flow: OpenFlow, settings_with: SettingsFactory
) -> None:
    settings = settings_with(
        dimensions=DIMENSIONS, windows="24h", queries="?group_by=user_id&window=7d group_by=team"
    )
    flow = await another_flow(settings)
    report = await flow.refresh()
    assert [result.error for result in report.results if result.aggregation == "query"] == [None, None]
    for text in ("group_by=user_id&window=7d", "group_by=team"):
        query = parse_question(parse_qsl(text), settings.known_dimensions)
        answer = await flow.stats.read(query)
        assert (answer.state, answer.entry.generation) == ("hit", report.generation)


async def test_what_a_question_may_not_see_is_an_outage_and_not_a_small_number(
    as_reader: Settings, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(as_reader)
    assert (await client.get(QUERY)).status_code == 200
    await gateway.execute(
        "ALTER TABLE chat_completion_requests ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY mine ON chat_completion_requests USING (user_id = current_user)"
    )
    response = await client.get(f"{QUERY}?group_by=status")
    assert response.status_code == 503
    assert "row level security" in response.json()["detail"]


async def test_computations_for_one_client_are_limited(
    labelled: asyncpg.Connection, client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(rate_limit_misses="1/hour"))
    assert (await client.get(f"{QUERY}?limit=1")).status_code == 200
    assert (await client.get(f"{QUERY}?limit=2")).status_code == 429
    assert (await client.get(f"{QUERY}?limit=1")).status_code == 200


async def test_a_key_is_needed_where_keys_are_set(
    labelled: asyncpg.Connection, client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(api_keys="secret"))
    for path in (QUERY, "chat-requests/dimensions"):
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers={"X-API-Key": "secret"})).status_code == 200
